"""Training images on their way to the steps, so that no step waits for them.

Images that fit are put on the device once, as 8-bit where they are that, and a batch is an indexing there.
Those that stay on disk are read one batch ahead, beside the step.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from detector.imageset import Images
from detector.prediction import Ints


class Feed:
    """Images and labels by row.

    Args:
        images: (N, C, H, W), uint8 or float32 in [0, 1]; a `numpy.memmap` stays on disk.
        labels: (N,) int64.
        device: Where batches go.
    """

    def __init__(self, images: Images, labels: Ints, device: torch.device) -> None:
        self._labels = torch.from_numpy(labels).to(device)
        self._device = device
        self._on_disk = images if isinstance(images, np.memmap) else None
        self._at_hand = None if self._on_disk is not None else torch.from_numpy(images).to(device)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, picks: Sequence[Ints]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each array of rows, images (n, C, H, W) as they are stored and labels (n,) int64, on the device."""
        if self._at_hand is not None:
            for rows in picks:
                index = torch.from_numpy(rows).to(self._device)
                # On a CPU many times faster than `[index]`, which looks up every single pixel of 8 bits.
                yield self._at_hand.index_select(0, index), self._labels[index]
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as reader:
            coming = reader.submit(self._read, picks[0]) if picks else None
            for step, rows in enumerate(picks):
                assert coming is not None
                images = coming.result()
                coming = reader.submit(self._read, picks[step + 1]) if step + 1 < len(picks) else None
                labels = self._labels[torch.from_numpy(rows).to(self._device)]
                yield images.to(self._device, non_blocking=True), labels

    def _read(self, rows: Ints) -> Tensor:
        """Images from disk, where a GPU can fetch them."""
        assert self._on_disk is not None
        images = torch.from_numpy(np.asarray(self._on_disk[rows]))
        return images.pin_memory() if self._device.type == "cuda" else images


def floats(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1], and float32 as it is; the numbers of `detector.imageset.as_floats`."""
    if images.dtype != torch.uint8:
        return images
    # A divisor that lies on the device: by a number, a GPU multiplies with its reciprocal, which is another number.
    return images.float() / torch.full((), 255.0, device=images.device)
