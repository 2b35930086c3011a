"""What is shipped: the five packages with their typing marks and protos, and nothing of the workshop."""

import email.message
import email.parser
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"detector", "ledgate", "protos", "serving", "training"}


def build(source: Path, target: str, out: Path) -> Path:
    """A wheel or sdist made by the build backend alone: no index is asked for anything."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=source, capture_output=True, check=True)
    (artefact,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return artefact


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build(ROOT, "wheel", tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def test_exactly_our_packages_are_shipped(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert len(tops) == len(PACKAGES) + 1


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_file_of_a_package_is_shipped(wheel: zipfile.ZipFile, package: str) -> None:
    files = (file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    sources = {str(file.relative_to(ROOT)) for file in files}
    shipped = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert f"{package}/py.typed" in shipped
    assert shipped == sources


def test_the_proto_travels_with_its_generated_code(wheel: zipfile.ZipFile) -> None:
    home = "protos/ledgate/v1/classifier"
    assert {f"{home}.proto", f"{home}_pb2.py", f"{home}_pb2.pyi", f"{home}_pb2_grpc.py"} <= set(wheel.namelist())


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert wheel.read(name).decode().split("\n")[:2] == ["[console_scripts]", "ledgate = ledgate.cli:main"]


def test_the_licence_travels(wheel: zipfile.ZipFile, metadata: email.message.Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    (name,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in wheel.read(name)


def test_torch_is_an_extra_and_never_a_dependency(metadata: email.message.Message) -> None:
    assert metadata.get_all("Provides-Extra") == ["gpu", "traces", "train"]
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    base, train = set(), set()
    for line in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        if "extra" not in str(requirement.marker):
            base.add(requirement.name)
        elif 'extra == "train"' in str(requirement.marker):
            train.add(requirement.name)
    assert train == {"onnxscript", "pyautoattack", "torch", "torchvision"}
    assert {"grpcio", "jinja2", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu"} <= base
    assert not base & {"torch", "torchvision", "onnxscript", "pyautoattack"}
    assert not [name for name in base if name.startswith("opentelemetry")]


@pytest.mark.parametrize(
    ("platform", "chosen"),
    [
        ({"platform_system": "Linux", "platform_machine": "x86_64"}, {"onnxruntime-gpu"}),
        ({"platform_system": "Windows", "platform_machine": "AMD64"}, {"onnxruntime-gpu"}),
        ({"platform_system": "Linux", "platform_machine": "aarch64"}, {"onnxruntime"}),
        ({"platform_system": "Darwin", "platform_machine": "arm64"}, {"onnxruntime"}),
        ({"platform_system": "Darwin", "platform_machine": "x86_64"}, {"onnxruntime"}),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_every_platform_gets_one_onnx_runtime(
    metadata: email.message.Message, platform: dict[str, str], chosen: set[str]
) -> None:
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    runtimes = {
        r.name
        for r in needed
        if r.name.startswith("onnxruntime") and r.marker is not None and r.marker.evaluate({**platform, "extra": ""})
    }
    assert runtimes == chosen


def test_the_unpacked_wheel_works_by_itself(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "import ledgate, protos.ledgate.v1.classifier_pb2_grpc as grpc; print(ledgate.__file__, grpc.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT.anchor,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [
        str(tmp_path / "ledgate/__init__.py"),
        str(tmp_path / "protos/ledgate/v1/classifier_pb2_grpc.py"),
    ]


def test_the_sdist_builds_the_same_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
        sdist.extractall(tmp_path / "source", filter="data")
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert not {name.split("/")[0] for name in names} & {"tests", "benchmarks", "demo", "requirements"}
    (source,) = (tmp_path / "source").iterdir()
    again = zipfile.ZipFile(build(source, "wheel", tmp_path / "wheel"))
    assert {i.filename: i.CRC for i in again.infolist()} == {i.filename: i.CRC for i in wheel.infolist()}
