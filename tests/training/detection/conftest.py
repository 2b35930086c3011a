"""Two runs that share a table, with attacks weak enough to be quick, measured once for all tests that only read."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.rates import Rate
from training import Dataset, Run, load, train
from training.attacks import FGSM, MIM, PGD, CarliniWagner
from training.detection.content import Content
from training.detection.report import write_detection
from training.detection.subject import Subject
from training.evaluation.experiment import Experiment, experiments
from training.evaluation.result import evaluated
from training.robustness.counts import Counts

COUNTS = Counts(linf=40, minimum=12, jsma=2, strong=6)
# FGSM leaves more than 1 % at both of these, PGD at the first alone.
LADDERS = {
    "fgsm": (FGSM(eps=0.01), FGSM(eps=0.02)),
    "pgd": (PGD(eps=0.01, steps=2), PGD(eps=0.5, steps=5), PGD(eps=0.9, steps=5)),
    "cw": (CarliniWagner(c=100.0, steps=30), CarliniWagner(c=1000.0, steps=30)),
}


@pytest.fixture(scope="session")
def small_ladders() -> Iterator[None]:
    """Three attacks, of a few steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.detection.measure.ladders", lambda config: LADDERS)
        patched.setattr("training.detection.measure.climb", lambda config: MIM(eps=0.1, steps=2))
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def baseline(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = replace(run.config, alpha=0.0, beta=0.0)
    return train(config, tmp_path_factory.mktemp("detection") / "baseline", progress=False)


@pytest.fixture(scope="session")
def experiment(run: Run, baseline: Run, digits: Dataset) -> Experiment:
    (found,) = experiments([evaluated(run, digits), evaluated(baseline, digits)])
    return found


@pytest.fixture(scope="session")
def subject(run: Run, digits: Dataset) -> Subject:
    return Subject(run, digits, device="cpu", threads=1)


@pytest.fixture(scope="session")
def results(experiment: Experiment, small_ladders: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results, to be read only."""
    folder = tmp_path_factory.mktemp("results")
    write_detection(folder, [experiment], COUNTS, progress=False)
    return folder


@pytest.fixture(scope="session")
def content(results: Path) -> Content:
    return Content.load(results / "detection.json")


def rate(share: float, n: int = 100) -> Rate:
    return Rate.of(np.arange(n) < round(share * n))
