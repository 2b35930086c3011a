"""Both clients with one face, so that the same tests hold for both: each call is a future."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from serving.asyncclient import AsyncClient
from serving.client import Client
from serving.modelinfo import ModelInfo

_PATIENCE_S = 30.0
Kind = type[Client] | type[AsyncClient]

KINDS = {"threads": Client, "asyncio": AsyncClient}


class Caller:
    """A client, whose calls a test may start and go on.

    An `AsyncClient` lives in an event loop on a thread of its own.
    """

    def __init__(self, kind: Kind, addresses: Any, **options: Any) -> None:
        self.client = kind(addresses, **options)
        self._closing = ExitStack()
        self.loop = asyncio.new_event_loop()
        if isinstance(self.client, AsyncClient):
            thread = threading.Thread(target=self.loop.run_forever)
            thread.start()
            self._closing.callback(self.loop.close)
            self._closing.callback(thread.join)
            self._closing.callback(self.loop.call_soon_threadsafe, self.loop.stop)
        else:
            self.loop.close()
            self._threads = self._closing.enter_context(ThreadPoolExecutor())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._closing.close()

    def start(self, name: str, *arguments: Any, **options: Any) -> "Future[Any]":
        """Starts a call of the client's."""
        method = getattr(self.client, name)
        if isinstance(self.client, AsyncClient):
            return asyncio.run_coroutine_threadsafe(method(*arguments, **options), self.loop)
        return self._threads.submit(method, *arguments, **options)

    def classify(self, images: Any, **options: Any) -> Any:
        """Waits for the verdicts."""
        return self.start("classify", images, **options).result(_PATIENCE_S)

    def model(self, name: str = "", **options: Any) -> ModelInfo:
        """Waits for the description."""
        found = self.start("model", name, **options).result(_PATIENCE_S)
        assert isinstance(found, ModelInfo)
        return found

    def wait_ready(self, timeout_s: float) -> None:
        """Waits for a server."""
        self.start("wait_ready", timeout_s).result(2 * _PATIENCE_S)

    def close(self) -> None:
        """Closes the client."""
        self.start("close").result(_PATIENCE_S)


Connect = Callable[..., Caller]
