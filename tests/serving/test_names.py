"""The package's names: sorted, each there, and none loaded before it is used."""

import importlib
import subprocess
import sys

import pytest

import serving


def test_they_are_sorted_and_there() -> None:
    assert serving.__all__ == sorted(serving.__all__) == dir(serving)
    for name in serving.__all__:
        found = getattr(serving, name)
        assert getattr(importlib.import_module(found.__module__), name) is found


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'serving' has no attribute 'Klient'"):
        getattr(serving, "Klient")  # noqa: B009  a type checker knows that it is not there


def test_the_package_alone_loads_nothing() -> None:
    code = "import sys, serving; print([m for m in ('grpc', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Everything that a client's process may import of ours, and what defines `inference.*` there: nobody.
CLIENT = """
import sys
from google.protobuf import descriptor_pool
import ledgate, serving, ledgate.cli, ledgate.commands.classify
for package in (ledgate, serving):
    for name in dir(package):
        if name not in ("Operations", "Server"):
            getattr(package, name)
ledgate.Client("localhost:1").close()
print([name for name in sys.modules if name.startswith(("protos.inference", "serving.inference"))])
try:
    print(descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest").file.name)
except KeyError:
    print("nobody")
"""


def test_a_client_leaves_the_names_of_other_servers_clients_free() -> None:
    done = subprocess.run([sys.executable, "-c", CLIENT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "nobody"]


def test_the_server_takes_those_names() -> None:
    code = CLIENT.replace("import ledgate, serving,", "import ledgate, serving, serving.server,")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "protos/inference/inference.proto"
