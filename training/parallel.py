"""Several processes on one run, as `torchrun` starts them: each takes its share of every batch.

Gradients are averaged by hand after the backward pass, all in one message: an ensemble of small members is
a few megabytes, members that are frozen or trained one at a time need no care, and the average over equal
shares is the gradient of the whole batch. Batch normalisation sees the whole batch on GPUs (SyncBatchNorm); on
CPUs, where torch has none, each process normalises its own share, and the leading one's statistics are the run's.
"""

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from detector.errors import InputError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Group:
    """The processes of a run.

    Attributes:
        rank: This one's number, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files, and measures."""
        return self.rank == 0

    def check_batch(self, batch_size: int) -> None:
        """Refuses a batch that cannot be shared out evenly.

        Raises:
            InputError: Not a multiple of the number of processes.
        """
        if batch_size % self.size:
            raise InputError(f"batch_size: expected a multiple of {self.size} processes, found {batch_size}")

    def share(self, rows: Any) -> Any:
        """This process's part of a batch."""
        return rows[self.rank :: self.size]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces each gradient by its average over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        means = torch.split_with_sizes(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def align(self, buffers: Iterable[Tensor]) -> None:
        """Gives every process the leading one's, as a checkpoint will when the run goes on."""
        if self.size == 1:
            return
        for buffer in buffers:
            distributed.broadcast(buffer, src=0)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def told(self, value: _T) -> _T:
        """What the leading process says, in all of them; also waits for it."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that `torchrun` started this process in, or a group of one.

    Raises:
        InputError: Processes that would share a GPU.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield Group()
        return
    if device.type == "cuda":
        if (device.index or 0) != int(os.environ.get("LOCAL_RANK", "0")):
            raise InputError(f"device: expected cuda, which is a GPU for each process of torchrun, found {device}")
        torch.cuda.set_device(device)  # where objects are sent through
    # Once and for as long as the process lives: at the same place, processes cannot meet a second time.
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    yield Group(rank=distributed.get_rank(), size=distributed.get_world_size())
