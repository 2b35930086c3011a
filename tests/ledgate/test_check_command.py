"""`ledgate check` as a process of its own, as an operator and a program meet it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.imageset import ImageSet
from detector.scorefile import Origin, Scores
from ledgate.cli import main
from tests.conftest import CLASSES, make_images


def ledgate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ledgate", "check", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def today(tmp_path: Path) -> Path:
    """Images like those of the calibration, such as are not, and attacked ones."""
    images = make_images(400, seed=11)
    labels = np.arange(400) % CLASSES
    ImageSet(images=images, labels=labels).save(tmp_path / "today.npz")
    ImageSet(images=images * np.float32(0.05)).save(tmp_path / "dark.npz")
    ImageSet(images=images[:40] ** 2, info={"attack": {"name": "square-2"}}).save(tmp_path / "attacked.npz")
    return tmp_path


def test_kept_is_status_0_and_legible(calibrated: Bundle, today: Path) -> None:
    words = ("--adversarial", today / "attacked.npz", "--ood", today / "dark.npz", "--shifts", "--device=cpu")
    done = ledgate(calibrated.path, "--clean", today / "today.npz", *words)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{calibrated.path}: calibration {calibrated.calibration.digest[:16]}")  # type: ignore[union-attr]
    assert lines[1] == f"today     400 clean images of {today / 'today.npz'}"
    assert lines[3].split(": ")[0] in ("finding   KEPT", "finding   CONSISTENT")
    assert "clean flagged: at most 20 % promised; found " in lines[4]
    assert any(line.startswith("scores    are not shown to have moved") for line in lines)
    assert any(line.startswith("accuracy  ") for line in lines)
    kinds = [line.split("|")[1:3] for line in lines if line.startswith("| ")][1:]
    assert [kind.strip() for kind, _ in kinds] == ["attacked", *["changed"] * 9, "other kind"]
    assert [kinds[0][1].strip(), kinds[-1][1].strip()] == ["square-2", "dark"]
    assert max(map(len, lines)) < 150


def test_broken_is_status_3_as_json_too(calibrated: Bundle, today: Path) -> None:
    done = ledgate(calibrated.path, "--clean", today / "dark.npz", "--device=cpu", "--json")
    assert (done.returncode, done.stderr) == (3, "")
    document = json.loads(done.stdout)
    assert document["finding"] == "broken"
    assert document["promised"] is True
    assert document["movement"]["moved"] is True
    assert document["movement"]["exact"] is True
    (keeping,) = document["keepings"]
    assert keeping["bound"] == 0.2
    assert keeping["low"] > 0.2
    assert keeping["share"]["n"] == 400
    text = ledgate(calibrated.path, "--clean", today / "dark.npz", "--device=cpu")
    assert text.returncode == 3
    assert "finding   BROKEN: the share is larger than promised" in text.stdout
    assert "scores    HAVE MOVED, lower: today's images look more suspicious" in text.stdout


def test_movement_alone_is_no_alarm(calibrated: Bundle, tmp_path: Path) -> None:
    """All images look less suspicious than any of the calibration: moved, and reported, and status 0."""
    (tmp_path / "scores.csv").write_text("score\n" + "-1e-9\n" * 500)
    done = ledgate(calibrated.path, "--clean", tmp_path / "scores.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "finding   KEPT" in done.stdout
    assert "scores    HAVE MOVED, higher: today's images look less suspicious" in done.stdout


def test_too_few_is_said_with_the_number_it_takes(calibrated: Bundle, tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text("-1e-9\n")
    done = ledgate(calibrated.path, "--clean", tmp_path / "scores.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert "finding   TOO FEW: too few images to tell" in done.stdout
    assert "to notice twice that share as surely takes about 60 images" in done.stdout


def test_live_scores(calibrated: Bundle, tmp_path: Path) -> None:
    row = {"time": "t", "bundle": calibrated.digest[:16], "score_name": "log_diversity", "class": 0, "score": -50.0}
    others = {**row, "bundle": "ab" * 8}
    text = "".join(f"{json.dumps(one)}\n" for one in [*[row] * 100, *[others] * 3, {"time": "t", "dropped": 2}])
    (tmp_path / "log.jsonl").write_text(text)
    done = ledgate(calibrated.path, "--scores", tmp_path / "log.jsonl")
    assert (done.returncode, done.stderr) == (3, "")
    lines = done.stdout.splitlines()
    assert lines[1] == (
        f"today     100 live scores of {tmp_path / 'log.jsonl'} "
        "(3 scores of other bundles or calibrations passed over; 2 scores the server could not write)"
    )
    assert lines[-1].startswith("live traffic may hold attacks: ")
    foreign = ledgate(calibrated.path, "--clean", tmp_path / "log.jsonl", "--json")
    assert json.loads(foreign.stdout)["live"] is False  # named as clean
    assert foreign.stderr == (
        f"warning: {tmp_path / 'log.jsonl'}: scores of live traffic, named as clean and taken for it; it may hold "
        "attacks, see --scores\n"
    )


def save_folder(folder: Path, images: Any) -> None:
    for number, image in enumerate(images):
        path = folder / f"class {number % CLASSES}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().astype(np.uint8)).save(path)


def test_a_folder_is_the_same_as_a_file(calibrated: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_images(60, seed=11)
    save_folder(tmp_path / "folder", images)
    order = np.concatenate([np.arange(label, 60, CLASSES) for label in range(CLASSES)])
    pixels = (images[order] * 255).round().astype(np.uint8)
    ImageSet(images=pixels, labels=order % CLASSES).save(tmp_path / "file.npz")
    documents = []
    for name in ("folder", "file.npz"):
        assert main(["check", str(calibrated.path), "--clean", str(tmp_path / name), "--device=cpu", "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1]
    assert documents[0]["accuracy"]["n"] == 60


def test_a_broken_image_in_a_folder_is_named(calibrated: Bundle, tmp_path: Path) -> None:
    save_folder(tmp_path / "folder", make_images(12))
    bad = tmp_path / "folder" / "class 3" / "0003.png"
    bad.write_bytes(bad.read_bytes()[:50])
    done = ledgate(calibrated.path, "--clean", tmp_path / "folder", "--device=cpu")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ledgate check: {bad}: expected a whole PNG, found one that is cut off or damaged")


def test_scores_are_saved_for_the_next_time(
    calibrated: Bundle, today: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(calibrated.path), "--clean", str(today / "today.npz"), "--device=cpu", "--json"]
    assert main([*words, f"--save-scores={today / 'scores.npz'}"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert not (today / "scores.npz.unfinished").exists()
    with np.load(today / "scores.npz") as arrays:
        assert arrays["scores"].shape == (400,)
    words[3] = str(today / "scores.npz")
    assert main(words) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["keepings"] == first["keepings"]
    assert second["accuracy"] is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--clean", "nowhere.npz"], r"nowhere.npz: expected an images .npz, found no file"),
        (["--clean", "empty.csv"], "empty.csv: expected scores of log_diversity by bundle"),
        (["--clean", "bad.csv"], "bad.csv: line 2: expected a score, found nan"),
        (["--scores", "today.npz"], "today.npz: expected an array 'scores', found none"),
        (["--clean", "good.csv", "--shifts"], "shifts: expected images to change, found scores alone"),
        (["--clean", "good.csv", "--delta=2"], "delta: expected a number between 0 and 1, found 2.0"),
        (["--clean", "small.npz"], "small.npz: expected shape (N, 1, 8, 8), found (3, 1, 4, 4)"),
        (
            ["--clean", "good.csv", "--ood", "dark.npz", "dark.npz"],
            "expected one file for each attack or kind, found another of",
        ),
        (["--clean", "nothing"], "nothing: expected PNG or JPEG files, found none"),
    ],
)
def test_failures_are_one_line_and_status_2_where_a_setting_is_wrong_by_itself(
    calibrated: Bundle,
    today: Path,
    words: list[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(today)
    Path("empty.csv").write_text("")
    Path("bad.csv").write_text("-1\nnan\n")
    Path("good.csv").write_text("-1\n")
    Path("nothing").mkdir()
    ImageSet(images=make_images(3, shape=(1, 4, 4))).save("small.npz")
    for json_too in ([], ["--json"]):
        status = 2 if "--delta=2" in words else 1
        assert main(["check", str(calibrated.path), *words, "--device=cpu", *json_too]) == status
        out, error = capsys.readouterr()
        assert out == ""
        (line,) = error.splitlines()
        assert line.startswith("ledgate check: ")
        assert reason in line


def test_a_bundle_without_a_calibration(bundle: Bundle, today: Path) -> None:
    done = ledgate(bundle.path, "--clean", today / "today.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ledgate check: {bundle.path}: expected a calibrated bundle, found one without")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["b"], "one of the arguments --clean --scores is required"),
        (["b", "--clean", "a", "--scores", "b"], "argument --scores: not allowed with argument --clean"),
        ([], "the following arguments are required: BUNDLE"),
    ],
)
def test_usage_errors_are_status_2(words: list[str], reason: str) -> None:
    done = ledgate(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ledgate check: {reason}")


def test_help_tells_the_exit_status() -> None:
    done = ledgate("--help")
    assert done.returncode == 0
    assert "Exit status: 3 where a promise is broken" in " ".join(done.stdout.split())


def test_saved_scores_of_another_bundle_are_refused(
    calibrated: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Scores(values=np.zeros(3)).save(tmp_path / "s.npz", Origin(bundle="ab" * 32, score="log_diversity"))
    assert main(["check", str(calibrated.path), "--clean", str(tmp_path / "s.npz")]) == 1
    assert f"by bundle {calibrated.digest[:16]}, found 3 of others only" in capsys.readouterr().err
