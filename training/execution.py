"""How torch runs here: on which device, on a stated number of threads, deterministic, leaving no trace behind.

One thread is the default. Small networks gain little from a second, which on a busy machine waits for
its turn at every layer and makes training several times slower; and sums are added up in another order
on another number of threads, so that one thread gives the same bits on every number of cores.
"""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from detector.errors import InputError, SettingError

THREADS: Final = 1


def find_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: `cpu`, `cuda`, `cuda:1`, or `auto`: a CUDA device where there is one. Processes of `torchrun` each
            get one of their own from `cuda` and `auto`.

    Raises:
        InputError: Another name, or a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise SettingError(f"device: expected auto, cpu, cuda or cuda:N, found {name!r}")
    own = os.environ.get("LOCAL_RANK")
    device = torch.device(f"cuda:{own}" if name == "cuda" and own else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: expected one of {torch.cuda.device_count()} CUDA devices, found {str(device)!r}")
    return device


@contextmanager
def reproducible(threads: int, device: torch.device | None = None) -> Iterator[None]:
    """Deterministic kernels on so many CPU threads; torch's state is given back as it was.

    On a CUDA device the fastest kernels are taken instead, and the last bits differ from run to run.

    Raises:
        InputError: threads below 1.
    """
    if threads < 1:
        raise SettingError(f"threads: expected at least 1, found {threads}")
    on_cpu = device is None or device.type == "cpu"
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    threads_before, benchmark_before = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(on_cpu)
    torch.backends.cudnn.benchmark = not on_cpu
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[] if device is None or on_cpu else [device]):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.benchmark = benchmark_before
        torch.set_num_threads(threads_before)


def describe_machine(device: torch.device, processes: int) -> str:
    """What an epoch ran on, for people: hardware, threads or processes, torch."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        where = f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"
    return f"{where}{f', {processes} processes' if processes > 1 else ''}, torch {torch.__version__}"


def _processor() -> str:
    """The processor's name."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
