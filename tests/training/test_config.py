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
        ("dataset", "letters", "dataset: expected one of digits, found 'letters'"),
        ("arch", "mlp", "arch: expected one of cnn, found 'mlp'"),
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
        ("augment", "flip", "augment: expected one of affine, none, found 'flip'"),
        ("seed", -1, "seed: expected a whole number of at least 0, found -1"),
    ],
)
def test_refuses(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        TrainConfig(**{field: value})


def test_json_round_trip() -> None:
    config = TrainConfig(members=5, alpha=1, beta=0.25, seed=7)
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


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        TrainConfig.from_json(text)


def test_differences_name_the_fields() -> None:
    assert TrainConfig(seed=1, alpha=2.0).differences(TrainConfig(seed=2, alpha=2)) == ["seed: 1, not 2"]
