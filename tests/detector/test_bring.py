"""Bring your own members: folded normalisation, cut softmax, and what is refused, against numpy by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import log_softmax, softmax

from detector.bring import bring
from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.detector import Detector
from detector.errors import InputError, LedgateError, MemberError
from detector.imageset import ImageSet
from detector.targets import TargetFpr
from tests.conftest import CLASSES, MEMBERS, SHAPE, linear_weights, make_images, make_model

node = helper.make_node
IMAGES = make_images(5, seed=3)
RGB = (3, 4, 5)


def saved(folder: Path, models: Sequence[Any]) -> list[Path]:
    """Models as files a.onnx, b.onnx, ..."""
    files = [folder / f"{chr(ord('a') + k)}.onnx" for k in range(len(models))]
    for file, model in zip(files, models, strict=True):
        file.write_bytes(model.SerializeToString())
    return files


def models_of(*tail: Any, constants: dict[str, ArrayLike] | None = None, **options: Any) -> list[Any]:
    """Three linear models of different weights, with these nodes from 'scores' to the output."""
    models = [make_model(seed, tail=list(tail), **options) for seed in range(MEMBERS)]
    for model in models:
        extra = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
        model.graph.initializer.extend(extra)
    return models


def linear(images: NDArray[np.float32], shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float64]:
    """What three linear members answer: (N, K, L)."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return np.stack([flat @ linear_weights(seed, shape=shape) for seed in range(MEMBERS)], axis=1)


def logits_of(bundle: Bundle, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return Detector(bundle, device="cpu", threads=1).logits(images)


def close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


CHANNELS = ([0.4, 0.5, 0.1], [0.2, 0.25, 0.5])


@pytest.mark.parametrize(
    ("opset", "mean", "std"),
    [
        *((opset, *CHANNELS) for opset in (7, 8, 9, 11, 13, 17, 20, 23)),
        (17, [0.5], [0.25]),
        (17, [0.0, 0.0, 0.0], [2.0]),
    ],
)
def test_normalisation_is_folded_in(tmp_path: Path, opset: int, mean: list[float], std: list[float]) -> None:
    images = make_images(5, shape=RGB)
    models = [make_model(seed, shape=RGB, opset=opset) for seed in range(MEMBERS)]
    bundle, notes = bring(tmp_path / "out", saved(tmp_path, models), mean=mean, std=std)
    by_hand = images.astype(np.float64).copy()
    for channel in range(3):
        by_hand[:, channel] -= mean[channel % len(mean)]
        by_hand[:, channel] /= std[channel % len(std)]
    close(logits_of(bundle, images), linear(by_hand.astype(np.float32), RGB))
    assert notes == [f"{name}.onnx: folded in mean {mean} and std {std}" for name in "abc"]
    assert bundle.manifest.provenance["changes"] == notes
    assert bundle.manifest.provenance["members"] == ["a.onnx", "b.onnx", "c.onnx"]


def test_weights_that_are_inputs_with_a_default_are_kept(tmp_path: Path) -> None:
    """As in files of 2018, whose format had no other weights."""
    models = [make_model(seed, opset=9) for seed in range(MEMBERS)]
    for model in models:
        model.ir_version = 3
        model.graph.input.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, [64, CLASSES]))
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, models), mean=[0.5], std=[0.5])
    close(logits_of(bundle, IMAGES), linear(2 * IMAGES - 1))


@pytest.mark.parametrize(
    ("mean", "std", "reason"),
    [
        ([0.5], None, "mean and std: expected both or neither, found mean alone"),
        (None, [0.5], "mean and std: expected both or neither, found std alone"),
        ([0.5, 0.5], [0.5], "--mean: expected 1 or 3 numbers, found 2"),
        ([0.5], [0.5] * 4, "--std: expected 1 or 3 numbers, found 4"),
        ([0.5], [0.0], r"--std: expected positive numbers, found \[0.0\]"),
        ([0.5], [0.5, -1.0, 0.5], "--std: expected positive numbers"),
        ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], r"--mean: expected numbers in units of \[0, 1\], .* by 255"),
        ([float("nan")], [0.5], "--mean: expected finite numbers"),
        ([1e300], [0.5], "--mean: expected finite numbers"),
        ([0.5], [float("inf")], "--std: expected finite numbers"),
    ],
)
def test_normalisation_that_does_not_fit(
    tmp_path: Path, mean: list[float] | None, std: list[float] | None, reason: str
) -> None:
    files = saved(tmp_path, [make_model(seed, shape=RGB) for seed in range(MEMBERS)])
    with pytest.raises(InputError, match=reason):
        bring(tmp_path / "out", files, mean=mean, std=std)
    assert not (tmp_path / "out").exists()


LAST = [node("Softmax", ["scores"], ["logits"], axis=-1)]
THEN = node("Softmax", ["scores"], ["p"], axis=1)


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
@pytest.mark.parametrize(
    ("tail", "constants", "opset"),
    [
        (LAST, {}, 17),
        ([node("Softmax", ["scores"], ["logits"])], {}, 11),
        ([node("Softmax", ["scores"], ["logits"])], {}, 13),
        ([node("Softmax", ["scores"], ["logits"])], {}, 8),
        ([THEN, node("Identity", ["p"], ["logits"])], {}, 17),
        ([THEN, node("Flatten", ["p"], ["logits"])], {}, 17),
        ([THEN, node("Reshape", ["p", "to"], ["logits"])], {"to": [0, -1]}, 17),
        (
            [
                node("Reshape", ["scores", "to"], ["wide"]),
                node("Softmax", ["wide"], ["p"], axis=1),
                node("Squeeze", ["p", "last"], ["q"]),
                node("Identity", ["q"], ["logits"]),
            ],
            {"to": [0, CLASSES, 1, 1], "last": [2, 3]},
            17,
        ),
    ],
    ids=["axis -1", "default axis of opset 11", "default axis of opset 13", "default axis of opset 8", "Identity",
         "Flatten", "Reshape", "Squeeze"],
)  # fmt: skip
def test_a_trailing_softmax_is_cut_back_to_its_logits(
    tmp_path: Path, tail: list[Any], constants: dict[str, ArrayLike], opset: int, outputs: Any
) -> None:
    files = saved(tmp_path, models_of(*tail, constants=constants, opset=opset))
    bundle, notes = bring(tmp_path / "out", files, outputs=outputs)
    close(logits_of(bundle, IMAGES), linear(IMAGES))
    assert notes == [f"{name}.onnx: cut the trailing softmax back to its logits" for name in "abc"]


def test_log_softmax_is_accepted_as_logits_and_predicts_the_same(tmp_path: Path) -> None:
    files = saved(tmp_path, models_of(node("LogSoftmax", ["scores"], ["logits"])))
    bundle, notes = bring(tmp_path / "out", files)
    assert notes == []
    close(logits_of(bundle, IMAGES), log_softmax(linear(IMAGES), axis=2))
    verdicts = Detector(bundle, device="cpu", threads=1).classify(IMAGES)
    plain, _ = bring(tmp_path / "plain", saved(tmp_path, models_of()))
    expected = Detector(plain, device="cpu", threads=1).classify(IMAGES)
    close(verdicts.probabilities, expected.probabilities)
    assert verdicts.log_diversity is not None
    assert expected.log_diversity is not None
    np.testing.assert_allclose(verdicts.log_diversity, expected.log_diversity, rtol=1e-4)


by_hand = [
    node("Exp", ["scores"], ["e"]),
    node("ReduceSum", ["e", "axis"], ["total"], keepdims=1),
    node("Div", ["e", "total"], ["logits"]),
]


@pytest.mark.parametrize(
    ("tail", "constants", "outputs", "reason"),
    [
        ([node("Sigmoid", ["scores"], ["logits"])], {}, "logits", "found the final operator 'Sigmoid'"),
        ([node("Sigmoid", ["scores"], ["logits"])], {}, "probabilities", "found the final operator 'Sigmoid'"),
        (
            [node("Sigmoid", ["scores"], ["p"]), node("Flatten", ["p"], ["logits"])],
            {},
            "logits",
            "found the final operator 'Sigmoid'",
        ),
        ([node("HardSigmoid", ["scores"], ["logits"])], {}, "logits", "found the final operator 'HardSigmoid'"),
        ([node("Exp", ["scores"], ["logits"])], {}, "logits", "found the final operator 'Exp'"),
        (
            [node("LogSoftmax", ["scores"], ["l"]), node("Exp", ["l"], ["logits"])],
            {},
            "logits",
            "found the final operator 'Exp'",
        ),
        (by_hand, {"axis": [1]}, "logits", "expected logits, found probabilities: every row sums to 1"),
        (by_hand, {"axis": [1]}, "probabilities", "expected a trailing softmax to cut back to its logits, found none"),
        (
            [THEN, node("Clip", ["p", "least"], ["logits"])],
            {"least": np.float32(1e-7)},
            "logits",
            "expected logits, found probabilities: every row sums to 1",
        ),
        (
            [THEN, node("Softmax", ["p"], ["logits"])],
            {},
            "logits",
            "expected logits, found probabilities: every row sums to 1",
        ),
        ([], {}, "probabilities", "expected a trailing softmax to cut back to its logits, found none"),
        (
            [
                node("Reshape", ["scores", "to"], ["wide"]),
                node("Softmax", ["wide"], ["p"], axis=2),
                node("Flatten", ["p"], ["logits"]),
            ],
            {"to": [0, CLASSES, 1]},
            "logits",
            "expected the final softmax over the classes, found it over another axis",
        ),
        ([node("Softmax", ["scores"], ["logits"], axis=0)], {}, "logits", "depend on that image only"),
        (
            [THEN, node("Identity", ["p"], ["logits"]), node("Relu", ["p"], ["elsewhere"])],
            {},
            "logits",
            "expected the final softmax to feed the output only, found 2 uses",
        ),
    ],
    ids=["Sigmoid", "Sigmoid as probabilities", "Sigmoid and Flatten", "HardSigmoid", "Exp", "Exp of LogSoftmax",
         "softmax by hand", "softmax by hand as probabilities", "clipped softmax", "softmax twice",
         "logits as probabilities", "softmax over another axis", "softmax over the batch", "softmax used elsewhere"],
)  # fmt: skip
def test_probabilities_are_refused(
    tmp_path: Path, tail: list[Any], constants: dict[str, ArrayLike], outputs: Any, reason: str
) -> None:
    files = saved(tmp_path, models_of(*tail, constants=constants))
    with pytest.raises(MemberError, match=reason) as caught:
        bring(tmp_path / "out", files, outputs=outputs)
    assert caught.value.member == str(files[0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "output"),
    [("x", "y"), ("images", "probs"), ("input.1", "logits"), ("logits", "images"), ("mean", "std"), ("std", "centred")],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_inputs_and_outputs_get_our_names(tmp_path: Path, source: str, output: str, normalised: bool) -> None:
    models = [make_model(seed, input_name=source, output_name=output) for seed in range(MEMBERS)]
    options: dict[str, Any] = {"mean": [0.5], "std": [0.5]} if normalised else {}
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, models), **options)
    for content in bundle.members:
        graph = onnx.load_model_from_string(content).graph
        assert [value.name for value in graph.input] == ["images"]
        assert [value.name for value in graph.output] == ["logits"]
    close(logits_of(bundle, IMAGES), linear(2 * IMAGES - 1 if normalised else IMAGES))


@pytest.mark.parametrize("taken", ["images", "logits", "mean", "std", "centred", "member/x"])
@pytest.mark.parametrize("normalised", [False, True])
def test_values_inside_may_be_called_as_ours(tmp_path: Path, taken: str, normalised: bool) -> None:
    tail = [node("Identity", ["scores"], [taken]), node("Identity", [taken], ["y"])]
    models = [make_model(seed, input_name="x", output_name="y", tail=tail) for seed in range(MEMBERS)]
    options: dict[str, Any] = {"mean": [0.5], "std": [0.5]} if normalised else {}
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, models), **options)
    close(logits_of(bundle, IMAGES), linear(2 * IMAGES - 1 if normalised else IMAGES))


def test_branches_keep_what_they_take_from_outside(tmp_path: Path) -> None:
    """An inner graph uses values and weights of the outer one; renaming goes through both."""
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("then", "other")]
    then = helper.make_graph([node("Mul", ["scores", "two"], ["then"])], "then", [], out[:1])
    other = helper.make_graph([node("Identity", ["scores"], ["other"])], "else", [], out[1:])
    branch = node("If", ["condition"], ["logits"], then_branch=then, else_branch=other)
    models = models_of(branch, constants={"condition": np.array(True), "two": np.float32(2)})
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, models), mean=[0.5], std=[0.5])
    close(logits_of(bundle, IMAGES), 2 * linear(2 * IMAGES - 1))


def test_inputs_that_are_left_out_stay_left_out(tmp_path: Path) -> None:
    models = models_of(node("Clip", ["scores", "", "most"], ["logits"]), constants={"most": np.float32(0.25)})
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, models), mean=[0.0], std=[1.0])
    close(logits_of(bundle, IMAGES), np.minimum(linear(IMAGES), 0.25))


@pytest.mark.parametrize(
    ("models", "error", "reason"),
    [
        (
            lambda: [make_model(0), make_model(1, shape=(1, 4, 16))],
            MemberError,
            r"member .*b.onnx: expected input \(1, 8, 8\) as of .*a.onnx, found \(1, 4, 16\)",
        ),
        (
            lambda: [make_model(0), make_model(1), make_model(2, classes=12)],
            MemberError,
            r"member .*c.onnx: expected 10 classes as of .*a.onnx, found 12",
        ),
        (
            lambda: [make_model(seed, classes=3) for seed in range(3)],
            InputError,
            "expected at most 2 for 3 classes, found 3; with more members than classes less one the Gram matrix is "
            "singular, and log diversity undefined, for every input",
        ),
        (
            lambda: [make_model(seed, classes=2) for seed in range(2)],
            InputError,
            "expected at most 1 for 2 classes, found 2; .* singular",
        ),
        (lambda: [make_model(0)], InputError, "members: expected at least 2, found 1; one network has no diversity"),
        (list, InputError, "members: expected at least 2, found none"),
    ],
    ids=["other images", "other classes", "K > L - 1", "two classes", "one member", "no member"],
)
def test_members_that_do_not_go_together(
    tmp_path: Path, models: Callable[[], list[Any]], error: type[LedgateError], reason: str
) -> None:
    files = saved(tmp_path, models())
    with pytest.raises(error, match=reason):
        bring(tmp_path / "out", files)
    assert sorted(tmp_path.iterdir()) == files


def test_as_many_members_as_classes_allow(tmp_path: Path) -> None:
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, [make_model(seed, classes=3) for seed in range(2)]))
    assert (bundle.member_count, bundle.class_count, bundle.labels) == (2, 3, ("0", "1", "2"))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["one"] * 9, "labels: expected 10 names, one for each class, found 9"),
        ([*["one"] * 9, " "], "labels: expected a name, found ' ' for class 9"),
        ([*["one"] * 9, 3], "labels: expected a name, found 3 for class 9"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        bring(tmp_path / "out", saved(tmp_path, models_of()), labels=labels)
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_an_existing_bundle(tmp_path: Path) -> None:
    files = saved(tmp_path, models_of())
    with pytest.raises(MemberError, match=r"nowhere.onnx: expected a file, found none"):
        bring(tmp_path / "out", [*files, tmp_path / "nowhere.onnx"])
    bring(tmp_path / "out", files)
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match=r"out: expected a new folder, found an existing one"):
        bring(tmp_path / "out", files)
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def alike_without_the_first_pixel(seed: int) -> Any:
    """A member that differs from the others only where the first pixel is not zero."""
    weights = linear_weights(0).copy()
    weights[0] = linear_weights(seed + 10)[0] * 10
    return make_model(weights=weights)


def test_identical_members_are_warned_of(tmp_path: Path) -> None:
    files = saved(tmp_path, [make_model(1), make_model(0), make_model(1)])
    bundle, notes = bring(tmp_path / "out", files)
    assert notes == [
        "warning: a.onnx and c.onnx give identical answers; log diversity will be minus infinity for every image"
    ]
    detector = Detector(bundle, device="cpu", threads=1)
    verdicts = detector.classify(IMAGES)
    assert verdicts.log_diversity is not None
    assert np.isneginf(verdicts.log_diversity).all()
    close(verdicts.probabilities, softmax(linear(IMAGES)[:, [1, 0, 1]], axis=2).mean(axis=1))


def test_minus_infinity_is_carried_to_the_end(tmp_path: Path) -> None:
    """By scores, ROC, JSON, probes and p-values: half of the images make all members agree."""
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, [alike_without_the_first_pixel(k) for k in range(MEMBERS)]))
    images = make_images(400)
    attacked = make_images(400, seed=1)
    images[::2, 0, 0, 0] = 0.0
    attacked[:, 0, 0, 0] = 0.0
    index = np.arange(400)
    calibration = calibrate(
        bundle.path,
        clean=ImageSet(images=images, source_index=index),
        adversarial={"zeroed": ImageSet(images=attacked, source_index=index)},
        target=TargetFpr(0.3),
        device="cpu",
        report=tmp_path / "report",
    )
    assert (tmp_path / "report" / "scores.png").exists()
    low = sum(np.isneginf(calibration.clean_scores))
    assert 60 < low < 140
    assert calibration.threshold == -np.inf  # the promise leaves no room for half of the images
    assert calibration.false_positives.count == 0
    evidence = calibration.attacks[0]
    clean_low = 200 - low  # of the report part
    assert evidence.auc.value == pytest.approx((200 - clean_low + clean_low / 2) / 200, abs=1e-12)
    written = json.loads((bundle.path / "calibration.json").read_text())
    assert written["threshold"] == "-Infinity"
    assert written["clean_scores"][0] == "-Infinity"

    detector = Detector.open(bundle.path, device="cpu", threads=1)  # the probes pass, infinite ones too
    assert detector.bundle.calibration == Calibration.load(bundle.path / "calibration.json") == calibration
    assert detector.bundle.probes is not None
    assert np.isneginf(detector.bundle.probes.scores).sum() == 0  # they lie at the threshold
    verdicts = detector.classify(images[:2])
    assert verdicts.p_values is not None
    assert verdicts.adversarial is not None
    assert verdicts.p_values[0] == (1 + low) / 201
    assert not verdicts.adversarial.any()  # equal to the threshold, not below it


def test_a_threshold_above_minus_infinity_flags_it(tmp_path: Path) -> None:
    bundle, _ = bring(tmp_path / "out", saved(tmp_path, [alike_without_the_first_pixel(k) for k in range(MEMBERS)]))
    images = make_images(400)
    images[::2, 0, 0, 0] = 0.0
    calibration = calibrate(bundle.path, clean=ImageSet(images=images), target=TargetFpr(0.7), device="cpu")
    assert calibration.threshold is not None
    assert np.isfinite(calibration.threshold)
    detector = Detector.open(bundle.path, device="cpu", threads=1)
    assert detector.bundle.probes is not None
    assert np.isneginf(detector.bundle.probes.scores).any()
    verdicts = detector.classify(images[:200])
    assert verdicts.adversarial is not None
    assert verdicts.adversarial[::2].all()
