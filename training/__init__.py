"""Training an ensemble with ADP, attacking it, and exporting it: the one room where torch lives.

import training
from training.attacks import PGD

run = training.train(training.TrainConfig(seed=0), "RUN")
training.export(run, "BUNDLE")
test = training.take(training.load("digits"), "test")
training.attack(run, test, PGD(eps=0.1)).save("adversarial.npz")
"""

from training.attacked import attack
from training.attacks import BIM, FGSM, PGD
from training.config import TrainConfig
from training.datasets import Dataset, load
from training.exporter import export
from training.loop import train
from training.run import Run
from training.splits import sample, take

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
