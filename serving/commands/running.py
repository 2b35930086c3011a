"""The options of `ledgate serve` that say where and how members run."""

import argparse
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.running import add_running as add_device

if TYPE_CHECKING:
    from serving.config import ServerConfig
    from serving.opening import Opener


def add_running(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_device(parser)
    add = parser.add_argument
    add("--threads", type=int, metavar="N", help="CPU threads of a model; by default the cores there are to use")
    add("--cuda-graphs", action=BooleanOptionalAction, help="on CUDA, record the runs of up to 32 images once and "
        "replay them")  # fmt: skip
    add("--pinned-memory", action=BooleanOptionalAction, help="on a GPU, hand it images in page-locked memory, "
        "which it reads by itself")  # fmt: skip
    add("--engine-cache", type=Path, metavar="DIR", help="on TensorRT, keep engines there, which take minutes to "
        "build; whoever can write there can run code here")  # fmt: skip


def opener_of(options: argparse.Namespace, config: "ServerConfig") -> "Opener":
    """What opens bundles as the options say."""
    from serving.opening import Opener

    return Opener(
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        max_batch=config.max_batch,
        cuda_graphs=bool(options.cuda_graphs),
        pinned_memory=bool(options.pinned_memory),
        engine_cache=options.engine_cache,
    )
