"""The log, for people or as one JSON object a line, and the access log. Never an image, never a score.

What belongs to a line beside its text comes in `extra={"fields": {...}}`, and is a key of the object.
"""

import json
import logging
import sys
import warnings
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from protos.inference import inference_pb2
from serving.calls import Answered
from serving.status import MAX_ID

# A name of its own, by which it can be told from the rest.
access: Final = logging.getLogger("ledgate.access")


class LogFormat(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, the fields, and the traceback as `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(level: str, style: LogFormat) -> None:
    """Writes the log of this process to standard error.

    Args:
        level: `debug`, `info` or `warning`.
        style: Of a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if style is LogFormat.JSON
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Warnings of libraries would be lines of another form. Pillow's are about callers' files, each in other words, and
    # a flood of them must not fill a disk.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.captureWarnings(True)


def log_access(answered: Answered) -> None:
    """Writes one line for an answer: an observer of `serving.calls`."""
    fields: dict[str, Any] = {
        "method": answered.method,
        "code": answered.code.name,
        "peer": answered.peer,
    }
    if answered.request_id:
        fields["request_id"] = answered.request_id[:MAX_ID]
    if answered.caller:
        fields["caller"] = answered.caller
    if answered.seconds is not None:
        fields["milliseconds"] = round(answered.seconds * 1000, 3)
    images = _images(answered.reply)
    if images is not None:
        fields["images"] = images
    access.info("%s", _Words(fields), extra={"fields": {"message": "answered", **fields}})


def _images(reply: Any) -> int | None:
    """How many images were answered; None where the call was about none, or was refused."""
    if isinstance(reply, inference_pb2.ModelInferResponse):
        return int(reply.outputs[0].shape[0]) if reply.outputs else None
    results = getattr(reply, "results", None)
    return None if results is None else len(results)


class _Words:
    """Fields as text, put together only where somebody reads it; a caller's text is quoted."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        return " ".join(f"{name}={value!r}" for name, value in self._fields.items())
