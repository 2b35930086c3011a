"""`ledgate calibrate`: choose a bundle's threshold and report what it catches."""

import argparse
from pathlib import Path
from typing import Any

from detector.errors import InputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle; the calibration is written into it")
    parser.add_argument("--clean", type=Path, required=True, metavar="FILE.npz",
                        help="clean images, like those the service will see, not used in training")  # fmt: skip
    parser.add_argument("--adversarial", type=Path, nargs="+", action="extend", default=[], metavar="FILE.npz",
                        help="attacked images, one file for each attack")  # fmt: skip
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--target-fpr", type=float, metavar="SHARE", help="flag at most this share of clean images")
    target.add_argument("--target-tpr", type=float, metavar="SHARE",
                        help="flag at least this share of every attack's images")  # fmt: skip
    target.add_argument("--threshold", type=float, metavar="SCORE",
                        help="your own; lower scores are flagged; with the =, as in --threshold=-1e-3")  # fmt: skip
    parser.add_argument("--delta", type=float, default=0.05, metavar="SHARE",
                        help="probability that the promise is broken by an unlucky choice of images")  # fmt: skip
    parser.add_argument("--report-clean", type=Path, metavar="FILE.npz",
                        help="clean images to report on; then all of --clean choose the threshold")  # fmt: skip
    parser.add_argument("--report-fraction", type=float, default=0.5, metavar="SHARE",
                        help="otherwise, share of the source images that report")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of that split")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.md, roc.png and scores.png there")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where the members run")
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")


def _target(options: argparse.Namespace) -> Any:
    """The target that the options name."""
    from detector.targets import Explicit, TargetFpr, TargetTpr

    if options.target_fpr is not None:
        return TargetFpr(options.target_fpr, options.delta)
    if options.target_tpr is not None:
        return TargetTpr(options.target_tpr, options.delta)
    return Explicit(options.threshold)


def _digests(options: argparse.Namespace) -> list[dict[str, str]]:
    """Name and SHA-256 of every file of images: what the calibration was made from."""
    from detector.document import sha256

    paths = [options.clean, options.report_clean, *options.adversarial]
    return [{"name": path.name, "sha256": sha256(path.read_bytes())} for path in paths if path is not None]


def run(options: argparse.Namespace) -> int:
    """Calibrates."""
    from detector.calibrate import calibrate
    from detector.imageset import ImageSet
    from detector.report import promise, table

    target = _target(options)
    attacks: dict[str, ImageSet] = {}
    for path in options.adversarial:
        images = ImageSet.load(path)
        name = images.attack or path.stem
        if name in attacks:
            raise InputError(f"{path}: expected one file for each attack, found another of '{name}'")
        attacks[name] = images
    calibration = calibrate(
        options.bundle,
        clean=ImageSet.load(options.clean),
        adversarial=attacks,
        target=target,
        report_clean=None if options.report_clean is None else ImageSet.load(options.report_clean),
        report_fraction=options.report_fraction,
        seed=options.seed,
        device=options.device,
        report=options.report,
        notes={"files": _digests(options)},
    )
    if options.json:
        print(calibration.model_dump_json())
        return 0
    print(f"threshold {calibration.threshold:.6g} on {calibration.score}, as {calibration.target}")
    print(promise(calibration))
    print(f"\n{table(calibration)}\n")
    if options.report is not None:
        print(f"report: {options.report / 'report.md'}")
    print(f"next: ledgate serve {options.bundle}")
    return 0
