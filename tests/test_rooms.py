"""Who may import whom, held by reading every import statement, and by importing.

    training -> detector <- serving -> protos,    ledgate wires them

A library that is not in the table below has no place yet: give it one here, and in pyproject.toml.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room -> the rooms it may import beside itself
ROOMS = {
    "detector": set(),
    "protos": set(),
    "serving": {"detector", "protos"},
    "training": {"detector"},
    "ledgate": {"detector", "protos", "serving", "training"},
}

# library -> the rooms that may import it
LIBRARIES = {
    "PIL": {"detector", "ledgate"},
    "google.protobuf": {"detector", "protos", "serving"},
    "google.rpc": {"protos", "serving"},
    "grpc": {"protos", "serving"},
    "grpc_health": {"serving"},
    "grpc_reflection": {"serving"},
    "jinja2": {"detector"},
    "matplotlib": {"detector", "training"},
    "numpy": {"detector", "ledgate", "serving", "training"},
    "onnx": {"detector"},
    "onnxruntime": {"detector"},
    "onnxscript": {"training"},
    "opentelemetry": {"serving"},
    "prometheus_client": {"serving"},
    "pyautoattack": {"training"},
    "pydantic": {"detector"},
    "scipy": {"detector", "training"},
    "sklearn": {"detector", "training"},
    "torch": {"training"},
    "torchvision": {"training"},
    "tqdm": {"detector", "training"},
}


def imported(source: str, room: str) -> Iterator[tuple[int, str]]:
    """Line and package of every import statement, wherever it stands; below `google`, a namespace, two levels."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [room if node.level else node.module or ""]
            if modules == ["google"]:
                modules = [f"google.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            yield node.lineno, ".".join(module.split(".")[: 2 if module.startswith("google.") else 1])


def trespasses(source: str, room: str) -> list[str]:
    """The imports that a file of this room must not have."""
    return [
        f"line {line}: {name}"
        for line, name in imported(source, room)
        if name not in sys.stdlib_module_names
        and name not in {room} | ROOMS[room]
        and room not in LIBRARIES.get(name, set())
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_keep_to_the_rule(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = {str(file.relative_to(ROOT)): trespasses(file.read_text("utf-8"), room) for file in files}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("detector", "import torch.nn"),
        ("detector", "def f():\n    from serving import client"),
        ("detector", "if TYPE_CHECKING:\n    import grpc"),
        ("serving", "from torch import nn"),
        ("serving", "import training.adp as adp"),
        ("serving", "import onnxruntime"),
        ("training", "from ledgate import Bundle"),
        ("training", "import protos"),
        ("ledgate", "import torch"),
        ("ledgate", "import grpc"),
        ("protos", "import detector"),
        ("ledgate", "from tests import helpers"),
        ("detector", "import alibi_detect"),
        ("detector", "from google import rpc"),
        ("detector", "from google.rpc import status_pb2"),
    ],
)
def test_the_rule_sees_a_trespass(room: str, source: str) -> None:
    assert len(trespasses(source, room)) == 1


def loaded_by(statements: str, *libraries: str) -> set[str]:
    """Which of these libraries a fresh interpreter has loaded after the statements."""
    check = f"import sys; print(*[name for name in {libraries!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", f"{statements}\n{check}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


IMPORT_ALL = """
import importlib, pathlib
for file in sorted(pathlib.Path("{room}").rglob("*.py")):
    if file.name != "__init__.py":
        importlib.import_module(".".join(file.with_suffix("").parts))
"""


def test_the_front_loads_nothing_heavy() -> None:
    heavy = ("torch", "grpc", "onnxruntime", "onnx", "numpy", "scipy", "sklearn", "matplotlib", "pydantic")
    assert loaded_by("import ledgate, ledgate.cli; dir(ledgate); ledgate.__version__", *heavy) == set()


def test_no_module_of_the_detector_loads_torch_or_grpc() -> None:
    assert loaded_by(IMPORT_ALL.format(room="detector"), "torch", "grpc", "onnxruntime") == {"onnxruntime"}


def test_no_module_of_serving_loads_torch() -> None:
    assert loaded_by(IMPORT_ALL.format(room="serving"), "torch", "grpc") == {"grpc"}


def test_what_needs_no_torch_in_training_loads_none() -> None:
    assert loaded_by("import training, training.commands.alpha; dir(training)", "torch", "torchvision") == set()


@pytest.mark.parametrize("room", ["detector", "protos", "serving", "training"])
def test_a_package_that_shadows_ours_is_named(room: str, tmp_path: Path) -> None:
    fake = tmp_path / room / "__init__.py"
    fake.parent.mkdir()
    fake.write_text("")
    result = subprocess.run(
        [sys.executable, "-m", "ledgate", "inspect", "x"],
        cwd=ROOT.anchor,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"ledgate inspect: the package '{room}' is expected in {ROOT}")
    assert str(fake) in line


def test_a_shadowed_room_is_named_from_python_too(tmp_path: Path) -> None:
    (tmp_path / "detector.py").write_text("")
    result = subprocess.run(
        [sys.executable, "-c", "import ledgate; ledgate.Bundle"],
        cwd=ROOT.anchor,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the package 'detector' is expected in")
    assert str(tmp_path / "detector.py") in last
