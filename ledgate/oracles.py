"""What can be asked: a training run, a bundle, or a server, by the word that names it on the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.errors import InputError

if TYPE_CHECKING:
    from detector.oracle import Oracle
    from serving.client import Client


class Kind(StrEnum):
    """What a source is."""

    RUN = "a training run"
    BUNDLE = "a bundle"
    SERVER = "a server"

    @classmethod
    def of(cls, source: str) -> "Kind":
        """A folder with a bundle's manifest, any other folder, or an address.

        Raises:
            InputError: None of these.
        """
        from detector.bundle import MANIFEST

        if Path(source).is_dir():
            return cls.BUNDLE if (Path(source) / MANIFEST).exists() else cls.RUN
        host, _, port = source.rpartition(":")
        if not (host and port.isdigit()):
            raise InputError(f"{source}: expected the folder of a run or a bundle, or HOST:PORT, found none of these")
        return cls.SERVER


@contextmanager
def opened(
    source: str,
    *,
    device: str,
    threads: int | None,
    budget: int | None,
    connect: "Callable[[str], Client]",
    model: str,
    timeout_s: float,
) -> "Iterator[Oracle]":
    """Yields a source, to be asked as long as the context lasts.

    Args:
        source: The folder of a finished run, that of a bundle, or the address of a server.
        device: Of a run or a bundle: `cpu`, `cuda`, `cuda:1`, or `auto`.
        threads: Of a run or a bundle: CPU threads; by default 1 for a run and all for a bundle.
        budget: Most queries, for all images together; None for no end of them.
        connect: Makes a client of a server, to be closed, from its address.
        model: Of a server with several; else its default.
        timeout_s: For a server's answer to each batch of images.

    Raises:
        LedgateError: What the run, the bundle or the server has to say.
    """
    kind = Kind.of(source)
    if kind is Kind.RUN:
        from training.oracle import asking

        options: dict[str, Any] = {} if threads is None else {"threads": threads}
        with asking(source, device=device, budget=budget, **options) as oracle:
            yield oracle
    elif kind is Kind.BUNDLE:
        from detector.bundle import Bundle
        from detector.detector import Detector
        from detector.oracle import Oracle

        bundle = Bundle.open(source, calibrated=False)
        yield Oracle.of_detector(Detector(bundle, device=device, threads=threads), budget=budget)
    else:
        from detector.oracle import Oracle

        with connect(source) as client:
            info = client.model(model, timeout_s=timeout_s)
            yield Oracle(
                # Cut into as many calls as the server's limits ask for.
                ask=lambda images: client.classify(images, model=model, timeout_s=timeout_s).probabilities,
                shape=info.shape,
                classes=len(info.labels),
                known_as={"bundle": info.bundle_digest},
                budget=budget,
            )
