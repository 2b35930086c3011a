"""What is served, and under which name: `FOLDER`, or `NAME=FOLDER`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from detector.files import name_of


@dataclass(frozen=True)
class Offer:
    """A bundle's folder with the name by which callers ask for it.

    Attributes:
        folder: The folder, or a link to it, which may be moved to another version.
        name: Of the model.
    """

    folder: Path
    name: str

    @classmethod
    def of(cls, folder: Path) -> Self:
        """A folder under its own name; a link's own, not that of the version behind it."""
        return cls(folder, name_of(folder))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `FOLDER` or `NAME=FOLDER`. A folder of that very path comes first, and a name has no slash."""
        name, equals, folder = text.partition("=")
        if not (name and equals and folder) or "/" in name or Path(text).is_dir():
            return cls.of(Path(text))
        return cls(Path(folder), name)

    def __str__(self) -> str:
        return str(self.folder) if self.name == name_of(self.folder) else f"{self.name}={self.folder}"
