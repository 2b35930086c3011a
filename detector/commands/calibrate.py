"""`ledgate calibrate`: choose a bundle's threshold and report what it catches."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.errors import InputError
from detector.scores import DEFAULT_SCORE, SCORES

if TYPE_CHECKING:
    from detector.calibration import Calibration


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle; the calibration is written into it")
    parser.add_argument("--clean", type=Path, required=True, metavar="PATH",
                        help="clean images, like those the service will see, not used in training: an .npz, or a "
                        "folder of PNG and JPEG files, in folders named as the classes or not")  # fmt: skip
    parser.add_argument("--adversarial", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
                        help="attacked images, one .npz for each attack; or a folder, with the names of the clean "
                        "images in the folder of --clean")  # fmt: skip
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--target-fpr", type=float, metavar="SHARE", help="flag at most this share of clean images")
    target.add_argument("--target-tpr", type=float, metavar="SHARE",
                        help="flag at least this share of every attack's images")  # fmt: skip
    target.add_argument("--youden", action="store_true",
                        help="most attacks flagged less clean images flagged; promises nothing")  # fmt: skip
    target.add_argument("--threshold", type=float, metavar="SCORE",
                        help="your own; lower scores are flagged; with the =, as in --threshold=-1e-3")  # fmt: skip
    parser.add_argument("--on-average", action="store_true",
                        help="keep --target-fpr on average over calibrations only (conformal)")  # fmt: skip
    parser.add_argument("--per-class", action="store_true",
                        help="a threshold for each predicted class; promises hold for all together")  # fmt: skip
    parser.add_argument("--score", default=DEFAULT_SCORE, choices=tuple(SCORES),
                        help="what is thresholded; typicality and mahalanobis are fitted on clean images")  # fmt: skip
    parser.add_argument("--delta", type=float, default=0.05, metavar="SHARE",
                        help="probability that the promise is broken by an unlucky choice of images")  # fmt: skip
    parser.add_argument("--report-clean", type=Path, metavar="PATH",
                        help="clean images to report on; then all of --clean choose the threshold")  # fmt: skip
    parser.add_argument("--report-fraction", type=float, default=0.5, metavar="SHARE",
                        help="otherwise, share of the source images that report")  # fmt: skip
    parser.add_argument("--fit-fraction", type=float, default=0.5, metavar="SHARE",
                        help="share of the others that such a score is fitted on")  # fmt: skip
    parser.add_argument("--shifts", action="store_true",
                        help="report on mildly changed clean images too: noise, blur, brightness, JPEG, "
                        "rotation")  # fmt: skip
    parser.add_argument("--changed-fpr", type=float, metavar="SHARE",
                        help="with --target-fpr: and at most this share of clean images after noise 0.05, blur 1, "
                        "brightness x0.8, JPEG 75 or rotation 10, each by itself; the threshold is lowered as far as "
                        "it takes, and less is detected")  # fmt: skip
    parser.add_argument("--ood", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
                        help="report on images of other kinds too, for which no class is right")  # fmt: skip
    parser.add_argument("--assume-clean", action="store_true",
                        help="take --clean for scores alone that this bundle gave, as its score log holds them; live "
                        "traffic may hold attacks, and low scores sent on purpose lower the threshold")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of these draws")
    parser.add_argument("--report", type=Path, metavar="DIR",
                        help="write report.html there, one page with a few of the images in it that needs nothing "
                        "beside it; and report.md, roc.png and scores.png")  # fmt: skip
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where the members run")
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")


def _target(options: argparse.Namespace) -> Any:
    """The target that the options name."""
    from detector.targets import Explicit, MeanFpr, PerClass, TargetFpr, TargetTpr, Youden

    if options.on_average and options.target_fpr is None:
        raise InputError("--on-average: expected --target-fpr with it, found another target")
    if options.on_average:
        target: Any = MeanFpr(options.target_fpr)
    elif options.target_fpr is not None:
        target = TargetFpr(options.target_fpr, options.delta)
    elif options.target_tpr is not None:
        target = TargetTpr(options.target_tpr, options.delta)
    else:
        target = Youden() if options.youden else Explicit(options.threshold)
    return PerClass(target) if options.per_class else target


def _digests(options: argparse.Namespace) -> list[dict[str, str]]:
    """Name and SHA-256 of every file or folder of images: what the calibration was made from."""
    from detector.inputs import digest

    paths = [options.clean, options.report_clean, *options.adversarial, *options.ood]
    return [{"name": path.name, "sha256": digest(path)} for path in paths if path is not None]


def run(options: argparse.Namespace) -> int:
    """Calibrates."""
    from detector.recommendation import undetected

    calibration = _from_scores(options) if options.assume_clean else _from_images(options)
    lost = undetected(calibration)
    if lost:
        print(f"warning: {lost}", file=sys.stderr)
    if options.json:
        print(calibration.model_dump_json())
        return 0
    _print(calibration)
    if options.report is not None:
        print(f"report: {options.report / 'report.html'}")
    print(f"next: ledgate serve {options.bundle}")
    return 0


def _from_images(options: argparse.Namespace) -> "Calibration":
    """Calibrates on images."""
    from detector.bundle import Bundle
    from detector.calibrate import calibrate
    from detector.inputs import named_images, open_images
    from detector.scorefile import refuse_scores

    target = _target(options)
    bundle = Bundle.open(options.bundle, calibrated=False)
    refuse_scores(options.clean)
    clean = open_images(options.clean, bundle)
    attacks = named_images(options.adversarial, bundle)
    report_clean = None if options.report_clean is None else open_images(options.report_clean, bundle)
    foreign = named_images(options.ood, bundle)
    files = {"files": _digests(options)}
    return calibrate(
        options.bundle,
        clean=clean,
        adversarial=attacks,
        target=target,
        report_clean=report_clean,
        report_fraction=options.report_fraction,
        fit_fraction=options.fit_fraction,
        seed=options.seed,
        score=options.score,
        device=options.device,
        report=options.report,
        notes=files,
        resume=files,
        foreign=foreign,
        shifts=options.shifts,
        changed_fpr=options.changed_fpr,
    )


def _from_scores(options: argparse.Namespace) -> "Calibration":
    """Calibrates on scores alone."""
    from detector.calibratescores import calibrate_scores

    for name in ("adversarial", "report_clean", "ood", "shifts", "changed_fpr", "report"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')}: expected images in --clean with it, found scores alone")
    calibration = calibrate_scores(
        options.bundle,
        options.clean,
        target=_target(options),
        score=options.score,
        report_fraction=options.report_fraction,
        seed=options.seed,
        device=options.device,
        notes={"files": _digests(options)},
    )
    print(f"warning: {calibration.provenance['assumed']}", file=sys.stderr)
    return calibration


def _print(calibration: "Calibration") -> None:
    """What came out, for a person."""
    from detector.recommendation import recommend
    from detector.report import comparison, confidence, detection, honest, promise, table

    print(f"threshold {calibration.limit} on {calibration.score}, as {calibration.target}")
    print(promise(calibration))
    print(f"confidence: {confidence(calibration)}")
    if calibration.repeats:
        print(f"{calibration.repeats} clean images did not count: of several images of one source, one does")
    print(f"\n{table(calibration)}\n")
    beside = honest(calibration)
    if beside:
        print(f"{beside}\n")
    recommended = recommend(calibration)
    if recommended is not None:
        print(f"{detection(calibration)}\n\n{comparison(calibration)}\n")
        print(f"recommended score: {recommended.score}. {recommended.reason}")
