"""The package's names: each the very object of the module it comes from, and none loaded before it is used."""

import importlib
import subprocess
import sys

import pytest

import training
from tests.naming import told_homes


def test_dir_shows_them() -> None:
    assert dir(training) == sorted(training.__all__)


@pytest.mark.parametrize("name", training.__all__)
def test_a_name_is_what_type_checkers_are_told(name: str) -> None:
    homes = told_homes(training)
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
