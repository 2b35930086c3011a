"""How every benchmark ends: its figures as JSON, for who asked for them, and its table for people."""

import json
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detector.files import write_bytes


def run(
    options: Namespace, measure: Callable[[Namespace], dict[str, Any]], table: Callable[[dict[str, Any]], str]
) -> int:
    """Measures, prints, and writes to `options.out`: the whole of a benchmark that has no more to say."""
    found = measure(options)
    return finish(found, table(found), options.out)


def finish(found: Mapping[str, Any], text: str, out: Path | None) -> int:
    """Writes the figures where a file is named, prints the text, and returns the exit status of success."""
    if out is not None:
        write_bytes(out, json.dumps(found, indent=2).encode() + b"\n")
    print(text)
    return 0
