"""Files of scores alone: every form, what is refused by its line, and what belongs to another bundle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.errors import InputError
from detector.scorefile import Origin, Scores, holds_scores

BUNDLE = "ab" * 32
ORIGIN = Origin(bundle=BUNDLE, score="log_diversity")


def row(score: Any, **fields: Any) -> str:
    known = {"time": "2026-01-01T00:00:00Z", "bundle": BUNDLE[:16], "score_name": "log_diversity", "score": score}
    return json.dumps({**known, **fields})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "-1.5\n-inf\n0\n"),
        ("a.csv", "score\n-1.5\n-inf\n\n0"),
        ("a.txt", " -1.5\r\n-Infinity\r\n0.0\r\n"),
        ("a.jsonl", '-1.5\n"-Infinity"\n0\n'),
        ("a.jsonl", '{"score": -1.5}\n{"score": "-Infinity"}\n{"score": 0, "note": 1}\n'),
        ("a.jsonl", "\n".join([row(-1.5), row("-Infinity"), row(0)])),
    ],
)
def test_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = Scores.load(tmp_path / name, ORIGIN)
    np.testing.assert_array_equal(found.values, [-1.5, -np.inf, 0.0])
    assert found.classes is None
    assert holds_scores(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "", "expected scores of log_diversity by bundle abababababababab, found none"),
        ("a.csv", "score\n", "found none"),
        ("a.csv", "-1\nnan\n", "line 2: expected a score, found nan"),
        ("a.csv", "-1\n\n-1;2\n", "line 3: expected a score, found could not convert string to float: '-1;2'"),
        ("a.csv", "-1\nscore\n", "line 2: expected a score"),
        ("a.jsonl", "NaN\n", "line 1: expected a score, found nan"),
        ("a.jsonl", '{"value": 1}\n', "line 1: expected a score, found no field 'score'"),
        ("a.jsonl", "null\n", "line 1: expected a score, found None"),
        ("a.jsonl", '{"score": true}\n', "line 1: expected a score, found True"),
        ("a.jsonl", "{\n", "line 1: expected a score"),
        ("a.jsonl", "[" * 100_000, "line 1: expected a score"),
    ],
)
def test_refused_lines(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        Scores.load(tmp_path / name, ORIGIN)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert reason in str(caught.value)


def test_no_text_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"a\.csv: expected text in UTF-8"):
        Scores.load(tmp_path / "a.csv", ORIGIN)
    with pytest.raises(InputError, match=r"b\.csv: expected a file of scores, found none"):
        Scores.load(tmp_path / "b.csv", ORIGIN)


def test_lines_of_others_are_passed_over_and_counted(tmp_path: Path) -> None:
    lines = [
        row(-1, **{"class": 3}),
        row(-2, bundle="cd" * 8),
        row(-3, score_name="entropy"),
        row(-4, bundle=BUNDLE, **{"class": 0}),
        json.dumps({"time": "x", "dropped": 7}),
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    found = Scores.load(tmp_path / "log.jsonl", ORIGIN)
    assert found.values.tolist() == [-1.0, -4.0]
    assert found.classes is not None
    assert found.classes.tolist() == [3, 0]
    assert (found.skipped, found.dropped, found.live, found.told) == (2, 7, True, True)
    with pytest.raises(InputError, match="by bundle efefefefefefefef, found 4 of others only"):
        Scores.load(tmp_path / "log.jsonl", Origin(bundle="ef" * 32, score="log_diversity"))


def test_a_fitted_score_belongs_to_its_calibration(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("\n".join([row(-1, calibration="12" * 8), row(-2, calibration="34" * 8)]))
    fitted = Origin(bundle=BUNDLE, score="log_diversity", calibration="34" * 32)
    assert Scores.load(tmp_path / "log.jsonl", fitted).values.tolist() == [-2.0]
    assert Scores.load(tmp_path / "log.jsonl", ORIGIN).values.tolist() == [-1.0, -2.0]


def test_save_and_load(tmp_path: Path) -> None:
    scores = Scores(values=np.array([-1.0, -np.inf]), classes=np.array([2, 0]), path="CPU", told=True)
    path = tmp_path / "scores.npz"
    scores.save(path, ORIGIN)
    assert holds_scores(path)
    found = Scores.load(path, ORIGIN)
    np.testing.assert_array_equal(found.values, scores.values)
    assert found.classes is not None
    assert found.classes.tolist() == [2, 0]
    assert (found.path, found.told, found.live) == ("CPU", True, False)
    with pytest.raises(InputError, match=r"scores\.npz: expected scores of entropy by .*, found 2 of others only"):
        Scores.load(path, Origin(bundle=BUNDLE, score="entropy"))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"other": np.zeros(3)}, "expected an array 'scores', found none"),
        ({"scores": np.zeros((3, 1))}, r"scores: expected shape \(N,\), found \(3, 1\)"),
        ({"scores": np.zeros(0)}, r"scores: expected shape \(N,\), found \(0,\)"),
        ({"scores": np.array([0.0, np.nan])}, "scores: expected numbers, found nan at 1"),
        ({"scores": np.array(["a", "b"])}, "could not convert string to float"),
        ({"scores": np.zeros(3), "classes": np.zeros(2, int)}, r"classes: expected \(3,\) integers, found \(2,\)"),
    ],
)
def test_refused_archives(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=rf"a\.npz: {reason}"):
        Scores.load(tmp_path / "a.npz", ORIGIN)


def test_images_are_no_scores(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 1, 2, 2), np.float32), scores=np.zeros(1))
    assert not holds_scores(tmp_path / "a.npz")
    (tmp_path / "d.npz").write_bytes(b"text")
    assert not holds_scores(tmp_path / "d.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((1, 1, 2, 2), np.float32))
    assert not holds_scores(tmp_path / "b.npz")
    assert not holds_scores(tmp_path / "c.png")
