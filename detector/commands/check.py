"""`ledgate check`: is a calibration's promise still kept, and have the clean scores moved?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.running import add_running

if TYPE_CHECKING:
    from detector.bundle import Bundle
    from detector.check import Check
    from detector.scorefile import Scores
    from detector.source import ImageSource

BROKEN = 3
"""Exit status where a promise is broken; the usage tells it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.epilog = (
        "Exit status: 3 where a promise is broken with the stated confidence, else 0, also where there are too few "
        "images to tell or the scores have moved: both are said."
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="a calibrated bundle's folder")
    today = parser.add_mutually_exclusive_group(required=True)
    today.add_argument("--clean", type=Path, metavar="PATH",
                       help="clean images of today: an .npz, a folder of PNG and JPEG files, or their scores alone "
                       "as .npz, .csv or .jsonl")  # fmt: skip
    today.add_argument("--scores", type=Path, metavar="FILE",
                       help="scores of live traffic, which may hold attacks: the log of "
                       "ledgate serve --score-log")  # fmt: skip
    add("--adversarial", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
        help="attacked images of today, one .npz or folder for each attack")  # fmt: skip
    add("--ood", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
        help="images of other kinds, for which no class is right, one .npz or folder for each")  # fmt: skip
    add("--shifts", action="store_true",
        help="flag mildly changed clean images too: noise, blur, brightness, JPEG, rotation; what --changed-fpr "
        "promised of them is tested")  # fmt: skip
    add("--delta", type=float, default=0.05, metavar="SHARE",
        help="probability that a promise that is kept is called broken")  # fmt: skip
    add("--save-scores", type=Path, metavar="FILE.npz",
        help="write today's scores there; interrupted, the same command goes on where it was")  # fmt: skip
    add_running(parser)
    add("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    """Checks; 3 where a promise is broken."""
    from detector.bundle import Bundle
    from detector.check import check
    from detector.inputs import digest, named_images

    bundle = Bundle.open(options.bundle)
    path = options.scores or options.clean
    found = check(
        options.bundle,
        clean=_today(options, bundle),
        adversarial=named_images(options.adversarial, bundle),
        foreign=named_images(options.ood, bundle),
        shifts=options.shifts,
        delta=options.delta,
        device=options.device,
        precision=options.precision,
        save_scores=options.save_scores,
        work=None if options.save_scores is None else {"sha256": digest(path)},
    )
    print(found.model_dump_json() if options.json else _text(options.bundle, path, found))
    return BROKEN if found.broken else 0


def _today(options: argparse.Namespace, bundle: "Bundle") -> "ImageSource | Scores":
    """Today's images, or their scores."""
    import sys
    from dataclasses import replace

    from detector.check import origin_of
    from detector.inputs import open_images
    from detector.scorefile import Scores, holds_scores

    if options.scores is not None:
        return replace(Scores.load(options.scores, origin_of(bundle)), live=True)
    if not options.clean.is_dir() and holds_scores(options.clean):
        found = Scores.load(options.clean, origin_of(bundle))
        if found.live:
            print(
                f"warning: {options.clean}: scores of live traffic, named as clean and taken for it; it may hold "
                "attacks, see --scores",
                file=sys.stderr,
            )
        return replace(found, live=False)
    return open_images(options.clean, bundle)


def _text(bundle: Path, path: Path, found: "Check") -> str:
    """The findings, for a person."""
    lines = [
        f"{bundle}: calibration {found.calibration_digest[:16]}, score {found.score}, lower is more suspicious",
        f"today     {found.movement.now} {'live scores' if found.live else 'clean images'} of {path}{_aside(found)}",
        f"flagged   {found.flagged} today; {found.then} when calibrated",
        *_promise(found),
        f"scores    {_movement(found)}",
    ]
    if found.accuracy is not None:
        lines.append(f"accuracy  {found.accuracy} of today's images are classified right")
    if found.live:
        lines.append("live traffic may hold attacks: a larger share flagged can be more attacks, or more false alarms")
    others = _others(found)
    return "\n".join([*lines, *(["", others] if others else [])])


def _aside(found: "Check") -> str:
    """What did not count, in brackets."""
    asides = [
        f"{count} {what}"
        for count, what in (
            (found.repeats, "repeats of a source not counted"),
            (found.skipped, "scores of other bundles or calibrations passed over"),
            (found.dropped, "scores the server could not write"),
        )
        if count
    ]
    return f" ({'; '.join(asides)})" if asides else ""


def _promise(found: "Check") -> list[str]:
    """What was promised and what is found; of many classes, those with the worst finding."""
    what = "promised" if found.promised else "measured, not promised"
    shown = [one for one in found.keepings if one.finding is found.finding]
    lines = [f"finding   {found.finding.upper()}: {found.finding.meaning}"]
    if not found.promised:
        lines.append("          the target promises nothing that these images can break; compared is the most that the")
        lines.append("          calibration measured, the upper end of its interval")
    for one in shown[:10]:
        share, sure = one.share, f"{100 * (1 - one.delta):.4g} %"
        lines += [
            f"          {one.subject}: at most {100 * one.bound:.3g} % {what}; found {share.count} of {share.n},",
            f"          so at least {100 * one.low:.3g} % with {sure} confidence, and as surely at most "
            f"{100 * one.high:.3g} %",
        ]
        if one.share.n < one.enough:
            lines.append(f"          to notice twice that share as surely takes about {one.enough} images")
    if len(shown) > 10:
        lines.append(f"          and {len(shown) - 10} more of {len(found.keepings)}")
    return lines


def _movement(found: "Check") -> str:
    """Whether the scores have moved."""
    moved = found.movement
    test = f"Kolmogorov-Smirnov {'exact' if moved.exact else 'in the limit'} p = {moved.p_value:.3g}"
    said = f"HAVE MOVED, {moved.direction}" if moved.moved else "are not shown to have moved"
    size = f"AUC of today's against the {moved.then} of the calibration {moved.auc}"
    return f"{said}\n          {test}; {size}"


def _others(found: "Check") -> str:
    """Other images as a table."""
    from detector import markdown

    kinds = (("attacked", found.attacks), ("changed", found.changed), ("other kind", found.foreign))
    rows = [
        (kind, seen.name, str(seen.flagged.n), str(seen.flagged), str(seen.auc or ""), str(seen.then or ""))
        for kind, group in kinds
        for seen in group
    ]
    if not rows:
        return ""
    head = ("images", "name", "n", "flagged (95 % interval)", "AUC against today's clean", "flagged when calibrated")
    return markdown.table([head, *rows])
