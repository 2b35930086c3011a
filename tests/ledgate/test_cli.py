"""The `ledgate` command: one line for every refusal, the right exit status, and never a traceback."""

import argparse
import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from detector.errors import InputError, MemberError, SettingError
from ledgate import cli

ROOT = Path(__file__).resolve().parents[2]


def ledgate(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "ledgate", *words],
        cwd=ROOT.anchor,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    result = ledgate("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"ledgate {project['version']}\n", "")


def test_help_lists_every_command_and_loads_none() -> None:
    code = (
        "import sys\nfrom ledgate.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    assert not {'numpy', 'grpc', 'torch', 'onnxruntime'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name, (_, summary) in cli.COMMANDS.items():
        assert any(line.split()[:1] == [name] for line in result.stdout.splitlines())
        assert summary.split()[0] in result.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    out, err = capsys.readouterr()
    assert exit_.value.code == 0
    assert out.startswith(f"usage: ledgate {name}")
    assert cli.COMMANDS[name][1] in " ".join(out.split())
    assert err == ""


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_refuses_an_unknown_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--no-such-flag"])
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == ""
    assert err.startswith((f"ledgate {name}: ", "ledgate: "))
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "ledgate: "),
        (["no-such-command"], "ledgate: argument COMMAND: invalid choice: 'no-such-command'"),
        (["--no-such-flag"], "ledgate: "),
        (["inspect"], "ledgate inspect: the following arguments are required"),
        (["inspect", "--jso", "x"], "ledgate inspect: unrecognized arguments: --jso"),
    ],
    ids=["nothing", "command", "flag", "missing argument", "abbreviation"],
)
def test_a_usage_error_is_one_line_and_exit_status_2(words: list[str], expected: str) -> None:
    result = ledgate(*words)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(expected)
    assert "--help" in line


class Failing(types.ModuleType):
    """A subcommand that raises, in place of a real one."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("failing")
        self.error = error

    def configure(self, parser: argparse.ArgumentParser) -> None:
        pass

    def run(self, options: argparse.Namespace) -> int:
        raise self.error


def run_failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(sys.modules, "failing", Failing(error))
    monkeypatch.setitem(cli.COMMANDS, "inspect", ("failing", "fail"))
    return cli.main(["inspect"])


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("images: expected 3 axes,\n  found 2"), 1, "ledgate inspect: images: expected 3 axes, found 2"),
        (MemberError("a.onnx", "two inputs"), 1, "ledgate inspect: member a.onnx: two inputs"),
        (SettingError("eps: expected more, found 0"), 2, "ledgate inspect: eps: expected more, found 0"),
        (
            FileNotFoundError(2, "No such file", "x.npz"),
            1,
            "ledgate inspect: x.npz: expected to read or to write there, found: No such file",
        ),
        (OSError("no file in sight"), 1, "ledgate inspect: no file in sight"),
        (ZeroDivisionError("0 / 0"), 1, "ledgate inspect: internal error, ZeroDivisionError: 0 / 0; LEDGATE_DEBUG=1"),
        (KeyboardInterrupt(), 130, "ledgate inspect: interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_failure_is_one_line(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LEDGATE_DEBUG", raising=False)
    assert run_failing(error, monkeypatch) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(line)


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEDGATE_DEBUG", "1")
    assert run_failing(ZeroDivisionError("0 / 0"), monkeypatch) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("ledgate inspect: internal error, ZeroDivisionError: 0 / 0")


def test_a_missing_file_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    result = ledgate("inspect", str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("ledgate inspect: ")
    assert str(tmp_path / "nowhere") in line


# Before anything else is imported: torch is not installed.
WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "onnxscript"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from ledgate.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_torch(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--dataset", "digits", "--arch", "mlp", "--members", "3", "--out", "run"),
        ("export", "run", "--out", "bundle"),
        ("demo-train", "--out", "demo"),
    ],
    ids=lambda words: words[0],
)
def test_without_torch_the_extra_is_named(words: tuple[str, ...], tmp_path: Path) -> None:
    result = without_torch(*words, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"ledgate {words[0]}: needs torch")
    assert "pip install 'ledgate[train]'" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["bundle", "calibrate", "classify", "serve", "inspect", "demo", "alpha"])
def test_without_torch_the_detector_and_the_server_work(name: str, tmp_path: Path) -> None:
    result = without_torch(name, "--help", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_without_torch_alpha_is_computed(tmp_path: Path) -> None:
    result = without_torch("alpha", "--members", "5", "--classes", "1000", "--smoothing", "0.1", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[0] == "0.61"
