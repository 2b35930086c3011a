"""A fixed small ensemble with fixed images, and what the field's attack libraries find on it.

All of it is made by `scripts/reference`. The weights are float16, as the small file holds them: rounded so, they
are the ensemble, and everyone attacks these.
"""

import copy
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector import goal as goals
from detector.oracle import Oracle
from detector.prediction import mean_prediction
from detector.square import Square
from training.attacks import ATTACKS, Attack, Objective, Targeted, Untargeted
from training.datasets import load
from training.ensemble import Ensemble, build_ensemble

HOME = Path(__file__).parents[1] / "reference"
SHAPE = (1, 8, 8)
CLASSES = 10
MEMBERS = 3


def ensemble_of(state: dict[str, Any]) -> Ensemble:
    """The ensemble with these weights, name -> array, in evaluation mode and without gradients of the weights."""
    blank = torch.zeros(1, 1, 1)
    ensemble = build_ensemble("cnn", members=MEMBERS, image_shape=SHAPE, classes=CLASSES, mean=blank, std=blank, seed=0)
    ensemble.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})  # into float32
    return ensemble.eval().requires_grad_(requires_grad=False)


def reference_ensemble() -> Ensemble:
    """Three small CNNs trained on `digits` with ADP."""
    with np.load(HOME / "ensemble.npz", allow_pickle=False) as arrays:
        return ensemble_of(dict(arrays))


def reference_images(count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first so many images, (N, 1, 8, 8) float32, and their labels, all of which the ensemble answers."""
    rows = made()["source_index"][:count]
    digits = load("digits")
    return torch.from_numpy(digits.images[rows]), torch.from_numpy(digits.labels[rows])


def made() -> dict[str, Any]:
    """How the ensemble was made, and which rows of `digits` the images are."""
    return _read("ensemble.json")


def found_by_libraries() -> dict[str, Any]:
    """What the libraries found; `scripts/reference` says what its parts are."""
    return _read("attacks.json")


def settings_of(described: dict[str, Any]) -> Attack | Square:
    """The attack that describes itself so."""
    kind = Square if described["method"] == Square.method else ATTACKS[described["method"]]
    return kind(**{field.name: described[field.name] for field in fields(kind)})


def objective_of(aim: str, labels: Tensor) -> Objective:
    """What is wanted of images: `away` from the labels, or towards the `next` one."""
    return Untargeted(labels) if aim == "away" else Targeted((labels + 1) % CLASSES)


def ours(settings: Attack | Square, ensemble: Ensemble, images: Tensor, objective: Objective) -> Tensor:
    """The images after our attack, their rows numbered from 0."""
    rows = np.arange(len(images))
    if isinstance(settings, Attack):
        return settings.perturb(ensemble, images, objective, rows)
    goal = goals.Targeted if isinstance(objective, Targeted) else goals.Untargeted

    def ask(asked: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return mean_prediction(ensemble(torch.from_numpy(asked)).numpy())

    oracle = Oracle(ask=ask, shape=SHAPE, classes=CLASSES)
    return torch.from_numpy(settings.search(oracle, images.numpy(), goal(objective.labels.numpy()), rows).images)


def successes(attacked: Tensor, objective: Objective, ensemble: Ensemble) -> NDArray[np.bool_]:
    """Which attacked images are what is wanted, in float64."""
    with torch.inference_mode():
        return np.asarray(objective.succeeded(copy.deepcopy(ensemble).double()(attacked.double())))


def sizes(attacked: Tensor, clean: Tensor, norm: str) -> NDArray[np.float64]:
    """(N,) each image's norm of the change: `l0`, the share of values changed, `l1` or `l2`."""
    change = (attacked.double() - clean.double()).flatten(1).numpy()
    if norm == "l0":
        return np.asarray((change != 0).mean(axis=1))
    return np.asarray(np.linalg.norm(change, ord=int(norm[1:]), axis=1))


def _read(name: str) -> dict[str, Any]:
    """A JSON object."""
    found: dict[str, Any] = json.loads((HOME / name).read_text("utf-8"))
    return found
