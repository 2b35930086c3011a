"""`ledgate alpha`: Eq. (7) both ways, to choose alpha, or to know what confidence to expect."""

import argparse
import json

from training.optimum import Optimum, alpha_for, divides, optimum_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add = parser.add_argument
    add("--members", type=int, required=True, metavar="K", help="networks in the ensemble, 2 to one less than classes")
    add("--classes", type=int, required=True, metavar="L", help="classes of the data set")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--smoothing", type=float, metavar="S",
        help="print the alpha that acts like label smoothing by S, which leaves the true class 1 - S; "
        "from 0 to below (L - 1) / L")  # fmt: skip
    given.add_argument("--alpha", type=float, metavar="A",
        help="print the confidence in the true class that training with A aims at, Eq. (7); at least 0")  # fmt: skip
    add("--json", action="store_true", help="print everything as JSON, with all digits")


def run(options: argparse.Namespace) -> int:
    """Prints alpha or the confidence, and what it means."""
    counts = {"members": options.members, "classes": options.classes}
    if options.alpha is None:
        alpha = alpha_for(options.smoothing, **counts)
        optimum = Optimum(confidence=1 - options.smoothing, smoothing=options.smoothing)
    else:
        alpha, optimum = options.alpha, optimum_of(options.alpha, **counts)
    shared = divides(**counts)
    if options.json:
        result = {**counts, "alpha": alpha, "confidence": optimum.confidence, "smoothing": optimum.smoothing}
        print(json.dumps({**result, "members_divide_other_classes": shared}))
        return 0
    print(f"{alpha if options.alpha is None else optimum.confidence:.3g}")
    print(f"With alpha {alpha:.6g} training aims at a confidence of {optimum.confidence:.6g} in the true class, "
          f"as label smoothing by {optimum.smoothing:.6g} does.")  # fmt: skip
    others = options.classes - 1
    if shared:
        print(f"{options.members} members divide {others} other classes evenly, so that this holds with beta above 0 "
              "too, and then the members' rest is orthogonal (Corollary 1).")  # fmt: skip
    else:
        print(f"{options.members} members do not divide {others} other classes evenly, so that with beta above 0 this "
              "holds about, and better the more classes there are; the paper found that ADP works then too "
              "(Section 4.6).")  # fmt: skip
    return 0
