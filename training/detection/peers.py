"""`detectors.json`: what other detectors make of the same images, as `benchmarks.detectors` writes it."""

from pathlib import Path
from typing import Any, ClassVar, Final

from detector.document import Document, Record
from detector.errors import InputError, LedgateError
from training.detection.content import Found
from training.detection.figures import Figures

FILE: Final = "detectors.json"


class Beside(Record):
    """Other detectors on a run's images.

    Attributes:
        run: The SHA-256 of its checkpoint.
        material: The digest of the images.
        figures: Of each detector.
    """

    run: str
    material: str
    figures: tuple[Figures, ...]


class Peers(Document):
    """The file.

    Attributes:
        provenance: What measured, with the versions of the libraries.
        left_out: Why detectors are missing, by their names.
        runs: What was found on each run.
    """

    error: ClassVar[type[LedgateError]] = InputError

    provenance: dict[str, Any]
    left_out: dict[str, str]
    runs: tuple[Beside, ...]
    digest: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Peers | None":
        """A folder's file; None where there is none.

        Raises:
            InputError: A file of that name that is none of ours.
        """
        path = folder / FILE
        return cls.load(path) if path.exists() else None

    def of(self, found: Found) -> tuple[Figures, ...]:
        """The detectors on a run's images; none where they saw other images than ours did."""
        return next(
            (each.figures for each in self.runs if (each.run, each.material) == (found.run, found.material)), ()
        )
