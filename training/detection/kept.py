"""Attacked images that are kept: whatever took long is computed once, and others can judge the very same images.

The folder is a cache. It asks version control to look away, and what is missing in it is computed again.
"""

from pathlib import Path
from typing import Any, Final

from detector.document import sha256
from detector.files import write_bytes
from detector.imageset import ImageSet
from detector.unfinished import discard, folder_of
from training.attacked import attack
from training.attacks import Attack
from training.robustness.cell import Task
from training.run import Run

FOLDER: Final = "detection-images"


class Kept:
    """The attacked images of a results folder.

    Args:
        results: Where `detection.json` is, or will be.
    """

    def __init__(self, results: Path) -> None:
        self.folder = results / FOLDER

    def file(self, run: Run, settings: Attack, task: Task, split: str) -> str:
        """The name of a set's file: the run, the attack, the part of the data set, and a digest of everything."""
        digest = sha256(f"{task.key} {split}".encode())[:12]
        return f"{run.path.resolve().name}-{settings.name}-{split}-{digest}.npz"

    def load(self, file: str) -> ImageSet:
        """The images of a file.

        Raises:
            InputError: It is not there, or damaged.
        """
        return ImageSet.load(self.folder / file)

    def has(self, file: str) -> bool:
        """Whether it is there."""
        return (self.folder / file).exists()

    def attacked(self, file: str, run: Run, images: ImageSet, settings: Attack, **how: Any) -> ImageSet:
        """The images of a file, which are made, and kept, where it is not there.

        Args:
            file: See `file`.
            run: What is attacked.
            images: What to start from.
            settings: The attack.
            how: See `training.attacked.attack`.
        """
        if self.has(file):
            return self.load(file)
        write_bytes(self.folder / ".gitignore", b"*\n")
        unfinished = folder_of(self.folder / file)
        found = attack(run, images, settings, unfinished=unfinished, **how)
        found.save(self.folder / file)
        discard(unfinished)
        return found
