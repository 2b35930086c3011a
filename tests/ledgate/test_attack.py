"""`ledgate attack`, as a user meets it: on a run, on a bundle, on a server, and by someone who knows the detector."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training
from detector.bundle import Bundle
from detector.detector import Detector
from detector.goal import Towards
from detector.imageset import ImageSet
from detector.oracle import Oracle
from detector.square import Square
from ledgate.cli import main
from ledgate.commands import attack as command
from ledgate.serverprocess import serving
from ledgate.settings import ATTACKS, NEEDED, SQUARE, settings
from tests.conftest import make_images
from training.attacks import ATTACKS as BY_GRADIENT
from training.datasets import DATASETS
from training.splits import SPLITS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> training.Run:
    config = training.TrainConfig(members=3, epochs=2, seed=3)
    return training.train(config, tmp_path_factory.mktemp("attack") / "run", progress=False)


@pytest.fixture(scope="module")
def exported(run: training.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a bundle, calibrated."""
    from detector.calibrate import calibrate
    from detector.targets import TargetFpr

    path = tmp_path_factory.mktemp("attack") / "bundle"
    training.export(run, path)
    clean = training.take(training.load("digits"), "calibration")
    calibrate(path, clean=clean, target=TargetFpr(0.1), device="cpu")
    return path


@pytest.fixture
def labelled(bundle: Bundle, tmp_path: Path) -> Path:
    """Images that the bundle answers, labelled with its answers."""
    images = make_images(6)
    labels = Detector.open(bundle.path, device="cpu").classify(images).labels
    ImageSet(images=images, labels=labels).save(tmp_path / "labelled.npz")
    return tmp_path / "labelled.npz"


def answer(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    assert main(["attack", *map(str, words), "--json"]) == 0
    captured = capsys.readouterr()
    found: dict[str, Any] = json.loads(captured.out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    assert main(["attack", *map(str, words)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_the_words_are_those_of_the_settings() -> None:
    assert set(ATTACKS) == {*BY_GRADIENT, SQUARE}
    assert set(command.SPLITS) == set(SPLITS)
    assert set(command.DATASETS) == set(DATASETS)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_defaults_are_those_of_the_settings(name: str) -> None:
    needed = {option: 0.1 for option, default in ATTACKS[name].items() if default == NEEDED}
    made = settings(name, needed, seed=7)
    described = made.describe()
    for option, default in ATTACKS[name].items():
        if default not in (NEEDED, "eps / steps"):
            assert described[{"search_steps": "binary_search_steps"}.get(option, option)] == default
    assert described.get("seed", 7) == 7


def test_help_needs_no_torch() -> None:
    check = "import sys; from ledgate.cli import main\ntry: main(['attack', '--help'])\nexcept SystemExit: pass\n" \
            "assert not {'torch', 'numpy'} & set(sys.modules)"  # fmt: skip
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    for word in ("--aware-of", "--substitute", "--queries", "units of [0, 1]", "by default 10"):
        assert word in " ".join(result.stdout.split())


def test_square_on_a_bundle_and_on_a_server_is_the_same(
    bundle: Bundle, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--clean", labelled, "--attack", "square", "--eps", "0.5", "--queries", "60", "--out"]
    embedded = answer(capsys, bundle.path, *words, tmp_path / "embedded.npz", "--device", "cpu")
    with serving(bundle.path, tmp_path / "server.log") as address:
        served = answer(capsys, address, *words, tmp_path / "served.npz")
    first, second = (ImageSet.load(tmp_path / f"{name}.npz") for name in ("embedded", "served"))
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(np.asarray(first.queries), np.asarray(second.queries))
    assert embedded["success"] == served["success"] == np.asarray(first.success).sum() > 0
    assert np.abs(first.images - np.asarray(first.clean)).max() <= np.float32(0.5)
    assert embedded["attack"]["found"]["queries"]["total"] == np.asarray(first.queries).sum() <= 6 * 60


def test_a_budget_ends_the_attack_and_says_so(
    bundle: Bundle, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.npz"
    words = ["--attack", "square", "--eps", "0.01", "--queries", "50", "--budget", "40", "--out", out]
    found = answer(capsys, bundle.path, "--clean", labelled, *words)["attack"]["found"]
    assert found["queries"]["total"] <= 40
    assert found["budget"] == {"queries": 40, "ended": True, "left_out": 0}


def test_square_asks_as_often_as_it_says(bundle: Bundle, labelled: Path) -> None:
    """Counted by someone else; an image that is fooled is not asked about again."""
    from detector.attacked import attack

    asked = 0
    detector = Detector.open(bundle.path, device="cpu")

    def ask(images: Any) -> Any:
        nonlocal asked
        asked += len(images)
        return detector.classify(images).probabilities

    oracle = Oracle(ask=ask, shape=bundle.input.shape, classes=bundle.class_count)
    images = ImageSet.load(labelled)
    found = attack(oracle, images, Square(eps=0.5, queries=60), progress=False)
    assert asked == oracle.spent == np.asarray(found.queries).sum() < 6 * 60
    assert (np.asarray(found.queries)[~np.asarray(found.success)] == 60).all()


@pytest.mark.parametrize("target", [None, Towards("next")], ids=["away", "towards"])
def test_square_gives_an_image_the_same_in_any_batch_and_more_queries_are_never_weaker(
    bundle: Bundle, labelled: Path, target: Towards | None
) -> None:
    from detector.attacked import attack

    images = ImageSet.load(labelled)

    def attacked(queries: int, size: int) -> ImageSet:
        oracle = Oracle.of_detector(Detector.open(bundle.path, device="cpu"))
        return attack(oracle, images, Square(eps=0.3, queries=queries), target=target, batch_size=size, progress=False)

    whole = attacked(40, 6)
    assert np.array_equal(whole.images, attacked(40, 1).images)
    change = whole.images.astype(np.float64) - np.asarray(whole.clean)
    assert np.abs(change).max() <= 0.3
    assert whole.images.min() >= 0
    assert whole.images.max() <= 1
    assert np.asarray(attacked(5, 6).success).sum() <= np.asarray(whole.success).sum()


def test_what_a_substitute_makes_is_tried_on_a_bundle(
    run: training.Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the very networks of the run, so that what fools one fools the other."""
    words = ["--split", "validation", "--n", "20", "--attack", "bim", "--eps", "0.2"]
    own = answer(capsys, run.path, *words, "--out", tmp_path / "own.npz")
    transferred = answer(capsys, exported, "--substitute", run.path, *words, "--out", tmp_path / "other.npz")
    assert transferred["success"] == own["success"] > 0
    assert np.array_equal(ImageSet.load(tmp_path / "own.npz").images, ImageSet.load(tmp_path / "other.npz").images)


def test_who_knows_the_calibration_evades_it(
    run: training.Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [run.path, "--split", "validation", "--n", "40", "--attack", "pgd", "--eps", "0.1", "--out"]
    plain = answer(capsys, *words, tmp_path / "plain.npz")
    knowing = answer(capsys, *words, tmp_path / "knowing.npz", "--aware-of", exported / "calibration.json")
    found = ImageSet.load(tmp_path / "knowing.npz")
    # As the bundle itself judges them.
    verdicts = Detector.open(exported, device="cpu").classify(found.images)
    assert verdicts.adversarial is not None
    unflagged = ~verdicts.adversarial & np.asarray(found.success)
    assert unflagged.sum() == knowing["attack"]["found"]["evaded"] > 0
    judged = Detector.open(exported, device="cpu").classify(ImageSet.load(tmp_path / "plain.npz").images)
    assert judged.adversarial is not None
    by_chance = ~judged.adversarial & np.asarray(ImageSet.load(tmp_path / "plain.npz").success)
    assert unflagged.sum() >= by_chance.sum()
    assert plain["attack"]["name"] == "pgd10-0.1"
    assert knowing["attack"]["name"] == "aware-pgd10-0.1"


def test_the_lines_for_people(run: training.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["attack", str(run.path), "--split", "validation", "--n", "10", "--attack", "mim", "--eps", "0.3"]
    assert main([*words, "--target", "next", "--out", str(tmp_path / "out.npz")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'out.npz'}: mim10-0.3 on 10 images; ")
    assert second.startswith("their changes, on average: ")
    assert not (tmp_path / "out.npz.unfinished").exists()


def test_a_killed_attack_goes_on_to_the_same_file(run: training.Run, tmp_path: Path) -> None:
    def started(out: Path) -> "subprocess.Popen[str]":
        words = ["--split", "validation", "--n", "24", "--attack", "pgd", "--eps", "0.1", "--steps", "60",
                 "--batch-size", "4", "--device", "cpu", "--out", str(out)]  # fmt: skip
        return subprocess.Popen([sys.executable, "-m", "ledgate", "attack", str(run.path), *words], text=True)

    whole, killed = tmp_path / "whole.npz", tmp_path / "killed.npz"
    assert started(whole).wait(120) == 0
    kept = tmp_path / "killed.npz.unfinished"
    with started(killed) as process:
        while process.poll() is None and not (kept / "000001.npz").exists():
            pass
        process.kill()
    assert not killed.exists()
    assert started(killed).wait(120) == 0
    assert np.array_equal(ImageSet.load(whole).images, ImageSet.load(killed).images)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BUNDLE", "--attack", "pgd", "--eps", "0.1"], "--attack pgd: expected a training run, whose gradients it"),
        (["BUNDLE", "--attack", "square"], "--eps: expected with square, which has no default for it, found none"),
        (["BUNDLE", "--attack", "square", "--eps", "2"], "eps: expected a number above 0 and at most 1"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--steps", "3"], "--steps: expected for bim, cw, ead, mim"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--aware-of", "c.json"], "--aware-of: expected with an att"),
        (["nowhere", "--attack", "fgsm", "--eps", "0.1"], "nowhere: expected the folder of a run or a bundle, or HOST"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--budget", "3"], "--budget: expected with --attack square only"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--timeout-s", "3"], "--timeout-s: expected with a server only"),
        (["RUN", "--attack", "bim", "--eps", "0.1", "--loss", "paper", "--target", "3"], "--target: expected with"),
        (["RUN", "--attack", "autoattack", "--eps", "0.1", "--aware-of", "c.json"], "--aware-of: expected an attack"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--aware-of", "nowhere.json"], "nowhere.json: expected a file"),
    ],
    ids=[
        "gradients of a bundle", "no eps", "eps", "steps", "aware without gradients", "nothing there", "budget",
        "timeout", "paper and target", "aware autoattack", "no calibration",
    ],
)  # fmt: skip
def test_refusals_are_one_line(
    run: training.Run,
    bundle: Bundle,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    names = {"BUNDLE": str(bundle.path), "RUN": str(run.path)}
    given = [names.get(word, word) for word in words]
    line = refusal(capsys, *given, "--clean", labelled, "--out", tmp_path / "out.npz")
    assert line.startswith(f"ledgate attack: {message}")
    assert not (tmp_path / "out.npz").exists()
