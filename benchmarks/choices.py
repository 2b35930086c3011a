"""What each device and precision does to speed and to the score: side by side, on the bundle that comes with ledgate.

    python -m benchmarks.choices --devices cpu cuda tensorrt --out choices.json

Scores are compared with those of the CPU in float32 on all images that come with ledgate, clean and attacked: the
largest shift, the median one, and the flags that turn at the bundle's threshold. Whether the bundle's calibration would
hold is for its probes to say, as when a server opens it. Times are of the members alone, on the clock.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.ending import finish
from benchmarks.timing import Work, side_by_side
from detector.bundle import Bundle
from detector.detector import Detector
from detector.errors import CalibrationError
from detector.imageset import Images, as_floats
from detector.precision import Precision
from detector.provenance import provenance
from detector.shipped import shipped_bundle, shipped_images
from detector.tuning import Tuning
from detector.verdicts import Verdicts

BATCHES: Final = (1, 8, 32, 64, 256)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to run the members."""

    device: str
    precision: Precision = Precision.FLOAT32
    cuda_graphs: bool = False
    pinned_memory: bool = False

    def __str__(self) -> str:
        more = {"graphs": self.cuda_graphs, "pinned memory": self.pinned_memory}
        return ", ".join([f"{self.device} {self.precision}", *(name for name, chosen in more.items() if chosen)])

    def open(self, bundle: Bundle) -> Detector:
        """The bundle, whether its calibration holds or not."""
        tuning = Tuning(cuda_graphs=self.cuda_graphs, pinned_memory=self.pinned_memory, max_batch=max(BATCHES))
        return Detector(replace(bundle, probes=None), device=self.device, precision=self.precision, tuning=tuning)


def choices(device: str) -> list[Choice]:
    """What a device offers."""
    kind = device.partition(":")[0]
    precisions = list(Precision) if kind == "tensorrt" else [Precision.FLOAT32, Precision.FLOAT16]
    found = [Choice(device=device, precision=precision) for precision in precisions]
    if kind == "cuda":
        found.append(Choice(device=device, cuda_graphs=True))
    if kind != "cpu":
        found.append(Choice(device=device, pinned_memory=True))
    return found


def shift(bundle: Bundle, detector: Detector, images: Images, expected: Verdicts) -> dict[str, Any]:
    """How far the scores lie from those expected, and what the probes say."""
    assert bundle.probes is not None
    assert bundle.calibration is not None
    found = detector.classify(images)
    assert found.score is not None
    assert expected.score is not None
    moved = np.abs(found.score - expected.score)
    try:
        holds, probes = True, str(bundle.probes.check(detector, bundle.calibration))
    except CalibrationError as error:
        holds, probes = False, str(error)
    return {
        "images": len(images),
        "score_largest": float(moved.max()),
        "score_median": float(np.median(moved)),
        "flags_turned": int(np.sum(found.adversarial != expected.adversarial)),
        "classes_changed": int(np.sum(found.labels != expected.labels)),
        "calibration_holds": holds,
        "probes": probes,
    }


def milliseconds(works: dict[str, Work], rounds: int, calls: int) -> dict[str, list[float]]:
    """Of a call of each, in turns: one figure for each round. ONNX Runtime waits for a GPU itself."""
    times = side_by_side(works, repeats=rounds, calls=calls, device=torch.device("cpu"))
    return {name: [1e3 * wall for wall in each.wall] for name, each in times.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Opens every choice, compares its scores, and times it."""
    bundle = Bundle.open(options.bundle or shipped_bundle())
    clean, attacked = shipped_images()
    every = np.concatenate([clean.images, *(one.images for one in attacked.values())])[: 20 if options.quick else None]
    expected = Choice(device="cpu").open(bundle).classify(every)
    rounds, calls, batches = (1, 1, BATCHES[:2]) if options.quick else (options.rounds, options.calls, BATCHES)
    images: NDArray[np.float32] = np.resize(as_floats(clean.images), (max(batches), *bundle.input.shape))
    rows = []
    opened = {choice: choice.open(bundle) for device in options.devices for choice in choices(device)}
    times = {
        count: milliseconds(
            {str(choice): (lambda d=detector, n=count: d.logits(images[:n])) for choice, detector in opened.items()},  # type: ignore[misc]
            rounds, calls,
        )
        for count in batches
    }  # fmt: skip
    for choice, detector in opened.items():
        path = detector.execution_path.model_dump()
        mine = {count: times[count][str(choice)] for count in batches}
        row = {"choice": asdict(choice), "name": str(choice), "execution_path": path, "ms": mine}
        rows.append({**row, **shift(bundle, detector, every, expected)})
    return {"rounds": rounds, "calls": calls, "choices": rows, "provenance": provenance()}


def table(found: dict[str, Any]) -> str:
    """The medians as Markdown."""
    rows = found["choices"]
    batches = list(rows[0]["ms"])
    head = ["choice", "score, largest shift", "median", "flags turned", "calibration", *(f"{n}: ms" for n in batches)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        shifts = [f"{row['score_largest']:.2g}", f"{row['score_median']:.2g}", f"{row['flags_turned']}/{row['images']}"]
        times = [f"{median(row['ms'][count]):.2f}" for count in batches]
        holds = "holds" if row["calibration_holds"] else "refused"
        lines.append(f"| {' | '.join([row['name'], *shifts, holds, *times])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description="compare devices and precisions: shift of the score, and speed")
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="cpu (default), cuda, tensorrt; cuda:1 and so on")
    parser.add_argument(
        "--bundle", type=Path, help="a calibrated CIFAR-10 bundle; by default the one that comes with ledgate"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20, help="of each choice in a round")
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--out", type=Path, help="write the figures as JSON there")
    options = parser.parse_args(arguments)
    found = measure(options)
    return finish(found, table(found), options.out)


if __name__ == "__main__":
    sys.exit(main())
