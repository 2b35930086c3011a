"""The package's names: each the very object of the module it comes from, and none loaded before it is used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import training


def test_dir_shows_them() -> None:
    assert dir(training) == sorted(training.__all__)


@pytest.mark.parametrize("name", training.__all__)
def test_a_name_is_what_type_checkers_are_told(name: str) -> None:
    tree = ast.parse(Path(training.__file__).read_text("utf-8"))
    homes = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(homes) == set(training.__all__)
    home = homes[name]
    assert home is not None
    assert getattr(training, name) is getattr(importlib.import_module(home), name)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'training' has no attribute 'trane'"):
        getattr(training, "trane")  # noqa: B009  a type checker knows that it is not there


def test_the_package_alone_loads_nothing() -> None:
    code = "import sys, training; print([m for m in ('torch', 'numpy', 'sklearn', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
