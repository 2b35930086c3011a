"""What a package tells type checkers about its names, which it imports only when they are used."""

import ast
from pathlib import Path
from types import ModuleType


def told_homes(package: ModuleType) -> dict[str, str | None]:
    """Name -> module, as the package's block for type checkers has it."""
    assert package.__file__ is not None
    return {
        alias.name: node.module
        for block in ast.parse(Path(package.__file__).read_text("utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
