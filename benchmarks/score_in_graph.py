"""The score as part of the members' graph, or from their logits in numpy: what is faster, and what moves the score.

    python -m benchmarks.score_in_graph --out score_in_graph.json

One merged graph of all members that ends with log diversity (Eq. 3), in float32, since ONNX Runtime has no determinant
of float64 on the CPU; beside a session for each member and `ledgate.log_diversity`, in float64. Judged by CPU time on
one thread. Scores are compared on all images that come with ledgate, clean and attacked: of the members as they are,
and of members that are surer of themselves, all logits times `SURER`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.ending import run
from benchmarks.timing import side_by_side
from benchmarks.ways import merged
from detector.bundle import Bundle
from detector.device import CPU, Device
from detector.diversity import log_diversity
from detector.ensemble import Ensemble
from detector.imageset import as_floats
from detector.precision import Precision
from detector.provenance import provenance
from detector.session import Sessions
from detector.shipped import shipped_bundle, shipped_images
from detector.tuning import Tuning

BATCHES: Final = (1, 8, 64)
SURER: Final = 10.0
_SCORE: Final = "score"


def with_logits(bundle: Bundle) -> onnx.ModelProto:
    """The merged graph, whose only output is all logits (N, K, L)."""
    model = onnx.load_from_string(merged([bytes(member) for member in bundle.members], bundle.input.name))
    graph = model.graph
    names = [output.name for output in graph.output]
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.int64), "member_axis"))
    graph.node.extend([
        *(helper.make_node("Unsqueeze", [name, "member_axis"], [f"own{k}"]) for k, name in enumerate(names)),
        helper.make_node("Concat", [f"own{k}" for k in range(len(names))], ["logits"], axis=1),
    ])  # fmt: skip
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, None, None]))
    return model


def with_score(bundle: Bundle, factor: float = 1.0) -> onnx.ModelProto:
    """The same, whose only output is log diversity (N,), float32, of the logits times a factor."""
    model = with_logits(bundle)
    graph = model.graph
    del graph.output[:]
    constants: dict[str, NDArray[Any]] = {
        "label_axis": np.array([2], np.int64), "on_off": np.array([0, 1], np.float32),
        "classes": np.array(bundle.class_count, np.int64), "unit": np.ones(1, np.float32),
        "factor": np.array([factor], np.float32),
    }  # fmt: skip
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    node = helper.make_node
    graph.node.extend([
        node("Mul", ["logits", "factor"], ["scaled"]),
        node("Softmax", ["scaled"], ["probabilities"], axis=2),
        node("ReduceSum", ["probabilities", "member_axis"], ["sum"], keepdims=1),
        node("ArgMax", ["sum"], ["label"], axis=2, keepdims=0),
        node("OneHot", ["label", "classes", "on_off"], ["hot"], axis=-1),
        # Without the predicted class, Eq. (2): at zero it counts neither in a length nor in a product.
        node("Sub", ["unit", "hot"], ["others"]),
        node("Mul", ["probabilities", "others"], ["rest"]),
        node("Mul", ["rest", "rest"], ["squares"]),
        node("ReduceSum", ["squares", "label_axis"], ["square"], keepdims=1),
        node("Sqrt", ["square"], ["length"]),
        node("Div", ["rest", "length"], ["direction"]),
        node("Transpose", ["direction"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["direction", "turned"], ["gram"]),
        node("Det", ["gram"], ["diversity"]),
        node("Log", ["diversity"], [_SCORE]),
    ])  # fmt: skip
    graph.output.append(helper.make_tensor_value_info(_SCORE, TensorProto.FLOAT, [None]))
    return model


def shifts(found: NDArray[np.float32], expected: NDArray[np.float64]) -> dict[str, float]:
    """How far float32 lies from float64, over images."""
    numbers = np.isfinite(found)
    moved = np.abs(found[numbers] - expected[numbers])
    return {
        "images": len(found),
        "no_numbers": int(np.sum(~numbers)),
        "largest": float(moved.max()),
        "median": float(np.median(moved)),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Times both, and compares their scores."""
    bundle = Bundle.open(options.bundle)
    sessions = Sessions(device=Device(provider=CPU), precision=Precision.FLOAT32, threads=1, tuning=Tuning())
    models = [with_score(bundle), with_score(bundle, SURER), with_logits(bundle)]
    graph, surer, plain = sessions.open([model.SerializeToString() for model in models])
    members = Ensemble(bundle.members, device="cpu", threads=1)
    clean, attacked = shipped_images()
    images = as_floats(np.concatenate([clean.images, *(one.images for one in attacked.values())]))
    rows = {}
    for count in BATCHES:
        batch = images[:count]
        works = {
            "members, score in numpy": lambda b=batch: log_diversity(members.logits(b)),
            "one graph, score in numpy": lambda b=batch: log_diversity(plain(b)),
            "one graph, score in it": lambda b=batch: graph(b),
        }
        times = side_by_side(works, repeats=options.repeats, calls=options.calls, device=torch.device("cpu"))
        rows[count] = {name: 1e3 * median(each.cpu) for name, each in times.items()}
    every = images[: options.images]
    logits = members.logits(every).astype(np.float64)
    return {
        "judged_by": "CPU time of the process, median over the rounds",
        "settings": {name: getattr(options, name) for name in ("repeats", "calls", "images")},
        "cpu_ms": rows,
        "score": {
            "as they are": shifts(graph(every), log_diversity(logits)),
            f"logits times {SURER:g}": shifts(surer(every), log_diversity(SURER * logits)),
        },
        "provenance": provenance("onnxruntime-gpu", "onnxruntime"),
    }


def table(found: dict[str, Any]) -> str:
    """The medians and the shift, for people; Markdown."""
    rows = found["cpu_ms"]
    lines = ["| CPU ms of a batch | " + " | ".join(map(str, rows)) + " |", "|---" * (len(rows) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{row[name]:.3f}" for row in rows.values()) + " |" for name in rows[1]]
    lines += [
        "",
        "| score in the graph, float32 | images | no number | shift, median | largest |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| members {name} | {one['images']} | {one['no_numbers']} | {one['median']:.2g} | {one['largest']:.2g} |"
        for name, one in found["score"].items()
    ]
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.score_in_graph",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, default=shipped_bundle(), help="(default: the one that comes with ledgate)")
    add("--repeats", type=int, default=9, metavar="N", help="rounds (default: 9)")
    add("--calls", type=int, default=20, metavar="N", help="of a way in a round (default: 20)")
    add("--images", type=int, metavar="N", help="to compare scores on (default: all)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
