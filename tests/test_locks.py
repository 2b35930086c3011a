"""The locks: every package at one version and its hashes, no registry named, and in step with pyproject.toml."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def pins(lock: str) -> list[str]:
    """The lines that name a package: `name==version ; marker`."""
    lines = (ROOT / f"requirements/{lock}.lock").read_text("utf-8").splitlines()
    return [line.rstrip(" \\") for line in lines if line[:1].isalnum()]


@pytest.mark.parametrize(
    "name", ["build", "clients", "dev", "peers", "peers-detection", "peers-serving", "protos", "serve"]
)
def test_a_lock_pins_by_hash_and_names_no_place(name: str) -> None:
    text = (ROOT / f"requirements/{name}.lock").read_text("utf-8")
    for place in ("://", "file:", "--index", "--extra-index", "--find-links", "--trusted-host", " @ "):
        assert place not in text
    entries = [entry for entry in text.replace("\\\n", "").splitlines() if not entry.startswith("#")]
    assert len(entries) == len(pins(name)) > 1
    assert all("==" in entry.split("--hash")[0] and "--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize(("lock", "extra"), [("serve", None), ("dev", "train")])
def test_a_lock_holds_what_the_project_asks_for(lock: str, extra: str | None) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"].get(extra, [])]
    pinned = [Requirement(line) for line in pins(lock)]
    for requirement in asked:
        versions = [next(iter(pin.specifier)).version for pin in pinned if pin.name == requirement.name]
        assert versions, requirement.name
        assert all(version in requirement.specifier for version in versions), requirement


def test_the_image_gets_the_versions_that_are_tested() -> None:
    served = set(pins("serve"))
    assert served <= set(pins("dev"))
    assert not any(pin.startswith(("torch", "nvidia", "triton")) for pin in served)
