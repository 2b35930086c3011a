"""Chromium without a window, asked over a pipe in its own protocol: what a page looks like and what it asks for."""

import base64
import json
import os
import select
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def find_chromium() -> str | None:
    """Where Chromium or Chrome is; None where there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


_PATIENCE_S: Final = 120

Box = tuple[float, float, float, float]
"""Left and upper edge on the page, width and height, in pixels."""

CHROMIUM: Final = find_chromium()
needs_chromium: Final = pytest.mark.skipif(CHROMIUM is None, reason=f"expected one of {', '.join(_NAMES)}; found none")


class Browser:
    """One tab of a browser without a window."""

    def __init__(self, reading: int, writing: int) -> None:
        self._from = os.fdopen(reading, "rb", buffering=0)
        self._to = os.fdopen(writing, "wb", buffering=0)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def attach(self) -> None:
        """Opens the tab."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self._session = None
        self.ask("Browser.close")
        self._to.close()
        self._from.close()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol; what happens meanwhile is kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, path: Path, *, width: int, scheme: str, media: str = "screen") -> None:
        """Shows a file and waits until it is loaded; `scheme` is `light` or `dark`."""
        self.events.clear()
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.ask(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def run(self, expression: str) -> Any:
        """What a script says of the page; the page's own policy does not bind it."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, box: Box) -> bytes:
        """A part of the page as PNG, whether it is in the window or not."""
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
        return base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"])

    def happened(self, *methods: str) -> list[dict[str, Any]]:
        """The parameters of the events of these kinds since the page was asked for."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def _read(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self._rest:
            assert select.select([self._from], [], [], _PATIENCE_S)[0], "the browser does not answer"
            part = self._from.read(1 << 20)
            assert part, "the browser has gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, gone afterwards."""
    assert CHROMIUM is not None
    to_read, to_write = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Path(os.devnull).open("r+b") as nothing:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        child = os.posix_spawn(
            CHROMIUM,
            [CHROMIUM, *_FLAGS, *sandbox, f"--user-data-dir={profile}"],
            {**os.environ, "HOME": profile},
            file_actions=[
                # Above what Chromium expects, so that neither takes the other's place.
                (os.POSIX_SPAWN_DUP2, to_read[0], 13),
                (os.POSIX_SPAWN_DUP2, to_write[1], 14),
                (os.POSIX_SPAWN_DUP2, 13, 3),
                (os.POSIX_SPAWN_DUP2, 14, 4),
                *((os.POSIX_SPAWN_DUP2, nothing.fileno(), number) for number in range(3)),
            ],
        )
        os.close(to_read[0])
        os.close(to_write[1])
        tab = Browser(to_write[0], to_read[1])
        try:
            tab.attach()
            yield tab
        finally:
            tab.close()
            os.waitpid(child, 0)
