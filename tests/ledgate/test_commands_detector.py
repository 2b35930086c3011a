"""`ledgate bundle`, `ledgate calibrate` and `ledgate inspect` as a user and a program meet them."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.imageset import ImageSet
from ledgate.cli import main
from tests.conftest import CLASSES, make_images, make_model

Ledgate = Callable[..., "Result"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        assert (self.status, self.err) == (0, "")
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line on standard error."""
        assert self.out == ""
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        return self.err[:-1]


@pytest.fixture
def ledgate(capsys: pytest.CaptureFixture[str]) -> Ledgate:
    """Runs the command in this process."""

    def run(*words: object) -> Result:
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit_:  # a usage error
            status = int(exit_.code or 0)
        return Result(status=status, **capsys.readouterr()._asdict())

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with three members, labels, clean and attacked images."""
    for seed, name in enumerate("abc"):
        (tmp_path / f"{name}.onnx").write_bytes(make_model(seed).SerializeToString())
    (tmp_path / "labels.txt").write_text("".join(f"kind {index}\n" for index in range(CLASSES)))
    clean = make_images(200)
    index = np.arange(200)
    labels = np.arange(200) % CLASSES
    ImageSet(images=clean, labels=labels, source_index=index).save(tmp_path / "clean.npz")
    noisy = np.clip(clean + np.random.default_rng(1).normal(size=clean.shape) / 4, 0, 1).astype(np.float32)
    attacked = ImageSet(images=noisy, source_index=index, info={"attack": {"name": "noise-0.25"}})
    attacked.save(tmp_path / "attacked.npz")
    return tmp_path


def members(files: Path, names: str = "abc") -> list[str]:
    return [word for name in names for word in ("--member", str(files / f"{name}.onnx"))]


# bundle


def test_bundle(ledgate: Ledgate, files: Path) -> None:
    out = files / "out"
    result = ledgate(
        "bundle", *members(files), "--out", out, "--labels", files / "labels.txt", "--mean=0.5", "--std=0.5"
    )
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:3] == [f"{name}.onnx: folded in mean [0.5] and std [0.5]" for name in "abc"]
    assert lines[3] == f"{out}: 3 members, 10 classes, images (1, 8, 8)"
    assert lines[4].startswith(f"next: ledgate calibrate {out} --clean clean.npz")
    assert Bundle.open(out).labels[9] == "kind 9"


def test_bundle_as_json(ledgate: Ledgate, files: Path) -> None:
    document = ledgate("bundle", *members(files), "--out", files / "out", "--json").document
    assert document["path"] == str(files / "out")
    assert {**document, "path": None} == {**json.loads((files / "out" / "bundle.json").read_text()), "path": None}
    assert document["provenance"]["members"] == ["a.onnx", "b.onnx", "c.onnx"]


def test_bundle_warns_of_identical_members(ledgate: Ledgate, files: Path) -> None:
    (files / "c.onnx").write_bytes((files / "a.onnx").read_bytes())
    result = ledgate("bundle", *members(files), "--out", files / "out")
    assert result.status == 0
    assert "warning: a.onnx and c.onnx give identical answers" in result.out


def damage(name: str, content: bytes) -> Callable[[Path], None]:
    """Writes something else into a file of the folder."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def nothing(folder: Path) -> None:
    """Leaves the files as they are."""


def assert_refused(result: Result, command: str, reason: str, status: int = 1) -> None:
    """Nothing on standard output, and one line that says why; status 2 where the call was wrong by itself."""
    assert result.status == status
    assert result.refusal.startswith(f"ledgate {command}: ")
    assert re.search(reason, result.refusal), result.refusal


@pytest.mark.parametrize(
    ("before", "words", "status", "reason"),
    [
        (damage("b.onnx", b"text"), [], 1, r"member .*/b\.onnx: expected an ONNX model, found bytes that are none"),
        (
            damage("b.onnx", make_model(1, batch=4).SerializeToString()),
            [],
            1,
            r"member .*/b\.onnx: expected an open batch axis, found it fixed to 4 in 'images'",
        ),
        (remove("b.onnx"), [], 1, r"member .*/b\.onnx: expected a file, found none"),
        (damage("out", b""), [], 1, r"/out: expected a new folder, found an existing one"),
        (nothing, ["--mean", "0.5"], 2, r"--mean and --std: expected both or neither, found --mean alone"),
        (nothing, ["--mean=0.5,0.5", "--std=1"], 1, r"--mean: expected 1 number, found 2"),
        (nothing, ["--outputs", "probabilities"], 1, r"/a\.onnx: expected a trailing softmax to cut back"),
        (nothing, ["--labels", "nowhere.txt"], 1, r"nowhere\.txt: expected a file, found none"),
        (nothing, ["--labels", "."], 1, r"\.: expected a file, found a folder"),
        (damage("labels.txt", b"one\ntwo\n"), ["--labels", "labels.txt"], 1, r"labels: expected 10 names, .*, found 2"),
        (damage("labels.txt", b"\xff\n" * 10), ["--labels", "labels.txt"], 1, r"labels\.txt: expected text in UTF-8"),
        (nothing, ["--member", "a.onnx"] * 7, 1, r"members: expected at most 9 for 10 classes, found 10; .* singular"),
    ],
)
def test_bundle_refuses_in_one_line(
    ledgate: Ledgate,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Path], None],
    words: list[str],
    status: int,
    reason: str,
) -> None:
    monkeypatch.chdir(files)
    before(files)
    listing = sorted(files.iterdir())
    for json_too in ([], ["--json"]):
        result = ledgate("bundle", *members(files), "--out", files / "out", *words, *json_too)
        assert_refused(result, "bundle", reason, status)
    assert sorted(files.iterdir()) == listing


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["bundle", "--out", "out"], "the following arguments are required: --member"),
        (["bundle", "--member", "a.onnx"], "the following arguments are required: --out"),
        (
            ["bundle", "--member", "a", "--out", "o", "--mean", "0.5,x"],
            "argument --mean: invalid numbers value: '0.5,x'",
        ),
        (["bundle", "--member", "a", "--out", "o", "--outputs", "odds"], "argument --outputs: invalid choice: 'odds'"),
        (
            ["calibrate", "b", "--clean", "c.npz"],
            "one of the arguments --target-fpr --target-tpr --youden --threshold is required",
        ),
        (
            ["calibrate", "b", "--clean", "c.npz", "--target-fpr", "0.1", "--threshold", "-1"],
            "argument --threshold: not allowed with argument --target-fpr",
        ),
        (["calibrate", "b", "--target-fpr", "0.1"], "the following arguments are required: --clean"),
        (
            ["calibrate", "b", "--clean", "c", "--target-fpr", "low"],
            "argument --target-fpr: invalid float value: 'low'",
        ),
        (["inspect"], "the following arguments are required: BUNDLE"),
    ],
)
def test_usage_errors(ledgate: Ledgate, words: list[str], reason: str) -> None:
    result = ledgate(*words)
    assert result.status == 2
    assert result.refusal.startswith(f"ledgate {words[0]}: {reason}")


@pytest.fixture
def made(ledgate: Ledgate, files: Path) -> Path:
    """A bundle of the three members."""
    assert ledgate("bundle", *members(files), "--out", files / "out", "--labels", files / "labels.txt").status == 0
    return files / "out"


def test_calibrate(ledgate: Ledgate, files: Path, made: Path) -> None:
    words = ["--clean", files / "clean.npz", "--adversarial", files / "attacked.npz", "--target-fpr", "0.2"]
    result = ledgate("calibrate", made, *words, "--report", files / "report", "--device", "cpu")
    assert result.status == 0
    calibration = Calibration.load(made / "calibration.json")
    assert calibration.confidence is not None
    assert calibration.attacks[0].tpr is not None
    lines = result.out.splitlines()
    assert lines[0] == f"threshold {calibration.threshold:.6g} on log_diversity, as TargetFpr(0.2, delta=0.05)"
    assert lines[1] == (
        "At most 20 % of honest images are flagged, with 95 % confidence, as long as they are drawn like the 100 that "
        "chose the threshold."
    )
    assert lines[2].startswith(
        f"confidence: temperature {calibration.confidence.temperature:.3g}, fitted on 100 images"
    )
    row, detection, comparison = [line for line in lines if line.startswith("| noise-0.25 ")]
    assert str(calibration.attacks[0].flagged) in row
    assert str(calibration.attacks[0].auc) in row
    assert f"{100 * calibration.attacks[0].tpr[2]:.1f} %" in detection
    assert [cell.strip() for cell in comparison.split("|")[2:-1]] == [
        f"{evidence.rows[0].every.auc.value:.3f}" for evidence in calibration.comparison
    ]
    (recommended,) = [line for line in lines if line.startswith("recommended score: ")]
    assert "no attack was seen in fitting" in recommended
    # Noise on noise is no attack: nothing tells the two apart, and that is said where nobody misses it.
    assert result.err.startswith(
        "warning: NO ATTACK IS DETECTED better than chance by log_diversity: "
        f"noise-0.25 (AUC {calibration.attacks[0].auc.value:.3f})"
    )
    assert lines[-2:] == [f"report: {files / 'report' / 'report.html'}", f"next: ledgate serve {made}"]
    assert (files / "report" / "roc.png").exists()
    assert max(len(line) for line in lines if line.startswith("|")) < 150


def test_calibrate_as_json(ledgate: Ledgate, files: Path, made: Path) -> None:
    words = ["--clean", files / "clean.npz", "--adversarial", files / "attacked.npz", "--target-tpr", "0.5"]
    result = ledgate("calibrate", made, *words, "--device", "cpu", "--json", "--seed", "3")
    assert result.err.startswith("warning: NO ATTACK IS DETECTED")
    document = json.loads(result.out)
    assert document == json.loads((made / "calibration.json").read_text())
    assert document["target"] == {"kind": "tpr", "rate": 0.5, "delta": 0.05}
    assert document["seed"] == 3
    assert [attack["name"] for attack in document["attacks"]] == ["noise-0.25"]


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["--target-fpr", "0.2"], {"kind": "fpr", "rate": 0.2, "delta": 0.05}),
        (["--target-fpr", "0.2", "--delta", "0.1"], {"kind": "fpr", "rate": 0.2, "delta": 0.1}),
        (["--target-fpr", "0.2", "--on-average"], {"kind": "mean_fpr", "rate": 0.2}),
        (["--target-tpr", "0.5"], {"kind": "tpr", "rate": 0.5, "delta": 0.05}),
        (["--youden"], {"kind": "youden"}),
    ],
)
def test_targets(ledgate: Ledgate, files: Path, made: Path, words: list[str], target: dict[str, Any]) -> None:
    adversarial = ["--adversarial", files / "attacked.npz"]
    result = ledgate("calibrate", made, "--clean", files / "clean.npz", *adversarial, *words, "--json")
    assert json.loads(result.out)["target"] == target


def test_another_score(ledgate: Ledgate, files: Path, made: Path) -> None:
    ImageSet(images=make_images(400, seed=3)).save(files / "many.npz")
    words = ["--clean", files / "many.npz", "--target-fpr", "0.2", "--score", "typicality", "--fit-fraction", "0.6"]
    result = ledgate("calibrate", made, *words, "--device", "cpu")
    calibration = Calibration.load(made / "calibration.json")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"threshold {calibration.threshold:.6g} on typicality, as TargetFpr(0.2, delta=0.05)")
    assert "confidence: none: the clean images have no labels" in result.out
    assert calibration.fitted is not None
    assert calibration.fitted.n == 120
    assert f"threshold    {calibration.threshold:.6g} on typicality" in ledgate("inspect", made).out


def test_images_that_repeat_are_counted_once(ledgate: Ledgate, files: Path, made: Path) -> None:
    images = make_images(200)
    ImageSet(images=np.concatenate([images, images[:30]])).save(files / "twice.npz")
    result = ledgate("calibrate", made, "--clean", files / "twice.npz", "--target-fpr", "0.2", "--device", "cpu")
    assert "30 clean images did not count: of several images of one source, one does" in result.out
    assert "like the 100 that chose the threshold" in result.out


@pytest.mark.parametrize(
    ("word", "written"), [("--threshold=-inf", "-Infinity"), ("--threshold=-1.5e-3", -0.0015), ("--threshold=-2", -2.0)]
)
def test_a_threshold_of_ones_own(ledgate: Ledgate, files: Path, made: Path, word: str, written: object) -> None:
    document = ledgate("calibrate", made, "--clean", files / "clean.npz", word, "--device", "cpu", "--json").document
    assert document["threshold"] == written
    assert document["target"] == {"kind": "explicit", "value": written}
    assert document["attacks"] == []


def test_a_report_file_of_its_own(ledgate: Ledgate, files: Path, made: Path) -> None:
    ImageSet(images=make_images(50, seed=9), source_index=np.arange(200, 250)).save(files / "more.npz")
    words = ["--clean", files / "clean.npz", "--report-clean", files / "more.npz", "--target-fpr", "0.2", "--json"]
    document = ledgate("calibrate", made, *words, "--device", "cpu").document
    assert len(document["clean_scores"]) == 200
    assert document["false_positives"]["n"] == 50


@pytest.mark.parametrize(
    ("before", "words", "status", "reason"),
    [
        (nothing, ["--target-fpr", "0.01"], 1, r"TargetFpr\(0.01, .*\): expected at least 299 clean images .*, found"),
        (nothing, ["--target-fpr", "1.5"], 2, r"target FPR: expected a number between 0 and 1, found 1.5"),
        (nothing, ["--target-fpr", "0.2", "--delta", "0"], 2, r"delta: expected a number between 0 and 1, found 0"),
        (nothing, ["--youden", "--on-average"], 2, r"--on-average: expected --target-fpr with it, found another"),
        (nothing, ["--target-fpr", "0.2", "--on-average", "--delta", "0.1"], 2, r"--delta: .*, found --on-average"),
        (nothing, ["--threshold=-1", "--delta", "0.1"], 2, r"--delta: expected --target-fpr or --target-tpr, found a"),
        (nothing, ["--target-fpr", "0.2", "--fit-fraction", "0.3"], 2, r"--fit-fraction: .* found log_diversity"),
        (nothing, ["--threshold=-1", "--per-class"], 2, r"per class: expected .*, found Explicit\(-1\)"),
        (nothing, ["--target-fpr", "0.2", "--per-class"], 1, r"class 0 \(kind 0\): .*expected at least 24 clean"),
        (nothing, ["--youden"], 1, r"Youden\(\): expected clean and attacked images, found none of one kind"),
        (nothing, ["--target-fpr", "0.2", "--score", "typicality"], 1, r"typicality: expected at least 100 clean"),
        (nothing, ["--target-tpr", "0.9"], 1, r"TargetTpr\(.*\): expected attacked images, found none"),
        (nothing, ["--threshold", "nan"], 2, r"threshold: expected a number, found nan"),
        (nothing, ["--target-fpr", "0.2", "--report-fraction", "1"], 2, r"report fraction: expected a number between"),
        (nothing, ["--target-fpr", "0.2", "--seed", "-1"], 2, r"seed: expected at least 0, found -1"),
        (nothing, ["--target-fpr", "0.2", "--device", "tpu"], 2, r"device: expected auto, cpu, cuda or .*, found"),
        (remove("clean.npz"), ["--target-fpr", "0.2"], 1, r"/clean\.npz: expected an images .npz, found no file"),
        (damage("clean.npz", b"text"), ["--target-fpr", "0.2"], 1, r"/clean\.npz: expected an .npz archive"),
        (nothing, ["--target-fpr", "0.2", "--adversarial", "nowhere.npz"], 1, r"nowhere\.npz: expected an images .npz"),
        (
            nothing,
            ["--target-fpr", "0.2", "--adversarial", "attacked.npz", "attacked.npz"],
            1,
            r"attacked\.npz: expected one file for each attack or kind, found another of 'noise-0.25'",
        ),
        (nothing, ["--target-fpr", "0.2", "--report-clean", "clean.npz"], 1, r"report images: .*, found 200 in both"),
        (nothing, ["--target-fpr", "0.2", "--report", "clean.npz"], 1, r"clean\.npz: expected a folder for the report"),
        (damage("out/member_1.onnx", b"text"), ["--target-fpr", "0.2"], 1, r"member_1\.onnx: expected SHA-256"),
        (damage("out/bundle.json", b"{}"), ["--target-fpr", "0.2"], 1, r"bundle\.json: labels: Field required"),
    ],
)
def test_calibrate_refuses_in_one_line(
    ledgate: Ledgate,
    files: Path,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Path], None],
    words: list[str],
    status: int,
    reason: str,
) -> None:
    monkeypatch.chdir(files)
    before(files)
    listing = sorted(made.iterdir())
    result = ledgate("calibrate", made, "--clean", files / "clean.npz", *words)
    assert_refused(result, "calibrate", reason, status)
    assert sorted(made.iterdir()) == listing


def test_inspect(ledgate: Ledgate, files: Path, made: Path) -> None:
    bundle = Bundle.open(made)
    result = ledgate("inspect", made)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        f"{made}: every digest matches",
        "members      3",
        "classes      10: " + ", ".join(f"kind {index}" for index in range(CLASSES)),
        "images       1 x 8 x 8, uint8 or float32 in [0, 1]",
        f"digest       {bundle.digest}",
        f"made by      {bundle.manifest.provenance['command']}",
        "calibration  none: images are scored, and never flagged; ledgate calibrate makes one",
    ]
    ledgate("calibrate", made, "--clean", files / "clean.npz", "--target-fpr", "0.2", "--device", "cpu")
    text = ledgate("inspect", made).out
    calibration = Calibration.load(made / "calibration.json")
    assert f"calibration  {calibration.digest}\n" in text
    assert f"threshold    {calibration.threshold:.6g} on log_diversity, as TargetFpr(0.2, delta=0.05)\n" in text
    assert "measured on  CPUExecutionProvider float32\n" in text
    assert str(calibration.false_positives) in text


def test_inspect_as_json(ledgate: Ledgate, files: Path, made: Path) -> None:
    manifest = json.loads((made / "bundle.json").read_text())
    assert ledgate("inspect", made, "--json").document == {"manifest": manifest, "calibration": None}
    ledgate("calibrate", made, "--clean", files / "clean.npz", "--threshold=-inf", "--device", "cpu")
    document = ledgate("inspect", made, "--json").document
    assert document["calibration"] == json.loads((made / "calibration.json").read_text())
    assert document["calibration"]["threshold"] == "-Infinity"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (remove("out/bundle.json"), r"bundle\.json: expected a file, found none"),
        (damage("out/bundle.json", b"\xff"), r"bundle\.json: content: Invalid JSON"),
        (damage("out/member_2.onnx", b""), r"member_2\.onnx: expected SHA-256"),
        (damage("out/calibration.json", b"{}"), r"calibration\.json: score: Field required"),
        (damage("out/probes.npz", b""), r"calibration\.json: expected a file, found none"),
    ],
)
def test_inspect_refuses_in_one_line(
    ledgate: Ledgate, files: Path, made: Path, before: Callable[[Path], None], reason: str
) -> None:
    before(files)
    for words in ([], ["--json"]):
        assert_refused(ledgate("inspect", made, *words), "inspect", reason)


def test_inspect_of_no_bundle(ledgate: Ledgate, files: Path) -> None:
    reason = r"nowhere: expected a bundle's folder, found nothing"
    assert_refused(ledgate("inspect", files / "nowhere"), "inspect", reason)
    assert_refused(
        ledgate("inspect", files / "a.onnx"), "inspect", r"a\.onnx: expected a bundle's folder, found a file"
    )


def test_in_processes_of_their_own(files: Path) -> None:
    """As a script runs them: JSON alone on standard output, nothing on standard error, and 1 with a line."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ledgate", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    made = run("bundle", *members(files), "--out", files / "out", "--json")
    calibrated = run("calibrate", files / "out", "--clean", files / "clean.npz", "--target-fpr", "0.2", "--json")
    for result in (made, calibrated):
        assert (result.returncode, result.stderr) == (0, "")
        assert isinstance(json.loads(result.stdout), dict)
    again = run("bundle", *members(files), "--out", files / "out")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == (
        f"ledgate bundle: {files / 'out'}: expected a new folder, found an existing one; remove it or choose another "
        "name\n"
    )


def test_the_calibration_records_its_files(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ImageSet(images=make_images(200)).save(tmp_path / "clean.npz")
    words = ["calibrate", str(bundle.path), "--clean", str(tmp_path / "clean.npz"), "--target-fpr", "0.1", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["provenance"]["files"]
    digest = hashlib.sha256((tmp_path / "clean.npz").read_bytes()).hexdigest()
    assert found == [{"name": "clean.npz", "sha256": digest}]


def save_folder(folder: Path, images: Any) -> Path:
    for number, image in enumerate(images):
        path = folder / f"kind {number % CLASSES}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().astype(np.uint8)).save(path)
    return folder


def test_calibrate_on_folders(ledgate: Ledgate, files: Path, made: Path) -> None:
    images = make_images(200)
    clean, dark = save_folder(files / "clean", images), save_folder(files / "dark", images / 8)
    words = ["--clean", clean, "--adversarial", dark, "--target-fpr", "0.2", "--device", "cpu", "--json"]
    document = ledgate("calibrate", made, *words).document
    assert [attack["name"] for attack in document["attacks"]] == ["dark"]
    assert document["attacks"][0]["flagged"]["n"] == 100
    assert document["accuracy"]["n"] == 100
    names = [file["name"] for file in document["provenance"]["files"]]
    assert names == ["clean", "dark"]


def test_calibrate_reports_on_images_nobody_attacked(ledgate: Ledgate, files: Path, made: Path) -> None:
    words = ["--clean", files / "clean.npz", "--target-fpr", "0.2", "--device", "cpu"]
    result = ledgate("calibrate", made, *words, "--shifts", "--ood", files / "attacked.npz")
    assert (result.status, result.err) == (0, "")
    rows = [line.split("|")[1:4] for line in result.out.splitlines() if line.startswith(("| clean, ch", "| other k"))]
    assert [" ".join(cell.strip() for cell in row) for row in rows] == [
        *(f"clean, changed {name} 100" for name in ("noise 0.02", "noise 0.05", "blur 1", "brightness x0.8")),
        *(f"clean, changed {name} 100" for name in ("brightness x1.2", "JPEG 75", "JPEG 50", "rotation 10")),
        *("clean, changed rotation 20 100", "other kind noise-0.25 200"),
    ]
    calibration = Calibration.load(made / "calibration.json")
    assert len(calibration.changed) == 9
    assert calibration.foreign[0].name == "noise-0.25"


def score_log(path: Path, bundle: Path) -> Path:
    """As a server writes it."""
    head = {"time": "t", "bundle": Bundle.open(bundle, calibrated=False).digest[:16], "score_name": "log_diversity"}
    head |= {"path": "CPUExecutionProvider float32"}
    scores = np.random.default_rng(0).normal(-2, 1, size=200).tolist()
    path.write_text("".join(f"{json.dumps({**head, 'score': score})}\n" for score in scores))
    return path


def test_calibrate_on_a_score_log_warns(ledgate: Ledgate, files: Path, made: Path) -> None:
    words = ["--clean", score_log(files / "log.jsonl", made), "--target-fpr", "0.2", "--device", "cpu", "--json"]
    result = ledgate("calibrate", made, *words, "--assume-clean")
    assert result.status == 0
    assert result.err.startswith("warning: calibrated on scores alone")
    assert json.loads(result.out)["provenance"]["assumed"].startswith("calibrated on scores alone")
    again = ledgate("inspect", made)
    assert "assumed      calibrated on scores alone" in again.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "log.jsonl: expected images, found scores alone, .* --assume-clean takes them for it"),
        (["--assume-clean", "--shifts"], "--shifts: expected images in --clean with it, found scores alone"),
        (["--assume-clean", "--report", "r"], "--report: expected images in --clean with it, found scores alone"),
        (["--assume-clean", "--adversarial", "attacked.npz"], "--adversarial: expected images in --clean with it"),
    ],
)
def test_a_score_log_is_no_images(
    ledgate: Ledgate, files: Path, made: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(files)
    log = score_log(files / "log.jsonl", made)
    result = ledgate("calibrate", made, "--clean", log, "--target-fpr", "0.2", "--device", "cpu", *words)
    assert_refused(result, "calibrate", reason)
    assert not (made / "calibration.json").exists()
