"""What every demo does: say how far it is, make room for what it leaves behind, and leave samples."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from detector.errors import InputError
from detector.imageset import ImageSet
from detector.verdicts import Verdicts

_MARK: Final = "demo.json"  # what tells a demo's folder from any other
_SAMPLES: Final = 8


def say(line: str) -> None:
    """One line of progress, at once."""
    print(line, flush=True)


def called() -> str:
    """How the user called the `ledgate` command, to say what to try next."""
    return sys.argv[0] if Path(sys.argv[0]).name == "ledgate" else "ledgate"


def make_room(out: Path) -> None:
    """Empties the folder of an earlier demo; touches nothing else.

    Raises:
        InputError: Something else is there.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise InputError(f"{out}: expected no folder, or an earlier demo's, found another; choose one with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text('{"made by": "ledgate demo"}\n')


def save_samples(out: Path, rows: Mapping[str, tuple[ImageSet, Verdicts]]) -> None:
    """A few images as PNG, as they are, for `ledgate classify`; and one picture of them with the answers."""
    from PIL import Image

    from ledgate.gallery import pixels, save_gallery

    (out / "images").mkdir()
    for name, (images, _) in rows.items():
        for index in range(min(_SAMPLES, len(images))):
            Image.fromarray(pixels(images, index)).save(out / "images" / f"{name}-{index}.png")
    save_gallery(out / "samples.png", rows, columns=_SAMPLES)
