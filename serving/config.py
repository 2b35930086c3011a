"""How a server runs: frozen, and checked where it is made."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from detector.decoding import MAX_PIXELS
from detector.errors import SettingError
from serving.loopback import is_loopback

MAX_PORT: Final = 65535
MAX_WAIT_S: Final = 86400.0
# Calls that wait may hold a thread each (see `serving.callthreads`): so the pool is larger than the queue, up to this.
_MAX_CALL_THREADS: Final = 8192
# For calls that do not wait: refusals, health, reflection, GetModel.
_SPARE_THREADS: Final = 32


class Reply(StrEnum):
    """How much a reply tells.

    Exact scores are an oracle: with them an attacker finds out how near the threshold an image is.
    """

    FULL = "full"
    FLAG_ONLY = "flag-only"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What a server is started with.

    Attributes:
        host: Name or address to listen on; without TLS only loopback is safe.
        port: TCP port; 0 picks a free one.
        share_port: Let other servers with this setting listen on the same port; the kernel shares callers out.
        max_batch: Most images in one run of a model.
        batch_wait_s: How long the first image of a batch waits for company, in seconds. With 0
            whatever waits is run as soon as the model is free.
        max_queue: Most images that wait for one model; a call beyond it is refused at once.
        max_images: Most images of one call.
        max_message_bytes: Largest request.
        max_pixels: Largest encoded image, refused before it is decoded.
        max_streams: Most streams open at a time.
        stream_window: Most requests of one stream that have been read and not answered.
        allow_members: Whether a caller may ask for the members' probabilities.
        reply: Whether scores and thresholds are told.
        grace_s: Most seconds for what has been accepted to be answered, once the server stops.
        watch_s: Seconds between two looks whether a bundle's folder has changed; with 0 it is looked
            at only on SIGHUP, so that what is served changes when somebody says so and not before.

    Raises:
        InputError: A number out of range, or members' probabilities together with flag-only.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    share_port: bool = False
    max_batch: int = 32
    batch_wait_s: float = 0.0
    max_queue: int = 4096
    max_images: int = 256
    max_message_bytes: int = 32 << 20
    max_pixels: int = MAX_PIXELS
    max_streams: int = 64
    stream_window: int = 16
    allow_members: bool = False
    reply: Reply = Reply.FULL
    grace_s: float = 30.0
    watch_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_queue", "max_images", "max_message_bytes", "max_pixels", "max_streams"):
            _check_range(name, getattr(self, name), 1, 2**31 - 1)
        _check_range("stream_window", self.stream_window, 1, 2**31 - 1)
        _check_range("port", self.port, 0, MAX_PORT)
        for name in ("batch_wait_s", "grace_s", "watch_s"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_WAIT_S:  # NaN fails both
                raise SettingError(f"{name}: expected 0 to {MAX_WAIT_S:g} seconds, found {value}")
        if self.share_port and not self.port:
            raise SettingError("share_port: expected a port to share, found 0, which picks a free one")
        if not self.host:
            raise SettingError("host: expected a name or an address, found nothing")
        if self.allow_members and self.reply is Reply.FLAG_ONLY:
            raise SettingError(
                "allow_members: expected it off where replies are flag-only, found it on; "
                "from the members' probabilities anybody can compute the score"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def call_threads(self, models: int) -> int:
        """Threads that calls may hold: so many that the queues fill up before the threads run out."""
        waiting = models * (self.max_queue + self.max_batch)
        return min(waiting, _MAX_CALL_THREADS) + self.max_streams + _SPARE_THREADS


def address(host: str, port: int) -> str:
    """Host and port as one word; an IPv6 address goes into brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_range(name: str, value: int, low: int, high: int) -> None:
    """Raises unless low <= value <= high."""
    if not low <= value <= high:
        raise SettingError(f"{name}: expected {low} to {high}, found {value}")
