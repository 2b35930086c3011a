"""The detector as a gRPC service: batching, validation, lifecycle, and the client. No torch.

A name is imported when it is first used, so that a client does not load the server's libraries.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from detector.errors import QueueFull
    from serving.answer import ServedVerdicts
    from serving.asyncclient import AsyncClient
    from serving.client import Client
    from serving.config import Reply, ServerConfig
    from serving.modelinfo import ModelInfo
    from serving.retry import Retry
    from serving.server import Server
    from serving.tls import Tls

__all__ = [
    "AsyncClient",
    "Client",
    "ModelInfo",
    "QueueFull",
    "Reply",
    "Retry",
    "ServedVerdicts",
    "Server",
    "ServerConfig",
    "Tls",
]

_HOMES: Final = {
    "AsyncClient": "serving.asyncclient",
    "Client": "serving.client",
    "ModelInfo": "serving.modelinfo",
    "QueueFull": "detector.errors",
    "Reply": "serving.config",
    "Retry": "serving.retry",
    "ServedVerdicts": "serving.answer",
    "Server": "serving.server",
    "ServerConfig": "serving.config",
    "Tls": "serving.tls",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'serving' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
