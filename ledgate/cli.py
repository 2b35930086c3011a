"""The `ledgate` command: a table of subcommands, each imported only when it is called.

A subcommand is a module with `configure(parser)`, which adds its arguments, and `run(options)`,
which does the work and returns an exit status. What is refused or fails on purpose arrives here as
a `LedgateError` and leaves as one line on standard error.
"""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, NoReturn

from ledgate.rooms import check_rooms

# name -> (module, what it does)
COMMANDS: Final = {
    "data": ("training.commands.data", "write images of a data set to a file"),
    "train": ("training.commands.train", "train an ensemble with ADP"),
    "alpha": ("training.commands.alpha", "choose alpha, or the confidence that it leads to"),
    "export": ("training.commands.export", "turn a training run into a bundle"),
    "bundle": ("detector.commands.bundle", "make a bundle from your own ONNX members"),
    "attack": ("ledgate.commands.attack", "attack images, to calibrate against"),
    "calibrate": ("detector.commands.calibrate", "choose the threshold of a bundle and report what it catches"),
    "check": ("detector.commands.check", "tell whether a calibration still holds for today's images"),
    "classify": ("ledgate.commands.classify", "classify images with a bundle or a server"),
    "serve": ("serving.commands.serve", "serve bundles over gRPC"),
    "bench": ("ledgate.commands.bench", "load a running server, and say what it answers"),
    "evaluate": ("training.commands.evaluate", "measure finished runs on the test images: the paper's tables"),
    "inspect": ("detector.commands.inspect", "describe a bundle"),
    "demo": ("ledgate.commands.demo", "serve the ensemble that comes with ledgate, and show what it flags"),
    "demo-train": ("ledgate.commands.demo_train", "the whole road on handwritten digits, in a few minutes"),
}

USAGE_ERROR: Final = 2


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.required or action.default in (None, "", []) or action.default is False
        return action.help if silent else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """An argument parser that answers a usage error with one line, and takes no abbreviations."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **options)  # type: ignore[arg-type]
        # Who is asked for help: for what a subcommand leaves over, that subcommand and not its parent.
        self.called = self.prog

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.called}: {message}; see '{self.called} --help'\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Returns:
        0 on success, 2 where a setting is out of its range or does not go with another, 1 when it
        failed for any other reason (one line on standard error says why), 3 where the subcommand
        says so. What cannot be parsed exits with 2.
    """
    # gRPC's core, which looks here when it is first imported, writes lines of its own to standard error, one for each
    # failed handshake: into a server's log, and beside a command's one line. What matters of them reaches us as errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(prog="ledgate", description="Tell an adversarial image from an honest one.")
    parser.add_argument("--version", action="version", version=f"ledgate {version('ledgate')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        # Only the one that is called is imported and filled.
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if words and words[0] == name:
            parser.called = subparser.prog
            _configure(name, subparser)
    options = parser.parse_args(words)
    return _run(COMMANDS[options.command][0], options)


def _configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Imports a subcommand's module and lets it add its arguments."""
    module, _ = COMMANDS[name]
    try:
        check_rooms()
        importlib.import_module(module).configure(parser)
    except ImportError as error:
        _explain(f"ledgate {name}", _not_installed(error))
        parser.exit(1)


def _run(module: str, options: argparse.Namespace) -> int:
    """Runs a subcommand; every failure becomes one line."""
    from detector.errors import LedgateError, SettingError

    command = f"ledgate {options.command}"
    try:
        return int(importlib.import_module(module).run(options))
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return 130
    except ImportError as error:
        _explain(command, _not_installed(error))
        return 1
    except (LedgateError, OSError) as error:
        _explain(command, _of_the_system(error) if isinstance(error, OSError) else str(error))
        return USAGE_ERROR if isinstance(error, SettingError) else 1
    except Exception as error:  # noqa: BLE001  a user never meets a traceback
        _explain(command, f"internal error, {type(error).__name__}: {error}; LEDGATE_DEBUG=1 shows where")
        return 1


def _of_the_system(error: OSError) -> str:
    """An error of a file that nobody has put into words, in ours."""
    if error.filename is None:
        return str(error)
    return f"{error.filename}: expected to read or to write there, found: {error.strerror}"


def _not_installed(error: ImportError) -> str:
    """What cannot be imported, and of what an extra brings which one to install."""
    if error.name in ("torch", "torchvision", "onnxscript"):
        return f"needs {error.name}, which is not installed; pip install 'ledgate[train]'"
    if (error.name or "").startswith("opentelemetry"):
        return f"needs {error.name}, which is not installed; pip install 'ledgate[traces]'"
    return str(error)


def _explain(command: str, message: str) -> None:
    """One line on standard error; with LEDGATE_DEBUG set, the traceback before it."""
    if os.environ.get("LEDGATE_DEBUG"):
        traceback.print_exc()
    print(f"{command}: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
