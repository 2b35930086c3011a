"""Images attacked by queries: the form of the result, its figures, its budget, and going on after a stop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.attacked import attack
from detector.errors import InputError
from detector.goal import Towards
from detector.imageset import ImageSet, as_floats
from detector.norms import norms
from detector.oracle import Oracle
from detector.square import Square
from tests.detector.asked import Asked, Images, noise, weights

SETTINGS = Square(eps=0.05, queries=40, seed=3)


def labelled(asked: Asked, count: int = 20) -> ImageSet:
    """Images with the classifier's own answers for labels, but for every fifth."""
    images = noise(count)
    labels = asked.labels(images)
    labels[::5] = (labels[::5] + 1) % asked.matrix.shape[1]
    rows = np.arange(count) * 3 + 1
    return ImageSet(images=images, labels=labels, source_index=rows, info={"dataset": "noise"})


def attacked(asked: Asked, images: ImageSet, **options: Any) -> ImageSet:
    oracle = options.pop("oracle", None) or asked.oracle(known_as={"bundle": "abc"})
    return attack(oracle, images, options.pop("settings", SETTINGS), progress=False, **options)


def test_what_is_known_about_the_attacked_images() -> None:
    asked = Asked(weights(4))
    images = labelled(asked)
    found = attacked(asked, images)
    before, after = asked.labels(np.asarray(images.images)), asked.labels(np.asarray(found.images))
    correct = before == images.labels
    success = correct & (after != images.labels)
    assert 0 < success.sum() < correct.sum() == 16
    assert found.images.dtype == np.float32
    for name in ("labels", "source_index"):
        assert np.array_equal(getattr(found, name), getattr(images, name))
    assert np.array_equal(np.asarray(found.clean), images.images)
    assert np.array_equal(np.asarray(found.clean_correct), correct)
    assert np.array_equal(np.asarray(found.success), success)
    queries = np.asarray(found.queries)
    assert found.info == {
        "dataset": "noise",
        "attack": {
            **SETTINGS.describe(),
            "loss": "label",
            "asked": {"bundle": "abc"},
            "found": {
                "clean_correct": 16,
                "wrong_after": {"ensemble": int((after != images.labels).sum())},
                "success": int(success.sum()),
                "norms_of_successes": norms(found.images[success], np.asarray(images.images)[success]),
                "queries": {"total": sum(map(len, asked.calls)), "median_of_successes": np.median(queries[success])},
            },
        },
    }


def test_it_is_written_and_read(tmp_path: Path) -> None:
    asked = Asked(weights(4))
    found = attacked(asked, labelled(asked), target=Towards("next"))
    found.save(tmp_path / "out.npz")
    again = ImageSet.load(tmp_path / "out.npz")
    assert np.array_equal(np.asarray(again.queries), np.asarray(found.queries))
    assert again.info == found.info


def test_images_are_attacked_alike_in_any_batch() -> None:
    asked = Asked(weights(4))
    images = labelled(asked)
    whole = attacked(asked, images)
    for size in (1, 7):
        found = attacked(asked, images, batch_size=size)
        assert np.array_equal(found.images, whole.images)
        assert np.array_equal(np.asarray(found.queries), np.asarray(whole.queries))
        assert found.info == whole.info


def test_an_image_keeps_its_draws_when_others_are_left_out() -> None:
    asked = Asked(weights(4))
    images = labelled(asked)
    some = np.arange(20) % 3 == 1
    assert np.array_equal(attacked(asked, images.only(some)).images, attacked(asked, images).images[some])


def test_bytes_are_attacked_as_floats() -> None:
    asked = Asked(weights(4))
    images = labelled(asked)
    as_bytes = replace(images, images=(np.asarray(images.images) * 255).astype(np.uint8))
    found = attacked(asked, as_bytes)
    assert found.images.dtype == np.float32
    assert np.array_equal(np.asarray(found.clean), as_floats(as_bytes.images))
    assert np.abs(found.images - as_floats(as_bytes.images)).max() <= np.float32(0.05)


def test_where_nothing_succeeds_there_are_no_norms_and_no_median() -> None:
    asked = Asked(weights(4))
    found = attacked(asked, labelled(asked), settings=Square(eps=1e-6, queries=5)).info["attack"]["found"]
    assert found["success"] == 0
    assert found["norms_of_successes"] == {}
    assert found["queries"] == {"total": 16 * 5 + 4, "median_of_successes": None}


def test_towards_a_class() -> None:
    asked = Asked(weights(4))
    images = labelled(asked)
    found = attacked(asked, images, settings=Square(eps=0.3, queries=100), target=Towards("next", seed=2))
    after = asked.labels(np.asarray(found.images))
    reached = after == (np.asarray(images.labels) + 1) % 4
    assert reached.sum() == found.info["attack"]["found"]["target_reached"] > 10
    assert (found.info["attack"]["target"], found.info["attack"]["target_seed"]) == ("next", 2)
    assert found.attack == "square100-0.3-towards-next"


@pytest.mark.parametrize(
    ("budget", "attacked_images", "ended"),
    [(100_000, 20, False), (20 * 40, 20, False), (340, 20, True), (27, 10, True), (10, 10, True)],
    ids=["plenty", "the most there can be", "a batch and a little", "a little", "once"],
)
def test_a_budget_ends_the_attack_with_what_it_has(budget: int, attacked_images: int, ended: bool) -> None:
    asked = Asked(weights(4))
    images = labelled(asked)
    # No image is fooled, so that every query is asked for.
    found = attacked(
        asked, images, settings=Square(eps=1e-6, queries=40), batch_size=10, oracle=asked.oracle(budget=budget)
    )
    assert sum(map(len, asked.calls)) == np.asarray(found.queries).sum() <= budget
    assert len(found) == attacked_images
    assert np.array_equal(np.asarray(found.clean), np.asarray(images.images)[:attacked_images])
    assert found.info["attack"]["found"]["budget"] == {
        "queries": budget, "ended": ended, "left_out": 20 - attacked_images,
    }  # fmt: skip


def test_a_budget_that_does_not_reach_the_first_batch_is_refused() -> None:
    asked = Asked(weights(4))
    with pytest.raises(InputError, match=r"budget: expected at least 10 queries, one about each image .* found 9"):
        attacked(asked, labelled(asked), batch_size=10, oracle=asked.oracle(budget=9))
    assert asked.calls == []


class Interrupted(Exception):
    """What stops an attack in a test."""


def stopping(asked: Asked, calls: int, **options: Any) -> Oracle:
    """An oracle that is interrupted at that call."""

    def ask(images: Images) -> Any:
        if len(asked.calls) == calls:
            raise Interrupted
        return asked(images)

    return Oracle(ask=ask, shape=asked.shape, classes=asked.matrix.shape[1], **options)


@pytest.mark.parametrize("budget", [None, 500, 300], ids=["no budget", "budget", "small budget"])
def test_a_stopped_attack_goes_on_where_it_was(tmp_path: Path, budget: int | None) -> None:
    unbroken, asked, kept = Asked(weights(4)), Asked(weights(4)), tmp_path / "kept"
    images = labelled(unbroken)
    expected = attacked(unbroken, images, batch_size=6, oracle=unbroken.oracle(budget=budget))
    with pytest.raises(Interrupted):
        attacked(asked, images, batch_size=6, unfinished=kept, oracle=stopping(asked, 50, budget=budget))
    assert sorted(path.name for path in kept.iterdir()) == ["000000.npz", "work.json"]
    finished = int(np.load(kept / "000000.npz")["queries"].sum())
    asked.calls.clear()
    oracle = asked.oracle(budget=budget)
    found = attacked(asked, images, batch_size=6, unfinished=kept, oracle=oracle)
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(np.asarray(found.queries), np.asarray(expected.queries))
    assert found.info == expected.info
    # What was finished is not asked again, and is counted.
    assert sum(map(len, asked.calls)) == np.asarray(expected.queries).sum() - finished
    assert oracle.spent == np.asarray(expected.queries).sum()


@pytest.mark.parametrize(
    "change",
    [
        {"settings": Square(eps=0.1, queries=40, seed=3)},
        {"batch_size": 7},
        {"target": Towards(1)},
        {"oracle": Asked(weights(4)).oracle(known_as={"bundle": "other"})},
        {"oracle": Asked(weights(4)).oracle(known_as={"bundle": "abc"}, budget=1000)},
    ],
    ids=["settings", "batch size", "target", "another bundle", "budget"],
)
def test_another_attacks_unfinished_work_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    asked = Asked(weights(4))
    images = labelled(asked, 5)
    attacked(asked, images, unfinished=tmp_path / "kept")
    with pytest.raises(InputError, match="expected what the same command left unfinished, found that of another"):
        attacked(asked, images, unfinished=tmp_path / "kept", **change)


def test_unfinished_work_on_other_images_is_refused(tmp_path: Path) -> None:
    asked = Asked(weights(4))
    attacked(asked, labelled(asked, 5), unfinished=tmp_path / "kept")
    with pytest.raises(InputError, match="found that of another"):
        attacked(asked, labelled(asked, 6), unfinished=tmp_path / "kept")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"labels": None}, {}, "labels: expected the true label of each image, found none"),
        ({}, {"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ({}, {"target": Towards(4)}, "target: expected 0 to 3, found 4"),
    ],
    ids=["no labels", "batch size", "target"],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(
    change: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    asked = Asked(weights(4))
    with pytest.raises(InputError, match=message):
        attacked(asked, replace(labelled(asked), **change), **options)
    assert asked.calls == []
