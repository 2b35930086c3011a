"""How members run faster on a GPU: choices that a server offers, and that change no result beyond rounding."""

from dataclasses import dataclass
from pathlib import Path

from detector.errors import SettingError


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Choices beside device and precision.

    Attributes:
        max_batch: Most images in one run on TensorRT, whose engines are built for 1 to so many; more are run in parts.
        cuda_graphs: Record the runs of small batches on CUDA once, and replay them.
        pinned_memory: Hand images of up to `max_batch` to a GPU in page-locked memory, which it reads by itself.
        engine_cache: A folder for TensorRT's engines, which take minutes to build; None keeps none. Whoever can write
            there can run code here.

    Raises:
        SettingError: A number out of range.
    """

    max_batch: int = 64
    cuda_graphs: bool = False
    pinned_memory: bool = False
    engine_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise SettingError(f"max_batch: expected at least 1, found {self.max_batch}")
