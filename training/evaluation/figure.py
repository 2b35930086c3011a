"""Figures on disk."""

from pathlib import Path

from matplotlib.figure import Figure

from detector.files import replacing


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=96, pil_kwargs={"optimize": True})
