"""Parts of a large array: each handed out once, joined in order, and all of one version."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from detector.errors import Unavailable
from detector.verdicts import Verdicts
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.answer import ServedVerdicts, Version
from serving.parcels import Parcel
from serving.parts import Parts

COUNT = 4


def version(name: str) -> Version:
    return Version(model="m", bundle_digest=name * 64, calibration_digest=None)


def cut(count: int = COUNT) -> Iterator[Parcel]:
    """Parcels of two images."""
    yield from (Parcel(request=pb.ClassifyRequest(), start=2 * index, count=2) for index in range(count))


def answer(start: int, name: str) -> ServedVerdicts:
    """Two verdicts that say where they belong and who gave them."""
    rows: dict[str, Any] = dict.fromkeys(("log_diversity", "score", "p_values", "adversarial"))
    labels = np.array([start, start + 1])
    return ServedVerdicts(
        labels=labels, class_names=(name, name), probabilities=np.zeros((2, 3)), version=version(name), **rows
    )


def ask(parts: Parts, names: str) -> list[int]:
    """Answers the parts of one round, each by the version whose turn it is; server 7 is that of version b."""
    starts = []
    parcel = parts.take()
    for name in names:
        assert parcel is not None
        starts.append(parcel.start)
        parcel = parts.put(parcel, answer(parcel.start, name), server=7 if name == "b" else 3)
    assert parcel is None
    return starts


def test_one_version_is_one_round_joined_in_order() -> None:
    parts = Parts(cut)
    assert parts.begin()
    taken = [parcel for parcel in iter(parts.take, None) if parcel is not None]
    for parcel in reversed(taken):
        parts.put(parcel, answer(parcel.start, "a"), server=0)
    assert not parts.begin()
    found = parts.joined()
    assert found.labels.tolist() == list(range(2 * COUNT))
    assert found.version == version("a")
    assert parts.first is None


def test_what_another_version_answered_is_asked_again_of_the_latest() -> None:
    parts = Parts(cut)
    assert parts.begin()
    assert ask(parts, "aabb") == [0, 2, 4, 6]
    assert parts.begin()
    assert parts.first == 7
    assert ask(parts, "bb") == [0, 2]
    assert not parts.begin()
    assert parts.joined().class_names == ("b",) * 8


def test_a_version_that_comes_and_goes_ends_in_an_error() -> None:
    parts = Parts(cut)
    for names in ("aaab", "bba", "bbb"):
        assert parts.begin()
        ask(parts, names)
    with pytest.raises(Unavailable, match=r"^model: expected one version .* found m a{12} \(not.*\) and m b{12} \(not"):
        parts.begin()


def test_another_calibration_is_another_version() -> None:
    one, two = (Version(model="m", bundle_digest="a", calibration_digest=digest) for digest in ("x", "y"))
    assert one != two
    assert str(one) == "m a (x)"


@pytest.mark.parametrize(("count", "several"), [(1, False), (2, True), (5, True)])
def test_it_knows_whether_there_are_several(count: int, *, several: bool) -> None:
    parts = Parts(lambda: cut(count))
    assert parts.several is several
    assert parts.begin()
    assert len(list(iter(parts.take, None))) == count


def test_once_stopped_it_hands_out_nothing() -> None:
    parts = Parts(cut)
    assert parts.begin()
    parts.take()
    parts.stop()
    assert parts.take() is None


def test_rows_keep_their_version_and_a_mixture_has_none() -> None:
    whole = answer(0, "a")
    assert whole.only(slice(1, 2)).labels.tolist() == [1]
    assert whole.only(slice(1, 2)).version == whole.version
    mixed = ServedVerdicts.concatenate([whole, answer(2, "b")])
    assert type(mixed) is Verdicts
    assert mixed.class_names == ("a", "a", "b", "b")


def test_what_is_given_back_is_handed_out_again_before_the_rest() -> None:
    parts = Parts(cut)
    assert parts.begin()
    first, second = parts.take(), parts.take()
    assert first is not None
    assert second is not None
    assert parts.give_back(first)
    again = parts.put(second, answer(second.start, "a"), server=0)
    assert again is first
    assert not parts.give_back(again)  # nobody else is left to send it
    assert parts.put(again, answer(again.start, "a"), server=0) is not None
    assert not parts.begin()


def test_the_last_that_is_under_way_stays_with_whoever_sends_it() -> None:
    parts = Parts(cut)
    assert parts.begin()
    taken = [parts.take() for _ in range(3)]
    assert all(parcel is not None for parcel in taken)
    assert [parcel is not None and parts.give_back(parcel) for parcel in taken] == [True, True, False]
    assert sorted(ask(parts, "aaa")) == [0, 2, 6]  # the third has not been given back
