"""`robustness.json`: every cell that was ever finished, written whole after each, so that nothing is computed twice."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from detector.document import Document
from detector.errors import InputError, LedgateError
from detector.provenance import provenance
from training.robustness.cell import Cell, Task

CELLS: Final = "robustness.json"


class Content(Document):
    """The file, with its digest, so that a figure that was damaged or edited is noticed.

    Attributes:
        provenance: Of the call that wrote it last; each cell says where it was computed.
        cells: In the order in which they were finished. Those of runs or numbers of images that nobody asks for any
            more stay, since they may have taken hours.
    """

    error: ClassVar[type[LedgateError]] = InputError

    provenance: dict[str, Any]
    cells: tuple[Cell, ...]
    digest: str = ""


class Cells:
    """The finished cells of a folder.

    Args:
        folder: Where the file is, or will be.

    Raises:
        InputError: A file of that name that is none of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CELLS
        self.provenance = provenance("torch", "pyautoattack")
        self._cells: dict[str, Cell] = {}
        if self.path.exists():
            try:
                content = Content.load(self.path)
            except InputError as error:
                raise InputError(f"{error}; remove the file to compute all of it anew") from None
            self._cells = {cell.task.key: cell for cell in content.cells}

    def find(self, task: Task) -> Cell | None:
        """The cell of a task; None where it is not finished."""
        return self._cells.get(task.key)

    def add(self, cell: Cell) -> None:
        """Keeps a cell, at once and for good."""
        self._cells[cell.task.key] = cell
        self.save()

    def save(self) -> None:
        """Writes the file."""
        self.content(self._cells.values()).save(self.path)

    def content(self, cells: Iterable[Cell]) -> Content:
        """Some cells with the provenance, as in the file."""
        return Content(provenance=self.provenance, cells=tuple(cells))

    def of_run(self, digest: str) -> list[Cell]:
        """All cells of a run."""
        return [cell for cell in self._cells.values() if cell.task.run == digest]


def most_images(
    cells: Iterable[Cell], attack: Mapping[str, Any], aim: Mapping[str, Any], member: int | None = None
) -> Cell | None:
    """Of the cells of an attack the one on most images; None where there is none.

    Args:
        cells: Of one run.
        attack: The attack's settings, or those that tell it from others.
        aim: What was wanted.
        member: Crafted on that member alone.
    """
    found = [cell for cell in cells if cell.task.is_of(attack, aim, member)]
    return max(found, key=lambda cell: cell.task.images, default=None)
