"""`ledgate demo-train`: the whole road on handwritten digits: train, attack, calibrate, serve, classify."""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Final

from detector.imageset import ImageSet
from ledgate.answers import Answers
from ledgate.demonstration import called, make_room, save_samples, say
from ledgate.serverprocess import serving

TARGET_FPR: Final = 0.05


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo-train"), metavar="DIR",
                        help="where everything is left; the folder of an earlier demo is replaced")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the attacks")


def run(options: argparse.Namespace) -> int:
    """Runs the demo; the last line is one JSON object."""
    from training import loop  # noqa: F401  before anything is written: without torch there is no demo

    started = time.monotonic()
    out: Path = options.out
    make_room(out)
    say("1/5  training three small networks with ADP (alpha 2, beta 0.5) on scikit-learn's digits")
    attacked = _train_and_attack(out, options.seed)
    test = ImageSet.load(out / "test.npz")
    say(f"4/5  calibrating: at most {100 * TARGET_FPR:g} % of honest images may be flagged")
    _calibrate(out, attacked)
    say(f"5/5  serving the bundle, and classifying {len(test)} test images, clean and under {len(attacked)} attacks")
    with serving(out / "bundle", out / "server.log") as address:
        answers = Answers.ask(address, test, attacked)
    save_samples(out, answers.rows)
    summary = answers.summary(TARGET_FPR) | {"seed": options.seed, "seconds": round(time.monotonic() - started, 1)}
    _explain(out, answers, summary)
    print(json.dumps(summary))
    return 0


def _train_and_attack(out: Path, seed: int) -> dict[str, ImageSet]:
    """Trains, exports, and attacks the test images; leaves run, bundle and images behind."""
    import training
    from training.attacks import FGSM, PGD

    training.train(
        training.TrainConfig(dataset="digits", arch="cnn", members=3, alpha=2.0, beta=0.5, seed=seed), out / "run"
    )
    say("2/5  exporting the members to ONNX, each checked against torch")
    training.export(out / "run", out / "bundle")
    for split in ("calibration", "test"):
        training.take(training.load("digits"), split).save(out / f"{split}.npz")
    say("3/5  attacking the test images: FGSM and PGD, against the whole ensemble")
    attacked = {}
    for attack in (FGSM(eps=0.1), PGD(eps=0.1, steps=10, seed=seed), PGD(eps=0.2, steps=10, seed=seed)):
        attacked[attack.name] = training.attack(out / "run", ImageSet.load(out / "test.npz"), attack)
        attacked[attack.name].save(out / f"{attack.name}.npz")
    return attacked


def _calibrate(out: Path, attacked: dict[str, ImageSet]) -> None:
    """The threshold from the calibration images, its rates on the test images."""
    from detector.calibrate import calibrate
    from detector.targets import TargetFpr

    calibrate(
        out / "bundle",
        clean=ImageSet.load(out / "calibration.npz"),
        report_clean=ImageSet.load(out / "test.npz"),
        adversarial=attacked,
        target=TargetFpr(TARGET_FPR),
        device="cpu",
        report=out / "report",
    )


def _explain(out: Path, answers: Answers, summary: dict[str, Any]) -> None:
    """The table, and what to try next."""
    print(f"\nThe server's answers, {len(answers)} test images in each row, none of them seen before:\n")
    print(answers.table(summary))
    print(
        f"{answers.undetected(summary)}"
        f"\n{answers.meaning(TARGET_FPR)} fgsm-0.1 moves each pixel by up to 0.1 (of 1) in one step,"
        "\npgd10-0.1 in ten. An attacker who knows the detector can get past it: see 'What it cannot detect' in"
        "\nthe README."
    )
    ledgate = called()
    print(
        f"\nLeft in {out}/: run/ bundle/ report/report.html samples.png images/ and the .npz files. Try next:\n"
        f"  {ledgate} inspect {out}/bundle\n"
        f"  {ledgate} classify {out}/bundle {out}/images/*.png\n"
        f"  {ledgate} calibrate {out}/bundle --clean {out}/calibration.npz --adversarial {out}/pgd10-0.2.npz "
        "--target-fpr 0.1\n"
        f"  {ledgate} serve {out}/bundle\n"
    )
