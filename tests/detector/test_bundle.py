"""Bundles: whole or refused, whatever was done to their files, and never another exception than ours."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle, Manifest, write_bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.detector import Detector
from detector.errors import BundleError, CalibrationError, InputError, LedgateError, MemberError
from detector.imageset import ImageSet
from detector.targets import Explicit
from tests.conftest import CLASSES, MEMBERS, SHAPE, make_images, make_members, make_model

FILES = ["bundle.json", "member_0.onnx", "member_1.onnx", "member_2.onnx", "calibration.json", "probes.npz"]
LABELS = [str(index) for index in range(CLASSES)]


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """What somebody does who can write the folder: changes a document and makes it a new digest."""
    document = json.loads(path.read_text())
    change(document)
    document["digest"] = ""
    blank = json.dumps(document)
    path.write_text(blank.replace('"digest": ""', f'"digest": "{hashlib.sha256(blank.encode()).hexdigest()}"'))


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_is_written_is_read(bundle: Bundle, members: list[bytes]) -> None:
    assert bundle == Bundle.open(bundle.path)
    assert (bundle.name, bundle.member_count, bundle.class_count) == ("linear", MEMBERS, CLASSES)
    assert bundle.input.shape == SHAPE
    assert bundle.labels[3] == "class 3"
    assert bundle.manifest.provenance == {"command": "test"}
    assert bundle.calibration is None
    assert bundle.probes is None
    assert sorted(files_of(bundle.path)) == sorted(FILES[:4])
    for content, member in zip(bundle.members, bundle.manifest.members, strict=True):
        assert (bundle.path / member.file).read_bytes() == content
        assert hashlib.sha256(content).hexdigest() == member.sha256


def test_the_digest_is_that_of_the_manifest(bundle: Bundle) -> None:
    content = (bundle.path / "bundle.json").read_bytes()
    assert bundle.digest == hashlib.sha256(content.replace(bundle.digest.encode(), b"")).hexdigest()


def test_a_calibration_belongs_to_members_and_input_only(tmp_path: Path) -> None:
    """Renaming classes or writing the bundle again keeps it; other members, or another order, do not."""
    one = write_bundle(tmp_path / "one", members=make_members(), labels=LABELS, provenance={})
    two = write_bundle(tmp_path / "two", members=make_members(), labels=LABELS[::-1], provenance={"a": 1})
    three = write_bundle(tmp_path / "three", members=make_members()[::-1], labels=LABELS, provenance={})
    assert one.digest != two.digest
    assert one.members_digest == two.members_digest != three.members_digest


def test_calibrated(calibrated: Bundle) -> None:
    assert sorted(files_of(calibrated.path)) == sorted(FILES)
    assert calibrated.calibration is not None
    assert calibrated.calibration.members_digest == calibrated.members_digest


def damages(content: bytes, name: str) -> list[bytes]:
    """The content with one byte changed, at a seeded choice of places and everywhere that matters most."""
    rng = np.random.default_rng(0)
    places = {0, len(content) - 1, *rng.choice(len(content), size=min(100, len(content)), replace=False).tolist()}
    if name.endswith(".json"):
        digest = content.rindex(b'"digest"')
        places |= {digest + 3, *range(digest + 9, len(content), 5)}
        blanks = [place for place, byte in enumerate(content) if byte in b" \n"]
        places |= set(blanks[:: max(1, len(blanks) // 30)])
    changed = []
    for place in sorted(places):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        changed.append(bytes(damaged))
    return [*changed, content[:-1], content + b"\0", content + b"\n", content[: len(content) // 2], b""]


@pytest.mark.parametrize("name", FILES)
def test_any_changed_byte_is_refused(calibrated: Bundle, name: str) -> None:
    file = calibrated.path / name
    for damaged in damages(file.read_bytes(), name):
        file.write_bytes(damaged)
        with pytest.raises(LedgateError) as caught:
            Bundle.open(calibrated.path)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_blank_for_a_blank_is_refused(calibrated: Bundle) -> None:
    """Changes that JSON does not see."""
    for name in ("bundle.json", "calibration.json"):
        file = calibrated.path / name
        content = file.read_bytes()
        for old, new in ((b"\n", b" "), (b"  ", b" \t"), (b": ", b":\n"), (b"\n", b"\r\n")):
            file.write_bytes(content.replace(old, new, 1))
            with pytest.raises(LedgateError, match="does not match its digest"):
                Bundle.open(calibrated.path)
        file.write_bytes(content)
    Bundle.open(calibrated.path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", ["nothing", "folder", "pipe", "dangling link", "another member"])
def test_a_file_that_is_none(calibrated: Bundle, name: str, instead: str) -> None:
    file = calibrated.path / name
    file.unlink()
    match instead:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "dangling link":
            file.symlink_to(calibrated.path / "nowhere")
        case "another member":
            file.write_bytes(make_members(5)[4])
    with pytest.raises(LedgateError, match=name):
        Bundle.open(calibrated.path)


def test_an_interrupted_calibration_is_refused_until_it_is_made_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the probes and the calibration, the first time and the second."""

    def run(threshold: float) -> None:
        images = ImageSet(images=make_images(40, seed=int(-threshold)))
        calibrate(bundle.path, clean=images, target=Explicit(threshold), device="cpu")

    def die(self: Calibration, path: Path) -> Calibration:
        raise KeyboardInterrupt

    for threshold in (-1.0, -2.0):
        with monkeypatch.context() as patch:
            patch.setattr(Calibration, "save", die)
            with pytest.raises(KeyboardInterrupt):
                run(threshold)
        with pytest.raises(CalibrationError):
            Bundle.open(bundle.path)
        run(threshold)
        calibration = Bundle.open(bundle.path).calibration
        assert calibration is not None
        assert calibration.threshold == threshold


def test_a_calibration_of_other_members_is_refused(calibrated: Bundle, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", members=make_members(4)[1:], labels=LABELS, provenance={})
    for name in FILES[4:]:
        shutil.copy(calibrated.path / name, other.path / name)
    with pytest.raises(CalibrationError, match=r"belongs to other members .*; .*: ledgate calibrate"):
        Bundle.open(other.path)
    assert Bundle.open(other.path, calibrated=False).calibration is None


def test_probes_of_another_calibration_are_refused(calibrated: Bundle) -> None:
    before = (calibrated.path / "probes.npz").read_bytes()
    images = ImageSet(images=make_images(40, seed=9))
    calibrate(calibrated.path, clean=images, target=Explicit(-1.0), device="cpu")
    (calibrated.path / "probes.npz").write_bytes(before)
    with pytest.raises(CalibrationError, match=r"probes.npz: does not match its digest"):
        Bundle.open(calibrated.path)


def field(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets a field of a document."""

    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (field("members", 0, "file", value="../x"), "members.0.file: String should match pattern"),
        (field("members", 0, "file", value="/etc/passwd"), "members.0.file"),
        (field("members", 0, "file", value="member_0.onnx/../../x.onnx"), "members.0.file"),
        (field("members", 0, "file", value="member_0.onnx\n"), "members.0.file"),
        (field("members", 0, "file", value="member_0.onnx\0"), "members.0.file"),
        (field("members", 0, "file", value="member_9.onnx"), "member_9.onnx: expected a file, found none"),
        (field("members", 0, "sha256", value="0" * 64), "member_0.onnx: expected SHA-256 000000000000..., found"),
        (field("members", value=[]), "expected 3 members and 10 labels, found 0 and 10"),
        (field("member_count", value=2), "expected 2 members and 10 labels, found 3 and 10"),
        (field("class_count", value=11), "expected 3 members and 11 labels, found 3 and 10"),
        (field("class_count", value=3), "expected at most 2 for 3 classes, found 3"),
        (field("labels", value=["a"]), "expected 3 members and 10 labels, found 3 and 1"),
        (field("input", "shape", value=[1, 4, 16]), r"member_0.onnx: expected input \(1, 4, 16\), found \(1, 8, 8\)"),
        (field("input", "shape", value=[1, 8]), "input.shape"),
        (field("input", "dtype", value="float16"), "input.dtype"),
        (field("input", "high", value=255), "input.high"),
        (field("format", value=2), "format: Input should be 1, found 2"),
        (field("surprise", value=1), "surprise: Extra inputs are not permitted"),
        (lambda document: document.pop("provenance"), "provenance: Field required"),
    ],
)
def test_a_manifest_with_a_new_digest(bundle: Bundle, change: Callable[[dict[str, Any]], None], reason: str) -> None:
    reseal(bundle.path / "bundle.json", change)
    with pytest.raises(BundleError, match=reason):
        Bundle.open(bundle.path)


def test_a_hostile_member_with_a_new_digest(bundle: Bundle) -> None:
    content = make_model(batch=4).SerializeToString()
    (bundle.path / "member_1.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    reseal(bundle.path / "bundle.json", field("members", 1, "sha256", value=digest))
    with pytest.raises(MemberError, match=r"member .*member_1.onnx: expected an open batch axis"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (field("threshold", value="NaN"), "expected numbers for the threshold and the clean scores, found nan"),
        (field("clean_scores", 0, value="NaN"), "found nan"),
        (field("clean_scores", value=[]), "clean_scores: "),
        (field("clean_scores", value=[-1.0, -2.0]), "clean_scores: expected them sorted"),
        (field("score", value="odds"), "score: expected one of log_diversity, .*, found odds"),
        (field("score", value="typicality"), "fitted: expected typicality to be fitted"),
        (field("thresholds", value=[-1.0] * 10), "expected one threshold, or one for each class"),
        (field("threshold", value=None), "expected one threshold, or one for each class"),
        (field("confidence", value={"temperature": 0.0}), "confidence.temperature: "),
        (field("target", value=None), "target: .*expected a kind of fpr, mean_fpr, tpr, youden, explicit"),
        (field("target", value={"kind": "auc"}), "expected a kind of fpr, mean_fpr, tpr, youden, explicit"),
        (field("target", value={"kind": ["fpr"]}), "expected a kind of fpr, mean_fpr, tpr, youden, explicit"),
        (field("target", value={"kind": "fpr"}), "expected the fields of that kind"),
        (field("target", value={"kind": "fpr", "rate": None}), "expected the fields of that kind"),
        (field("target", value={"kind": "fpr", "rate": "high"}), "target: "),
        (field("target", value={"kind": "fpr", "rate": 2.0}), "target FPR: expected a number between 0 and 1"),
        (field("target", value={"kind": "explicit", "value": "NaN"}), "threshold: expected a number, found nan"),
        (field("probes", "sha256", value="0" * 64), "probes.npz: does not match its digest"),
        (field("members_digest", value="0" * 64), "belongs to other members"),
        (field("format", value=3), "format: Input should be 1 or 2, found 3"),
    ],
)
def test_a_calibration_with_a_new_digest(
    calibrated: Bundle, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    reseal(calibrated.path / "calibration.json", change)
    with pytest.raises(CalibrationError, match=reason):
        Bundle.open(calibrated.path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(50), "array", "shapes", "objects"])
def test_probes_with_a_new_digest(calibrated: Bundle, content: bytes | str, tmp_path: Path) -> None:
    file = calibrated.path / "probes.npz"
    match content:
        case bytes():
            file.write_bytes(content)
        case "array":
            np.save(tmp_path / "array.npy", np.zeros(3))
            file.write_bytes((tmp_path / "array.npy").read_bytes())
        case "shapes":
            np.savez(file, images=make_images(3), logits=np.zeros(3), scores=np.zeros((2, 1)))
        case "objects":
            np.savez(file, images=make_images(3), logits=np.zeros(3), scores=np.array([None] * 3))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    reseal(calibrated.path / "calibration.json", field("probes", "sha256", value=digest))
    with pytest.raises(CalibrationError, match=r"probes.npz: expected "):
        Bundle.open(calibrated.path)


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: expected a bundle's folder, found nothing"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"bundle.json: expected a file, found none"):
        Bundle.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"file: expected a bundle's folder, found a file"):
        Bundle.open(str(tmp_path / "file"))


def test_an_existing_folder_is_refused_and_left_alone(bundle: Bundle, members: list[bytes]) -> None:
    before = files_of(bundle.path)
    with pytest.raises(InputError, match="expected a new folder, found an existing one"):
        write_bundle(bundle.path, members=members, labels=LABELS, provenance={})
    assert files_of(bundle.path) == before


def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, members: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Manifest, path: Path) -> Manifest:
        assert (path.parent / "member_2.onnx").exists()
        raise OSError("no space left on device")

    monkeypatch.setattr(Manifest, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bundle(tmp_path / "out", members=members, labels=LABELS, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_would_not_open_does_not_appear(
    tmp_path: Path, members: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Bundle:
        raise BundleError(f"{path}: refused")

    monkeypatch.setattr(Bundle, "open", refuse)
    with pytest.raises(BundleError, match="refused"):
        write_bundle(tmp_path / "out", members=members, labels=LABELS, provenance={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("members", "labels", "error", "reason"),
    [
        (list, LABELS, InputError, "members: expected at least 2, found none"),
        (lambda: make_members(1), LABELS, InputError, "members: expected at least 2, found 1"),
        (lambda: make_members(10), LABELS, InputError, "expected at most 9 for 10 classes, found 10"),
        (lambda: [b"", b""], LABELS, MemberError, "member member_0: expected an ONNX model"),
        (make_members, LABELS[1:], InputError, "labels: expected 10 names"),
    ],
    ids=["none", "one", "too many", "no ONNX", "labels"],
)
def test_what_is_refused_is_not_written(
    tmp_path: Path, members: Callable[[], list[bytes]], labels: list[str], error: type[LedgateError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        write_bundle(tmp_path / "out", members=members(), labels=labels, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_moved_and_linked_bundle_is_the_same(calibrated: Bundle, tmp_path: Path) -> None:
    digest = calibrated.digest
    moved = shutil.move(calibrated.path, tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved)
    opened = Detector.open(tmp_path / "link", device="cpu", threads=1).bundle
    assert (opened.digest, opened.name) == (digest, "link")
