"""Scores alone: what is left where the images are not kept.

| file | holds |
|---|---|
| `.npz` | `scores` (N,) float64, where known `classes` (N,) and `info`: what `ledgate check --save-scores` writes |
| `.csv`, `.txt` | a score on each line, after a heading `score` or none |
| `.jsonl` | a score on each line, or an object with one: the log of `ledgate serve --score-log` |

A score means nothing without the members and the score's name. A file that tells them is read for
these alone, and its other lines are passed over and counted; one that does not is taken at its word.
"""

import json
import math
import zipfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from detector.errors import InputError
from detector.files import replacing
from detector.imageset import parse_info, read_arrays
from detector.prediction import Floats, Ints

DIGITS: Final = 16
"""So much of a digest is written beside a score."""

_TEXT: Final = (".csv", ".txt")
_LINES: Final = ".jsonl"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What scores were measured with.

    Attributes:
        bundle: The bundle's digest, or its first digits.
        score: The score's name.
        calibration: The digest of the calibration that the score's fit belongs to; None where there
            is nothing to fit.
    """

    bundle: str
    score: str
    calibration: str | None = None

    def told(self, row: Mapping[str, Any]) -> bool:
        """Whether all of it is written beside a score: the calibration only where it matters."""
        named = ("bundle", "score_name") if self.calibration is None else ("bundle", "score_name", "calibration")
        return all(row.get(key) is not None for key in named)

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether what is written beside a score agrees, as far as it is written."""
        told = {"bundle": self.bundle, "score_name": self.score, "calibration": self.calibration}
        return all(
            row.get(key) is None or expected is None or _same(str(row[key]), expected) for key, expected in told.items()
        )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores without their images.

    Attributes:
        values: (N,), lower is more suspicious.
        classes: (N,) the predicted class of each; None where not known.
        path: The execution path, as text; None where not known.
        told: The file tells which bundle and score they are of, and which fit where there is one.
        live: They were taken from a service at work, so that nobody knows that they are of clean images.
        skipped: Scores passed over: they are of another bundle, score or fit.
        dropped: Scores that the server could not write.
    """

    values: Floats
    classes: Ints | None = None
    path: str | None = None
    told: bool = False
    live: bool = False
    skipped: int = 0
    dropped: int = 0

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        object.__setattr__(self, "values", values)
        if values.ndim != 1 or not len(values):
            raise InputError(f"scores: expected shape (N,), found {values.shape}")
        if np.isnan(values).any():
            raise InputError(f"scores: expected numbers, found nan at {int(np.flatnonzero(np.isnan(values))[0])}")
        if self.classes is not None and (
            self.classes.shape != values.shape or not np.issubdtype(self.classes.dtype, np.integer)
        ):
            raise InputError(
                f"classes: expected {values.shape} integers, found {self.classes.shape} {self.classes.dtype}"
            )

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def load(cls, path: Path, origin: Origin) -> Self:
        """Reads the scores of an origin.

        Raises:
            InputError: Not such a file, a line that is no score, or no score of that origin.
        """
        if path.suffix == ".npz":
            return cls(**_from_npz(path, origin))
        found = _Lines()
        for number, line in _lines(path):
            try:
                found.add(_row(line, number, path.suffix), origin)
            except (ValueError, TypeError, RecursionError) as error:
                raise InputError(f"{path}: line {number}: expected a score, found {error}") from None
        if not found.values:
            raise InputError(f"{path}: {_none(origin, found.skipped)}")
        return cls(**found.scores())

    def save(self, path: Path, origin: Origin) -> None:
        """Writes an `.npz`, whole or not at all."""
        info = {
            "bundle": origin.bundle,
            "score_name": origin.score,
            "calibration": origin.calibration,
            "path": self.path,
            "live": self.live,
        }
        arrays = {"scores": self.values, "info": np.array(json.dumps(info, sort_keys=True))}
        if self.classes is not None:
            arrays["classes"] = self.classes
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def holds_scores(path: Path) -> bool:
    """Whether a file is one of scores alone, by its ending, or for an `.npz` by the names of its arrays."""
    if path.suffix == ".npz":
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        return "scores.npy" in names and "images.npy" not in names
    return path.suffix in (*_TEXT, _LINES)


def refuse_scores(path: Path) -> None:
    """Raises where images are expected, and a file holds scores alone."""
    if not path.is_dir() and holds_scores(path):
        raise InputError(
            f"{path}: expected images, found scores alone, of which nobody can see any more whether they are of clean "
            "images; --assume-clean takes them for it"
        )


class _Lines:
    """Scores gathered line by line: numbers, and no object for each."""

    def __init__(self) -> None:
        self.values = array("d")
        self.skipped = 0
        self._classes = array("q")
        self._paths: set[str | None] = set()
        self._told = True
        self._live = False
        self._dropped = 0

    def add(self, row: Mapping[str, Any], origin: Origin) -> None:
        """One line."""
        if "dropped" in row:
            self._dropped += int(row["dropped"])
            return
        value = _number(row["score"])
        if not origin.fits(row):
            self.skipped += 1
            return
        self.values.append(value)
        if row.get("class") is not None:
            self._classes.append(int(row["class"]))
        self._paths.add(row.get("path"))
        self._told &= origin.told(row)
        self._live |= "time" in row

    def scores(self) -> dict[str, Any]:
        """The fields of `Scores`."""
        whole = len(self._classes) == len(self.values)
        return {
            "values": np.array(self.values),
            "classes": np.array(self._classes, dtype=np.int64) if whole else None,
            "path": self._paths.pop() if len(self._paths) == 1 else None,
            "told": self._told,
            "live": self._live,
            "skipped": self.skipped,
            "dropped": self._dropped,
        }


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers from 1."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield number, text
    except FileNotFoundError:
        raise InputError(f"{path}: expected a file of scores, found none") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8, found {error.reason}") from None


def _row(line: str, number: int, suffix: str) -> Mapping[str, Any]:
    """A line as an object; ValueError or TypeError where it is none."""
    if suffix in _TEXT:
        return {"dropped": 0} if number == 1 and line.lower() == "score" else {"score": float(line)}
    row = json.loads(line)
    if not isinstance(row, dict):
        return {"score": row}
    if "score" not in row and "dropped" not in row:
        raise ValueError("no field 'score'")
    return row


def _number(value: Any) -> float:
    """A score from JSON, where minus infinity is a string."""
    if isinstance(value, bool) or value is None:
        raise TypeError(repr(value))
    number = float(value)
    if math.isnan(number):
        raise ValueError("nan")
    return number


def _from_npz(path: Path, origin: Origin) -> dict[str, Any]:
    """The fields of `Scores` from an archive."""
    arrays = read_arrays(path, ("scores", "classes", "info"))
    if "scores" not in arrays:
        raise InputError(f"{path}: expected an array 'scores', found {', '.join(sorted(arrays)) or 'none'}")
    info = parse_info(arrays["info"]) if "info" in arrays else {}
    if not origin.fits(info):
        raise InputError(f"{path}: {_none(origin, len(arrays['scores']))}")
    try:
        Scores(values=arrays["scores"], classes=arrays.get("classes"))
    except (InputError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    return {
        "values": arrays["scores"],
        "classes": arrays.get("classes"),
        "path": info.get("path"),
        "told": origin.told(info),
        "live": bool(info.get("live", False)),
    }


def _none(origin: Origin, others: int) -> str:
    """That there is no score of an origin."""
    fit = "" if origin.calibration is None else f" as calibration {origin.calibration[:DIGITS]} fitted it"
    found = f"{others} of others only" if others else "none"
    return f"expected scores of {origin.score}{fit} by bundle {origin.bundle[:DIGITS]}, found {found}"


def _same(one: str, other: str) -> bool:
    """Whether two names, or digests of which one may be cut, are the same."""
    return (
        one == other
        or (len(one) >= DIGITS and other.startswith(one))
        or (len(other) >= DIGITS and one.startswith(other))
    )
