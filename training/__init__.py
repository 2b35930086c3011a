"""Training an ensemble with ADP, attacking it, and exporting it: the one room where torch lives.

import training
from training.attacks import PGD

run = training.train(training.TrainConfig(seed=0), "RUN")
training.export(run, "BUNDLE")
test = training.take(training.load("digits"), "test")
training.attack(run, test, PGD(eps=0.1)).save("adversarial.npz")

A name is imported when it is first used (PEP 562), so that what needs no torch, `training.optimum`,
works without it.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the same table, for type checkers and editors; a test holds the two together
    from detector.sample import sample
    from training.attacked import attack
    from training.attacks import BIM, FGSM, PGD
    from training.config import TrainConfig
    from training.datasets import Dataset, load
    from training.exporter import export
    from training.loop import train
    from training.run import Run
    from training.splits import take

__all__ = [
    "BIM",
    "FGSM",
    "PGD",
    "Dataset",
    "Run",
    "TrainConfig",
    "attack",
    "export",
    "load",
    "sample",
    "take",
    "train",
]

# name -> the module it comes from
_HOMES: Final = {
    "BIM": "training.attacks",
    "FGSM": "training.attacks",
    "PGD": "training.attacks",
    "Dataset": "training.datasets",
    "Run": "training.run",
    "TrainConfig": "training.config",
    "attack": "training.attacked",
    "export": "training.exporter",
    "load": "training.datasets",
    "sample": "detector.sample",
    "take": "training.splits",
    "train": "training.loop",
}

if not TYPE_CHECKING:  # a type checker would take this for a promise that every name exists

    def __getattr__(name: str) -> object:
        """Imports a public name at its first use and keeps it."""
        if name not in _HOMES:
            raise AttributeError(f"module 'training' has no attribute '{name}'")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
