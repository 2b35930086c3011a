"""Work that is kept part by part until it is done."""

from pathlib import Path

import numpy as np
import pytest

from detector.errors import InputError
from detector.unfinished import Unfinished, discard, folder_of

WORK = {"attack": {"eps": 0.1}, "images": "digest"}


def test_a_part_comes_back_in_another_process_and_others_are_missing(tmp_path: Path) -> None:
    Unfinished(tmp_path / "kept", WORK).save(3, images=np.arange(4.0), queries=np.arange(2))
    again = Unfinished(tmp_path / "kept", dict(WORK))
    found = again.load(3)
    assert found is not None
    assert sorted(found) == ["images", "queries"]
    assert np.array_equal(found["images"], np.arange(4.0))
    assert again.load(2) is None


def test_nothing_is_left_where_nothing_was_finished(tmp_path: Path) -> None:
    Unfinished(tmp_path / "kept", WORK)
    assert not (tmp_path / "kept").exists()


def test_other_work_is_refused_and_kept(tmp_path: Path) -> None:
    Unfinished(tmp_path / "kept", WORK).save(0, images=np.zeros(1))
    with pytest.raises(InputError, match="kept: expected what the same command left unfinished, found that of another"):
        Unfinished(tmp_path / "kept", {"attack": {"eps": 0.2}})
    assert Unfinished(tmp_path / "kept", WORK).load(0) is not None


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "kept", WORK)
    kept.save(0, images=np.zeros(1))
    (tmp_path / "kept" / "000000.npz").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"000000\.npz: expected a finished part, found a damaged file"):
        kept.load(0)


def test_discarding_removes_what_was_kept_and_nothing_else(tmp_path: Path) -> None:
    Unfinished(tmp_path / "kept", WORK).save(0, images=np.zeros(1))
    (tmp_path / "own").mkdir()
    for name in ("kept", "own", "nothing"):
        discard(tmp_path / name)
    assert not (tmp_path / "kept").exists()
    assert (tmp_path / "own").exists()


def test_it_lies_beside_the_result(tmp_path: Path) -> None:
    assert folder_of(tmp_path / "out.npz") == tmp_path / "out.npz.unfinished"
