"""Settings are checked where they are made, and survive a trip through JSON."""

import dataclasses
import json
from typing import Any

import pytest

from detector.errors import InputError
from training import TrainConfig


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dataset", "letters", "dataset: expected one of cifar10, .*, found 'letters'"),
        (
            "arch",
            "mlp",
            "arch: expected one of cnn, resnet110, .*, or an import path such as package.module:Name, found 'mlp'",
        ),
        ("members", 1, "members: expected a whole number of at least 2, found 1"),
        ("members", True, "members: expected a whole number of at least 2, found True"),
        ("members", 3.0, "members: expected a whole number of at least 2, found 3.0"),
        ("alpha", -1.0, "alpha: expected a finite number of at least 0, found -1.0"),
        ("alpha", "2", "alpha: expected a finite number of at least 0, found '2'"),
        ("beta", float("nan"), "beta: expected a finite number of at least 0, found nan"),
        ("beta", float("inf"), "beta: expected a finite number of at least 0, found inf"),
        ("epochs", 0, "epochs: expected a whole number of at least 1, found 0"),
        ("batch_size", 1, "batch_size: expected a whole number of at least 2, found 1"),
        ("learning_rate", 0.0, "learning_rate: expected a number above 0, found 0"),
        ("learning_rate", -1e-3, "learning_rate: expected a finite number of at least 0, found -0.001"),
        ("learning_rate", (1e-3, 1e-3), "learning_rate: expected one, or one for each of 3 members, found .*"),
        ("learning_rate", (1e-3, 1e-3, 0), "learning_rate: expected a number above 0, found 0"),
        ("learning_rate", "fast", "learning_rate: expected a finite number of at least 0, found 'fast'"),
        ("temperature", 0, "temperature: expected a number above 0, found 0"),
        ("sampled_classes", -1, "sampled_classes: expected a whole number of at least 0, found -1"),
        ("optimiser", "lamb", "optimiser: expected one of adam, muon, sgd, found 'lamb'"),
        ("schedule", "linear", "schedule: expected one of constant, cosine, one-cycle, steps, found 'linear'"),
        ("milestones", (0.5,), r"milestones: expected with schedule 'steps', found \(0.5,\) with 'cosine'"),
        ("milestones", 0.5, "milestones: expected shares of the run between 0 and 1, found 0.5"),
        ("weight_decay", -1e-4, "weight_decay: expected a finite number of at least 0, found -0.0001"),
        ("normalise", "no", "normalise: expected one of channel, pixel, found 'no'"),
        ("augment", "flip", "augment: expected one of affine, none, shift, shift-flip, found 'flip'"),
        ("growing", 1, "growing: expected true or false, found 1"),
        ("adversarial", "mim", "adversarial: expected one of fgsm, none, pgd, found 'mim'"),
        ("patience", -1, "patience: expected a whole number of at least 0, found -1"),
        ("sequential", "yes", "sequential: expected true or false, found 'yes'"),
        ("precision", "float16", "precision: expected one of bfloat16, float32, found 'float16'"),
        ("compile", None, "compile: expected true or false, found None"),
        ("keep", "first", "keep: expected one of best, last, found 'first'"),
        ("seed", -1, "seed: expected a whole number of at least 0, found -1"),
    ],
)
def test_refuses(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "steps"}, r"milestones: expected with schedule 'steps', found \(\) with 'steps'"),
        ({"schedule": "steps", "milestones": (0.8, 0.5)}, "milestones: expected rising shares of the run"),
        ({"schedule": "steps", "milestones": (0.5, 1.0)}, "milestones: expected rising shares of the run"),
        ({"growing": True, "normalise": "pixel"}, "growing: expected normalise 'channel', found 'pixel'"),
        ({"optimiser": "muon", "weight_decay": 1e-4}, "weight_decay: expected 0 with muon, .* found 0.0001"),
    ],
    ids=["none", "falling", "end", "growing-pixels", "muon-decay"],
)
def test_refuses_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


def test_a_learning_rate_is_every_members() -> None:
    assert TrainConfig(learning_rate=1e-3).learning_rates == (1e-3, 1e-3, 1e-3)
    assert TrainConfig(learning_rate=(1e-3, 2e-3, 3)).learning_rates == (1e-3, 2e-3, 3.0)


def test_json_round_trip() -> None:
    config = TrainConfig(
        members=5, alpha=1, beta=0.25, seed=7, learning_rate=(1, 2, 3, 4, 5), schedule="steps", milestones=(0.5, 0.8)
    )
    assert TrainConfig.from_json(config.to_json()) == config
    assert isinstance(TrainConfig.from_json(config.to_json()).alpha, float)


def test_is_frozen_and_by_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().seed = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        TrainConfig("digits")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": None}, "expected the fields .*, found .*"),
        ({"momentum": 0.9}, "expected the fields .*, found .*momentum"),
    ],
    ids=["missing", "unknown"],
)
def test_json_has_every_field_and_no_other(change: dict[str, Any], message: str) -> None:
    values = json.loads(TrainConfig().to_json()) | change
    text = json.dumps({name: value for name, value in values.items() if value is not None})
    with pytest.raises(InputError, match=message):
        TrainConfig.from_json(text)


def test_a_run_older_than_a_setting_has_its_default() -> None:
    values = json.loads(TrainConfig(seed=4).to_json())
    del values["image_size"]
    assert TrainConfig.from_json(json.dumps(values)) == TrainConfig(seed=4)


def test_only_a_folder_of_images_is_resized() -> None:
    with pytest.raises(InputError, match="image_size: expected 0, since digits has its own, found 32"):
        TrainConfig(image_size=32)
    assert TrainConfig(dataset="folder", image_size=32).image_size == 32


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        TrainConfig.from_json(text)


def test_differences_name_the_fields() -> None:
    assert TrainConfig(seed=1, alpha=2.0).differences(TrainConfig(seed=2, alpha=2)) == ["seed: 1, not 2"]
