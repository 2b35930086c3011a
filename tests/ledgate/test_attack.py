"""`ledgate attack`, as a user meets it: on a run, on a bundle, on a server, and by someone who knows the detector."""

import argparse
import json
import re
import shutil
import signal
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
from detector.unfinished import Unfinished
from ledgate.cli import main
from ledgate.commands import attack as command
from ledgate.connection import CONNECTION, add_connection
from ledgate.serverprocess import serving
from ledgate.settings import ATTACKS, NEEDED, SQUARE, settings
from tests.ledgate.test_cli import without_torch
from tests.ledgate.test_connection import TOKEN, served
from tests.serving.operating import OPENSSL, self_signed
from training.attacks import ATTACKS as BY_GRADIENT
from training.datasets import DATASETS, ROOT_VARIABLE
from training.splits import SPLITS


def answer(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    assert main(["attack", *map(str, words), "--json"]) == 0
    captured = capsys.readouterr()
    found: dict[str, Any] = json.loads(captured.out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *words: Any, status: int = 1) -> str:
    assert main(["attack", *map(str, words)]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_the_words_are_those_of_the_settings() -> None:
    assert set(ATTACKS) == {*BY_GRADIENT, SQUARE}
    assert set(command.SPLITS) == set(SPLITS)
    assert set(command.DATASETS) == set(DATASETS)
    assert command.ROOT_VARIABLE == ROOT_VARIABLE


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
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'out.npz'}: mim10-0.3-towards-next on 10 images; ")
    assert second.startswith("their changes, on average: ")
    assert re.fullmatch(r"the target was reached on \d+", third)
    assert not (tmp_path / "out.npz.unfinished").exists()


def test_one_calibration_takes_an_attack_by_either_loss_and_towards_a_target(
    run: training.Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is a figure of its own, by its name."""
    clean = tmp_path / "clean.npz"
    training.take(training.load("digits"), "calibration").save(clean)
    aims = {"label": [], "paper": ["--loss", "paper"], "next": ["--target", "next"], "one": ["--member", "1"]}
    for name, words in aims.items():
        attack = ["--clean", clean, "--attack", "fgsm", "--eps", "0.1", *words]
        answer(capsys, run.path, *attack, "--out", tmp_path / f"{name}.npz")
    files = [str(tmp_path / f"{name}.npz") for name in aims]
    bundle = shutil.copytree(exported, tmp_path / "bundle")
    words = ["calibrate", str(bundle), "--clean", str(clean), "--adversarial", *files, "--target-fpr", "0.1"]
    assert main([*words, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for name in ("fgsm-0.1", "fgsm-0.1-as-in-paper", "fgsm-0.1-towards-next", "fgsm-0.1-on-member1"):
        assert f"| {name} " in out


# `ledgate`, killed once the first part of its work is kept.
KILLED = """
import os, signal, sys
from detector.unfinished import Unfinished

save = Unfinished.save

def save_and_die(self, part, **arrays):
    save(self, part, **arrays)
    os.kill(os.getpid(), signal.SIGKILL)

Unfinished.save = save_and_die
from ledgate.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("method", ["pgd", "square"])
def test_a_killed_attack_goes_on_to_the_same_file(
    method: str, run: training.Run, bundle: Bundle, labelled: Path, tmp_path: Path
) -> None:
    source, images = (
        (run.path, ["--split=validation", "--n=6"]) if method == "pgd" else (bundle.path, ["--clean", labelled])
    )
    words = [source, *images, "--attack", method, "--eps=0.1", "--batch-size=2", "--device=cpu", "--threads=1", "--out"]
    words = ["attack", *map(str, words)]
    whole, killed = tmp_path / "whole.npz", tmp_path / "killed.npz"
    assert main([*words, str(whole)]) == 0
    dead = subprocess.run([sys.executable, "-c", KILLED, *words, str(killed)], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert not killed.exists()
    kept = tmp_path / "killed.npz.unfinished"
    assert sorted(path.name for path in kept.iterdir()) == ["000000.npz", "work.json"]
    assert main([*words, str(killed)]) == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert not kept.exists()


def test_unfinished_work_of_another_command_is_refused_and_kept(
    bundle: Bundle, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [bundle.path, "--clean", labelled, "--attack", "square", "--batch-size", "2", "--out", tmp_path / "out.npz"]
    save = Unfinished.save

    def interrupted(kept: Unfinished, part: int, **arrays: Any) -> None:
        save(kept, part, **arrays)
        raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "save", interrupted)
    assert main(["attack", *map(str, words), "--eps", "0.1"]) == 130
    assert capsys.readouterr().err == "ledgate attack: interrupted\n"
    line = refusal(capsys, *words, "--eps", "0.2")
    assert "out.npz.unfinished: expected what the same command left unfinished, found that of another" in line
    assert (tmp_path / "out.npz.unfinished" / "000000.npz").exists()


def test_square_on_a_run_is_the_same_as_on_its_bundle(
    run: training.Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to rounding, which now and then decides between two candidates."""
    clean = training.sample(training.take(training.load("digits"), "validation"), 20)
    clean.save(tmp_path / "clean.npz")
    words = ["--attack", "square", "--eps", "0.2", "--queries", "100", "--device", "cpu", "--out"]
    own = answer(capsys, run.path, "--split", "validation", "--n", "20", *words, tmp_path / "own.npz")
    on_bundle = answer(capsys, exported, "--clean", tmp_path / "clean.npz", *words, tmp_path / "bundle.npz")
    assert abs(own["success"] - on_bundle["success"]) <= 1 < own["success"]
    first, second = (ImageSet.load(tmp_path / f"{name}.npz") for name in ("own", "bundle"))
    alike = (first.images == second.images).all(axis=(1, 2, 3))
    assert alike.mean() >= 0.9
    assert list(own["attack"]["asked"]) == ["run"]


def test_a_data_set_goes_to_a_bundle_too(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--split", "validation", "--n", "5", "--attack", "square", "--eps", "0.2", "--queries", "9"]
    found = answer(capsys, exported, "--dataset", "digits", *words, "--out", tmp_path / "out.npz")
    assert (found["images"], found["dataset"], found["split"]) == (5, "digits", "validation")
    line = refusal(capsys, exported, *words, "--out", tmp_path / "other.npz", status=2)
    assert "--split: expected with --dataset, since only a training run has a data set of its own" in line


def test_a_target_is_told(bundle: Bundle, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--attack", "square", "--eps", "0.5", "--queries", "80", "--target", "3", "--out", tmp_path / "out.npz"]
    found = answer(capsys, bundle.path, "--clean", labelled, *words)["attack"]
    after = Detector.open(bundle.path, device="cpu").classify(ImageSet.load(tmp_path / "out.npz").images).labels
    assert found["target"] == 3
    assert found["found"]["target_reached"] == (after == 3).sum() > 0


def test_the_lines_for_people_tell_of_queries_and_the_budget(
    bundle: Bundle, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["attack", bundle.path, "--clean", labelled, "--attack", "square", "--out", tmp_path / "out.npz"]
    assert main([*map(str, words), "--eps", "0.5", "--queries", "60"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    found = ImageSet.load(tmp_path / "out.npz").info["attack"]["found"]["queries"]
    assert line == (f"queries: {found['total']}; half of the successes took at most "
                    f"{found['median_of_successes']:g}")  # fmt: skip
    assert main([*map(str, words), "--eps", "1e-6", "--batch-size", "4", "--budget", "20"]) == 0
    *_, queries, budget = capsys.readouterr().out.splitlines()
    assert queries == "queries: 20"
    assert budget == "the budget of 20 ended the attack; 2 images were never asked about, and are left out"


def test_without_torch_a_bundle_is_attacked_and_the_rest_says_what_is_missing(
    run: training.Run, bundle: Bundle, labelled: Path, tmp_path: Path
) -> None:
    words = ["attack", str(bundle.path), "--attack", "square", "--eps", "0.5", "--queries", "30", "--out", "out.npz"]
    done = without_torch(*words, "--clean", str(labelled), "--n", "4", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["images"] == len(ImageSet.load(tmp_path / "out.npz")) == 4
    split = without_torch(*words, "--split", "test", "--dataset", "digits", cwd=tmp_path)
    assert split.returncode == 1
    (line,) = split.stderr.splitlines()
    assert line.startswith("ledgate attack: --split: expected torch")
    assert line.endswith("pip install 'ledgate[train]', or give --clean FILE.npz, which needs none")
    gradients = ["attack", str(run.path), "--attack", "pgd", "--eps", "0.1", "--out", "other.npz"]
    told = without_torch(*gradients, "--clean", str(labelled), cwd=tmp_path)
    assert told.returncode == 1
    (line,) = told.stderr.splitlines()
    assert line == "ledgate attack: needs torch, which is not installed; pip install 'ledgate[train]'"


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make certificates")
def test_a_server_that_wants_tls_and_a_token_is_attacked(
    bundle: Bundle, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = self_signed(tmp_path, "server")
    (tmp_path / "tokens").write_text(f"{TOKEN} alice")
    words = [
        "--clean",
        labelled,
        "--attack",
        "square",
        "--eps",
        "0.5",
        "--queries",
        "30",
        "--out",
        tmp_path / "out.npz",
    ]
    with served(bundle, f"--tls-cert={pair.cert}", f"--tls-key={pair.key}", f"--token-file={tmp_path / 'tokens'}") as (
        ready,
        _,
    ):
        line = refusal(capsys, ready["address"], *words, f"--tls-ca={pair.cert}")
        assert "authorization: expected 'Bearer TOKEN', found nothing" in line
        trusted = (f"--tls-ca={pair.cert}", f"--token-file={tmp_path / 'tokens'}")
        assert answer(capsys, ready["address"], *words, *trusted)["success"] > 0


def test_the_options_of_a_connection_are_all_known() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_connection(parser)
    assert set(CONNECTION) == set(vars(parser.parse_args([])))
