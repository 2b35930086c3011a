"""`ledgate calibrate`: choose a bundle's threshold and report what it catches."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from detector.commands.running import add_running
from detector.errors import InputError, SettingError
from detector.scores import DEFAULT_SCORE, SCORES

if TYPE_CHECKING:
    from detector.calibration import Calibration

DELTA: Final = 0.05
FIT_FRACTION: Final = 0.5


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
    parser.add_argument("--score", choices=tuple(SCORES),
                        help=f"what is thresholded, by default {DEFAULT_SCORE}; typicality and mahalanobis are fitted "
                        "on clean images. With --assume-clean by default what the bundle is calibrated on, and a fit "
                        "stays as it is")  # fmt: skip
    parser.add_argument("--delta", type=float, metavar="SHARE",
                        help="probability that the promise is broken by an unlucky choice of images (default: "
                        "0.05); of --target-fpr and --target-tpr")  # fmt: skip
    parser.add_argument("--report-clean", type=Path, metavar="PATH",
                        help="clean images to report on; then all of --clean choose the threshold")  # fmt: skip
    parser.add_argument("--report-fraction", type=float, default=0.5, metavar="SHARE",
                        help="otherwise, share of the source images that report")  # fmt: skip
    parser.add_argument("--fit-fraction", type=float, metavar="SHARE",
                        help="share of the others that typicality or mahalanobis is fitted on (default: "
                        "0.5)")  # fmt: skip
    parser.add_argument("--shifts", action="store_true",
                        help="report on mildly changed clean images too: noise, blur, brightness, JPEG, "
                        "rotation")  # fmt: skip
    parser.add_argument("--changed-fpr", type=float, metavar="SHARE",
                        help="with --target-fpr, not with --per-class: and at most this share of clean images after "
                        "noise 0.05, blur 1, brightness x0.8, JPEG 75 or rotation 10, each by itself; the threshold is "
                        "lowered as far as it takes, and less is detected")  # fmt: skip
    parser.add_argument("--ood", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
                        help="report on images of other kinds too, for which no class is right")  # fmt: skip
    parser.add_argument("--assume-clean", action="store_true",
                        help="take --clean for scores alone that this bundle gave, as its score log holds them; live "
                        "traffic may hold attacks, and low scores sent on purpose lower the threshold")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of these draws")
    parser.add_argument("--report", type=Path, metavar="DIR",
                        help="write report.html there, one page with a few of the images in it that needs nothing "
                        "beside it; and report.md, roc.png and scores.png")  # fmt: skip
    add_running(parser)
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")


def _target(options: argparse.Namespace) -> Any:
    """The target that the options name."""
    from detector.targets import Explicit, MeanFpr, PerClass, TargetFpr, TargetTpr, Youden

    if options.on_average and options.target_fpr is None:
        raise SettingError("--on-average: expected --target-fpr with it, found another target")
    bounds = not options.on_average and (options.target_fpr is not None or options.target_tpr is not None)
    if options.delta is not None and not bounds:
        other = "--on-average" if options.on_average else "a target"
        raise SettingError(f"--delta: expected --target-fpr or --target-tpr, found {other}, which has no delta")
    delta = DELTA if options.delta is None else options.delta
    if options.on_average:
        target: Any = MeanFpr(options.target_fpr)
    elif options.target_fpr is not None:
        target = TargetFpr(options.target_fpr, delta)
    elif options.target_tpr is not None:
        target = TargetTpr(options.target_tpr, delta)
    else:
        target = Youden() if options.youden else Explicit(options.threshold)
    return PerClass(target) if options.per_class else target


def _digests(options: argparse.Namespace) -> dict[Path, dict[str, str]]:
    """Name and SHA-256 of every file or folder of images, by its path: what the calibration was made from."""
    from detector.inputs import digest

    paths = [options.clean, options.report_clean, *options.adversarial, *options.ood]
    return {path: {"name": path.name, "sha256": digest(path)} for path in paths if path is not None}


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

    score = options.score or DEFAULT_SCORE
    if options.fit_fraction is not None and not SCORES[score].needs_fit:
        raise SettingError(f"--fit-fraction: expected a score that is fitted, found {score}")
    target = _target(options)
    bundle = Bundle.open(options.bundle, calibrated=False)
    refuse_scores(options.clean)
    clean = open_images(options.clean, bundle)
    attacks = named_images(options.adversarial, bundle)
    report_clean = None if options.report_clean is None else open_images(options.report_clean, bundle)
    foreign = named_images(options.ood, bundle)
    files = _digests(options)
    return calibrate(
        options.bundle,
        clean=clean,
        adversarial=attacks,
        target=target,
        report_clean=report_clean,
        report_fraction=options.report_fraction,
        fit_fraction=FIT_FRACTION if options.fit_fraction is None else options.fit_fraction,
        seed=options.seed,
        score=score,
        device=options.device,
        precision=options.precision,
        report=options.report,
        notes={"files": list(files.values())},
        resume={
            "clean": files[options.clean]["sha256"],
            **({} if options.report_clean is None else {"report": files[options.report_clean]["sha256"]}),
            **{f"attack {n}": files[path]["sha256"] for n, path in zip(attacks, options.adversarial, strict=True)},
        },
        foreign=foreign,
        shifts=options.shifts,
        changed_fpr=options.changed_fpr,
    )


def _from_scores(options: argparse.Namespace) -> "Calibration":
    """Calibrates on scores alone."""
    from detector.calibratescores import calibrate_scores

    for name in ("adversarial", "report_clean", "ood", "shifts", "changed_fpr", "report", "fit_fraction"):
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
        precision=options.precision,
        notes={"files": list(_digests(options).values())},
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
