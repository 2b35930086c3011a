"""The models by name: who is found, and what happens between finding one and asking it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import InputError, NotFound, Unavailable
from serving.config import ServerConfig
from serving.model import Model
from serving.models import Models
from serving.origin import Origin
from tests.serving.conftest import GatedDetector, picture, request


@pytest.fixture
def models(tiny: Detector, twins: Detector) -> Iterator[Models]:
    found = Models(ServerConfig(batch_wait_s=0.0))
    found.open([tiny, twins])
    yield found
    found.close()


def renamed(detector: Detector, name: str) -> GatedDetector:
    """The detector as a version of a model of another name; it answers at once."""
    version = GatedDetector(detector)
    version.bundle = replace(detector.bundle, path=detector.bundle.path.with_name(name))
    version.release()
    return version


def score(models: Models, number: int, model: str = "") -> float:
    return float(models.submit(request(number, model=model), Origin()).reply("").results[0].score)


def expected(detector: Detector, number: int) -> float:
    scores = detector.classify(np.stack([picture(number)])).score
    assert scores is not None
    return float(scores[0])


def test_the_first_is_the_default(models: Models, tiny: Detector, twins: Detector) -> None:
    assert models.names == ["tiny", "twins"]
    assert score(models, 1) == score(models, 1, "tiny") == expected(tiny, 1)
    assert score(models, 1, "twins") == expected(twins, 1)


def test_an_unknown_name_is_cut(models: Models) -> None:
    with pytest.raises(NotFound, match=r"^model: expected tiny or twins, found 'n{100}\.\.\.'$"):
        models.find("n" * 999)


def test_a_new_version_takes_the_place_of_the_old(models: Models, twins: Detector) -> None:
    models.replace(renamed(twins, "tiny"))
    assert models.names == ["tiny", "twins"]
    assert score(models, 1) == expected(twins, 1)


def test_a_version_of_no_model_is_refused(models: Models, twins: Detector) -> None:
    with pytest.raises(NotFound, match="found 'other'"):
        models.replace(renamed(twins, "other"))


def test_who_found_a_version_just_replaced_is_answered_by_its_successor(
    models: Models, twins: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Model.submit
    found: list[Model] = []

    def late(model: Model, *arguments: object, **fields: object) -> object:
        found.append(model)
        if len(found) == 1:
            models.replace(renamed(twins, "tiny"))
        return submit(model, *arguments, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "submit", late)
    assert score(models, 1) == expected(twins, 1)
    assert len(found) == 2


def test_once_the_server_stops_nothing_is_replaced(models: Models, tiny: Detector, twins: Detector) -> None:
    models.hurry()
    models.replace(renamed(twins, "tiny"))
    assert score(models, 1) == expected(tiny, 1)


def test_closing_ends_the_old_versions_too(tiny: Detector, twins: Detector) -> None:
    stuck = GatedDetector(tiny)
    models = Models(ServerConfig(max_batch=1))
    models.open([stuck])
    tickets = [models.submit(request(number), Origin()) for number in range(3)]
    stuck.wait_for_run()
    models.replace(renamed(twins, "tiny"))
    models.close()
    for each in tickets:
        with pytest.raises(Unavailable, match="the server has stopped"):
            each.reply("")
    stuck.release()
    assert stuck.runs == [[0]]


@pytest.mark.parametrize(("count", "text"), [(0, "at least one, found none"), (2, "found 'tiny' 2 times")])
def test_every_model_needs_a_name_of_its_own(tiny: Detector, count: int, text: str) -> None:
    with pytest.raises(InputError, match=text):
        Models(ServerConfig()).open([tiny] * count)
