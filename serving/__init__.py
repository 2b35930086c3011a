"""The detector as a gRPC service: batching, validation, lifecycle, and the client. No torch.

A name is imported when it is first used, so that a client does not load the server's libraries.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from serving.client import Client
    from serving.config import Reply, ServerConfig
    from serving.modelinfo import ModelInfo
    from serving.server import Server
    from serving.tls import Tls

__all__ = ["Client", "ModelInfo", "Reply", "Server", "ServerConfig", "Tls"]

_HOMES: Final = {
    "Client": "serving.client",
    "ModelInfo": "serving.modelinfo",
    "Reply": "serving.config",
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
