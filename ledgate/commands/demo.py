"""`ledgate demo`: the ensemble that comes with ledgate, served, and asked about photographs, clean and attacked."""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.errors import BundleError
from detector.shipped import HOME, IMAGES, shipped_bundle, shipped_images
from detector.targets import TargetFpr
from ledgate.answers import Answers
from ledgate.demonstration import called, make_room, save_samples, say
from ledgate.serverprocess import serving


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR",
                        help="where everything is left; the folder of an earlier demo is replaced")  # fmt: skip
    # Another folder made by scripts/shipped, to look at one before it is shipped.
    parser.add_argument("--shipped", type=Path, default=HOME, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Runs the demo; the last line is one JSON object."""
    started = time.monotonic()
    out, home = options.out, options.shipped
    shipped, (test, attacked) = shipped_bundle(home), shipped_images(home)
    make_room(out)
    _copy(shipped, out / "bundle")
    _copy(home / IMAGES, out)
    bundle = Bundle.open(out / "bundle")
    calibration, target_fpr = _promise(bundle)
    dataset = test.info.get("dataset", "its data set")
    say(f"1/2  serving the ensemble that comes with ledgate: {bundle.member_count} networks, trained on {dataset}")
    with serving(out / "bundle", out / "server.log") as address:
        say(f"2/2  classifying {len(test)} test images, clean and under {len(attacked)} attacks")
        answers = Answers.ask(address, test, attacked)
    save_samples(out, answers.rows)
    summary = answers.summary(target_fpr) | {
        "seed": test.info.get("sample", {}).get("seed"),
        "seconds": round(time.monotonic() - started, 1),
        "dataset": dataset,
        "images": len(test),
        "bundle_digest": bundle.digest,
        "calibrated_false_positive_rate": calibration.false_positives.rate,
    }
    _explain(out, answers, summary, calibration)
    print(json.dumps(summary))
    return 0


def _copy(folder: Path, to: Path) -> None:
    """Copies a folder's files into another one, which stays ours to change whatever their rights are."""
    to.mkdir(exist_ok=True)
    for file in sorted(folder.iterdir()):
        shutil.copyfile(file, to / file.name)


def _promise(bundle: Bundle) -> tuple[Calibration, float]:
    """The bundle's calibration, and the share of honest images that it may flag."""
    calibration = bundle.calibration
    target = None if calibration is None else calibration.target
    if calibration is None or not isinstance(target, TargetFpr):
        raise BundleError(f"{bundle.path}: expected a calibration by --target-fpr, found {target or 'none'}")
    return calibration, target.rate


def _explain(out: Path, answers: Answers, summary: dict[str, Any], calibration: Calibration) -> None:
    """The table, how to read it, and what to try next."""
    rate = calibration.false_positives
    print(f"\nThe server's answers, {len(answers)} test images in each row; nothing was chosen on them:\n")
    print(answers.table(summary))
    print(
        f"{answers.undetected(summary)}"
        f"\n{answers.meaning(summary['target_fpr'])} When the threshold was chosen, on"
        f"\n{len(calibration.clean_scores)} calibration images, {rate} of {rate.n} others were flagged."
        "\n"
        "\nAn attack's name ends with how far it moves a pixel at most, of 1; fgsm does it in one step, pgd10 in ten,"
        "\nagainst all members at once. Then the image is rounded to 8 bits, as a file holds it. What this does not"
        "\nshow: attackers who know the detector, who can get past it; other attacks; and images that are not like"
        "\nthese, small photographs of ten kinds of things. See 'What it cannot detect' in the README."
    )
    ledgate = called()
    print(
        f"\nLeft in {out}/: bundle/ samples.png images/ and the .npz files. Try next:\n"
        f"  {ledgate} inspect {out}/bundle\n"
        f"  {ledgate} classify {out}/bundle {out}/images/*.png\n"
        f"  {ledgate} serve\n"
        f"  {ledgate} classify localhost:50051 {out}/test.npz        (in another terminal)\n"
        "  make demo-train        (the whole road, training included, on handwritten digits)\n"
    )
