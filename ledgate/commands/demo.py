"""`ledgate demo`: the whole road on handwritten digits: train, attack, calibrate, serve, classify."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError, Unavailable
from detector.imageset import ImageSet
from detector.prediction import Floats
from detector.rates import Auc, Rate
from detector.verdicts import Verdicts

TARGET_FPR: Final = 0.05
_MARK: Final = "demo.json"  # what tells a demo's folder from any other
_STOP_S: Final = 60.0
_SAMPLES: Final = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR",
                        help="where everything is left; the folder of an earlier demo is replaced")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the attacks")


def run(options: argparse.Namespace) -> int:
    """Runs the demo; the last line is one JSON object."""
    import training  # noqa: F401  before anything is written: without torch there is no demo

    started = time.monotonic()
    out: Path = options.out
    _make_room(out)
    say("1/5  training three small networks with ADP (alpha 2, beta 0.5) on scikit-learn's digits")
    attacked = _train_and_attack(out, options.seed)
    test = ImageSet.load(out / "test.npz")
    say(f"4/5  calibrating: at most {100 * TARGET_FPR:g} % of honest images may be flagged")
    _calibrate(out, attacked)
    say(f"5/5  serving the bundle, and classifying {len(test)} test images, clean and under {len(attacked)} attacks")
    with serving(out / "bundle", out / "server.log") as address:
        answers = _classify(address, test, attacked)
    _save_samples(out, {name: (images, answers[name]) for name, images in {"clean": test, **attacked}.items()})
    summary = _summary(test, answers) | {"seed": options.seed, "seconds": round(time.monotonic() - started, 1)}
    _explain(out, test, answers, summary)
    print(json.dumps(summary))
    return 0


def say(line: str) -> None:
    """One line of progress, at once."""
    print(line, flush=True)


def _make_room(out: Path) -> None:
    """Empties the folder of an earlier demo; touches nothing else."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise InputError(f"{out}: expected no folder, or an earlier demo's, found another; choose one with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text('{"made by": "ledgate demo"}\n')


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


@contextmanager
def serving(bundle: Path, log: Path) -> Iterator[str]:
    """A server in a process of its own, on a free loopback port; yields its address.

    Raises:
        Unavailable: It ended before it was ready; its log says why.
    """
    command = [sys.executable, "-m", "ledgate", "serve", str(bundle), "--port", "0", "--device", "cpu", "--json"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line:
                raise Unavailable(f"{log}: expected a server, found one that ended with {server.wait(_STOP_S)}")
            yield json.loads(line)["address"]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(_STOP_S)


def _classify(address: str, test: ImageSet, attacked: dict[str, ImageSet]) -> dict[str, Verdicts]:
    """What the server says of clean and of attacked images."""
    from serving.client import Client

    with Client(address) as client:
        return {name: client.classify(images.images) for name, images in {"clean": test, **attacked}.items()}


def _summary(test: ImageSet, answers: dict[str, Verdicts]) -> dict[str, Any]:
    """The figures of the last line."""
    clean = answers["clean"]
    attacks = {name: answer for name, answer in answers.items() if name != "clean"}
    return {
        "accuracy": float((clean.labels == test.labels).mean()),
        "false_positive_rate": float(_flags(clean).mean()),
        "target_fpr": TARGET_FPR,
        "auc": {name: Auc.of(_known(clean.score), _known(answer.score)).value for name, answer in attacks.items()},
        "flagged": {name: float(_flags(answer).mean()) for name, answer in attacks.items()},
    }


def _flags(answer: Verdicts) -> NDArray[np.bool_]:
    """Which images are flagged; only a server without a calibration does not say."""
    assert answer.adversarial is not None
    return answer.adversarial


def _known(score: Floats | None) -> Floats:
    """Scores that the server did not hide."""
    assert score is not None
    return score


def _save_samples(out: Path, rows: dict[str, tuple[ImageSet, Verdicts]]) -> None:
    """A few images as PNG, as they are, for `ledgate classify`; and one picture of them with the answers."""
    from PIL import Image

    from ledgate.gallery import pixels, save_gallery

    (out / "images").mkdir()
    for name, (images, _) in rows.items():
        for index in range(_SAMPLES):
            Image.fromarray(pixels(images, index)).save(out / "images" / f"{name}-{index}.png")
    save_gallery(out / "samples.png", rows, columns=_SAMPLES)


def _explain(out: Path, test: ImageSet, answers: dict[str, Verdicts], summary: dict[str, Any]) -> None:
    """The table, and what to try next."""
    print(f"\nThe server's answers, {len(test)} test images in each row, none of them seen before:\n")
    print("images     classified wrong  flagged as adversarial (95 % interval)  AUC")
    for name, answer in answers.items():
        wrong = f"{(answer.labels != test.labels).mean():.1%}"
        auc = f"{summary['auc'][name]:.3f}" if name in summary["auc"] else ""
        print(f"{name:9}  {wrong:>16}  {Rate.of(_flags(answer))!s:38}  {auc}".rstrip())
    print(
        f"\nThe threshold promises to flag at most {100 * TARGET_FPR:g} % of honest images, with 95 % confidence; on"
        f"\n{len(test)} images chance alone moves the share within the interval. AUC: the chance that an attacked"
        "\nimage looks more suspicious than a clean one. fgsm-0.1 moves each pixel by up to 0.1 (of 1) in one step,"
        "\npgd10-0.1 in ten. An attacker who knows the detector can get past it: see 'What it cannot detect' in"
        "\nthe README."
    )
    ledgate = sys.argv[0] if Path(sys.argv[0]).name == "ledgate" else "ledgate"
    print(
        f"\nLeft in {out}/: run/ bundle/ report/report.md samples.png images/ and the .npz files. Try next:\n"
        f"  {ledgate} inspect {out}/bundle\n"
        f"  {ledgate} classify {out}/bundle {out}/images/*.png\n"
        f"  {ledgate} calibrate {out}/bundle --clean {out}/calibration.npz --adversarial {out}/pgd10-0.2.npz "
        "--target-fpr 0.1\n"
        f"  {ledgate} serve {out}/bundle\n"
    )
