"""Export: ONNX members that answer as torch does, and a bundle with its history."""

import logging
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from detector.bundle import Bundle
from detector.errors import InputError, MemberError, RunError
from detector.imageset import ImageSet, as_floats
from training import Run, TrainConfig, export
from training.ensemble import Member
from training.exporter import check_same_logits, commit, to_onnx
from training.networks import build


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(run, tmp_path_factory.mktemp("export") / "bundle")


def session(content: bytes) -> Any:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [1, 3, 90])
def test_members_answer_as_in_torch(run: Run, bundle: Bundle, validation: ImageSet, size: int) -> None:
    ensemble, _ = run.trained()
    with torch.inference_mode():
        expected = ensemble(torch.from_numpy(validation.images[:size])).numpy()
    found = [session(content).run(["logits"], {"images": validation.images[:size]})[0] for content in bundle.members]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, atol=1e-5)


def test_a_member_is_one_plain_graph(bundle: Bundle) -> None:
    for content in bundle.members:
        model = onnx.load_model_from_string(content)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
        assert not model.functions
        assert all(not tensor.external_data for tensor in model.graph.initializer)
        (images,), (logits,) = model.graph.input, model.graph.output
        assert (images.name, logits.name) == ("images", "logits")
        dimensions = images.type.tensor_type.shape.dim
        assert dimensions[0].dim_param == "batch"
        assert [dimension.dim_value for dimension in dimensions[1:]] == [1, 8, 8]


def test_a_member_tells_nothing_of_the_machine_it_was_made_on(bundle: Bundle) -> None:
    """The exporter notes stack traces, with local paths, at every node."""
    for content in bundle.members:
        shown = str(onnx.load_model_from_string(content))
        for trace in ("doc_string", "metadata_props", ".py", "File", "training."):
            assert trace not in shown, trace
        assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.parametrize(
    ("arch", "normalise"),
    [
        ("cnn", "pixel"),
        ("resnet20", "channel"),
        *(pytest.param(f"resnet{depth}", "pixel", marks=pytest.mark.slow) for depth in (20, 32, 56, 110)),
    ],
)
def test_ours_export_with_their_normalisation(arch: str, normalise: str) -> None:
    shape = (3, 12, 16)
    torch.manual_seed(0)
    mean = torch.rand(shape) if normalise == "pixel" else torch.rand(3, 1, 1)
    member = Member(build(arch, shape, 7), mean, torch.full_like(mean, 0.3))
    images = torch.rand(64, *shape)
    with torch.no_grad():
        for _ in range(20):  # statistics of batch normalisation that are not those of a blank network
            member(images)
    content = to_onnx(member.eval(), shape)
    check_same_logits(arch, member, content, images.numpy())
    # The mean is in there: without it, the logits are others.
    bare = Member(member.network, torch.zeros_like(mean), member.std).eval()
    with pytest.raises(MemberError):
        check_same_logits(arch, bare, content, images.numpy())


def test_the_bundle_carries_its_history(run: Run, bundle: Bundle) -> None:
    assert bundle.labels == tuple("0123456789")
    assert (bundle.member_count, bundle.class_count, bundle.input.shape) == (3, 10, (1, 8, 8))
    assert bundle.calibration is None
    made = bundle.manifest.provenance
    assert TrainConfig(**made["config"]) == run.config
    assert made["seed"] == 3
    assert made["dataset"] == {"name": "digits", "split_seed": 0}
    assert {"ledgate", "torch", "onnx"} <= set(made["versions"])
    assert made["commit"] is None or len(made["commit"].removesuffix("-dirty")) == 40
    assert made["time"].endswith("+00:00")


def test_the_exporter_is_quiet(run: Run, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    ensemble, checkpoint = run.trained()
    with caplog.at_level(logging.WARNING):
        to_onnx(ensemble.members[0], checkpoint.image_shape)
    out, err = capfd.readouterr()
    assert (out, err, caplog.records) == ("", "", [])


def test_the_same_member_gives_the_same_bytes(run: Run) -> None:
    ensemble, checkpoint = run.trained()
    first, again = (to_onnx(ensemble.members[0], checkpoint.image_shape) for _ in range(2))
    assert first == again


def test_a_member_that_answers_differently_is_refused(run: Run, validation: ImageSet) -> None:
    ensemble, checkpoint = run.trained()
    content = to_onnx(ensemble.members[0], checkpoint.image_shape)
    check_same_logits("member_0", ensemble.members[0], content, as_floats(validation.images))
    with pytest.raises(MemberError, match="member member_0: expected torch's logits from ONNX Runtime, found them off"):
        check_same_logits("member_0", ensemble.members[1], content, as_floats(validation.images))


def test_nothing_is_written_when_a_member_differs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, checkpoint = run.trained()
    other = to_onnx(ensemble.members[1], checkpoint.image_shape)
    monkeypatch.setattr("training.exporter.to_onnx", lambda *_: other)
    with pytest.raises(MemberError, match="member member_0"):
        export(run, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused(run: Run, bundle: Bundle) -> None:
    with pytest.raises(InputError, match="expected a new folder, found an existing one"):
        export(run, bundle.path)


def test_an_unfinished_run_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "checkpoint.pt").unlink()
    with pytest.raises(RunError, match="expected a finished run, found 0 of 4 epochs; the 'ledgate train' command"):
        export(copied, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_the_commit_is_that_of_a_tracked_file(tmp_path: Path) -> None:
    file = tmp_path / "source.py"
    file.write_text("x = 1\n")

    def git(*words: str) -> str:
        who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert commit(file) is None
    git("init", "--quiet")
    assert commit(file) is None
    git("add", "source.py")
    git("commit", "--quiet", "--message=first")
    head = git("rev-parse", "HEAD")
    git("tag", "--annotate", "--message=tagged", "v1")
    assert commit(file) == head
    file.write_text("x = 2\n")
    assert commit(file) == f"{head}-dirty"
