"""Options from the command line, the environment and a file: who counts, and what is refused."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.errors import InputError
from ledgate.cli import main
from serving.commands.operating import operations_config
from serving.commands.serve import _config, configure
from serving.config import ServerConfig
from serving.offer import Offer
from serving.operations import OperationsConfig
from serving.settings import add_settings, settle, unknown_variables

Settle = Callable[..., argparse.Namespace]


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("things", nargs="*", type=Path)
    made.add_argument("--count", type=int, default=3)
    made.add_argument("--share", type=float, default=0.5)
    made.add_argument("--name")
    made.add_argument("--port", type=int, default=1)
    made.add_argument("--colour", choices=("red", "blue"), default="red")
    made.add_argument("--fast", action=argparse.BooleanOptionalAction)
    made.add_argument("--loud", action="store_true")
    made.add_argument("--json", action="store_true")
    add_settings(made, but=["json"])
    return made


@pytest.fixture
def told(parser: argparse.ArgumentParser, tmp_path: Path) -> Settle:
    """What is meant by some words, an environment and a file."""

    def settled(*words: str, file: str | None = None, **environment: str) -> argparse.Namespace:
        if file is not None:
            (tmp_path / "file.toml").write_text(file)
            words = (*words, "--config", str(tmp_path / "file.toml"))
        return settle(parser.parse_args(words), environment)

    return settled


ROWS: dict[str, tuple[str, str, Any, Any, Any]] = {
    # option -> in the environment, in the file, and what is meant by these and by default
    "count": ("4", "5", 4, 5, 3),
    "share": ("0.25", "1", 0.25, 1.0, 0.5),
    "name": ("me", '"you"', "me", "you", None),
    "colour": ("blue", '"blue"', "blue", "blue", "red"),
    "fast": ("yes", "true", True, True, None),
    "loud": ("1", "true", True, True, False),
    "things": ("a:b", '["c"]', [Path("a"), Path("b")], [Path("c")], []),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_environment_counts_more_than_the_file_and_the_file_more_than_the_default(told: Settle, name: str) -> None:
    text, toml, meant, in_file, default = ROWS[name]
    variable = {f"LEDGATE_{name.upper()}": text}
    assert getattr(told(), name) == default
    assert getattr(told(file=f"{name} = {toml}"), name) == in_file
    assert getattr(told(**variable), name) == meant
    assert getattr(told(file=f"{name} = {toml}", **variable), name) == meant


@pytest.mark.parametrize(
    ("word", "name", "meant"),
    [
        ("--count=3", "count", 3),  # though it is the default
        ("--count=7", "count", 7),
        ("--no-fast", "fast", False),
        ("--colour=red", "colour", "red"),
        ("d", "things", [Path("d")]),
    ],
)
def test_the_command_line_counts_most(told: Settle, word: str, name: str, meant: Any) -> None:
    text, toml, *_ = ROWS[name]
    assert getattr(told(word, file=f"{name} = {toml}", **{f"LEDGATE_{name.upper()}": text}), name) == meant


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("cuont = 1", "cuont: expected the name of an option, found another key; perhaps count is meant"),
        ("zzz = 1", "zzz: expected the name of an option, found another key"),
        ("json = true", "json: expected the name of an option"),
        ("config = 'x'", "config: expected the name of an option"),
        ("[count]\nx = 1", "count: expected an integer"),
        ("count = '4'", "count: expected an integer, found '4'"),
        ("count = 4.5", "count: expected an integer, found 4.5"),
        ("count = true", "count: expected an integer, found True"),
        ("share = 'x'", "share: expected a number"),
        ("name = 1", "name: expected a string, found 1"),
        ("colour = 'green'", "colour: expected one of red, blue, found 'green'"),
        ("fast = 1", "fast: expected true or false, found 1"),
        ("things = 'a'", "things: expected a list, found 'a'"),
        ("count = ", "expected TOML, found"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_name_and_key(
    told: Settle, tmp_path: Path, file: str, message: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / 'file.toml'))}: {re.escape(message)}"):
        told(file=file)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("LEDGATE_COUNT", "many", "LEDGATE_COUNT: expected int, found 'many'"),
        ("LEDGATE_COLOUR", "green", "LEDGATE_COLOUR: expected one of red, blue, found 'green'"),
        ("LEDGATE_FAST", "perhaps", "LEDGATE_FAST: expected true or false, found 'perhaps'"),
    ],
)
def test_a_variable_that_does_not_fit_is_named(told: Settle, variable: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        told(**{variable: text})


def test_the_file_is_named_in_the_environment_too(told: Settle, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("count = 5")
    assert told(LEDGATE_CONFIG=str(tmp_path / "other.toml")).count == 5
    assert told(LEDGATE_CONFIG=str(tmp_path / "other.toml"), LEDGATE_COUNT="6").count == 6
    assert told(file="count = 7", LEDGATE_CONFIG=str(tmp_path / "other.toml")).count == 7
    with pytest.raises(InputError, match=r"none\.toml: expected a file, found none"):
        told(LEDGATE_CONFIG=str(tmp_path / "none.toml"))


def test_no_file_is_refused(parser: argparse.ArgumentParser, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: expected a file, found none"):
        settle(parser.parse_args(["--config", str(tmp_path / "none.toml")]), {})


def test_what_kubernetes_sets_beside_a_service_called_ledgate_is_not_ours(told: Settle) -> None:
    assert told(LEDGATE_PORT="tcp://10.0.0.7:50051").port == 1
    assert told(LEDGATE_PORT="50052").port == 50052


def test_defaults_show_in_the_help_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "most images in one run of a model (default: 32)" in shown
    assert "(default: text)" in shown
    assert "(default: None)" not in shown
    assert "(default: False)" not in shown


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("LEDGATE_CUONT", "; perhaps LEDGATE_COUNT is meant"),
        ("LEDGATE_count", "; perhaps LEDGATE_COUNT is meant"),
        ("LEDGATE_ZZZ", ""),
        ("LEDGATE_JSON", ""),  # which is said on the command line only
    ],
)
def test_a_variable_that_is_no_option_is_told(parser: argparse.ArgumentParser, variable: str, hint: str) -> None:
    options = settle(parser.parse_args([]), {variable: "4"})
    expected = f"{variable}: expected the name of an option, found another, which is ignored{hint}"
    assert unknown_variables(options, {variable: "4", "LEDGATE_COUNT": "4", "COUNT": "4"}) == [expected]


def test_variables_of_others_are_none_of_ours(parser: argparse.ArgumentParser) -> None:
    options = settle(parser.parse_args([]), {})
    link = "tcp://10.0.0.7:50051"
    kubernetes = {
        "LEDGATE_SERVICE_HOST": "10.0.0.7",
        "LEDGATE_SERVICE_PORT": "50051",
        "LEDGATE_SERVICE_PORT_GRPC": "50051",
        "LEDGATE_PORT": link,
        "LEDGATE_PORT_50051_TCP": link,
        "LEDGATE_PORT_50051_TCP_PROTO": "tcp",
        "LEDGATE_PORT_50051_TCP_PORT": "50051",
        "LEDGATE_PORT_50051_TCP_ADDR": "10.0.0.7",
        "LEDGATE_CARS_SERVICE_HOST": "10.0.0.8",
        "LEDGATE_CARS_PORT": link,
    }
    assert unknown_variables(options, kubernetes) == []
    root = Path(__file__).resolve().parents[2]
    rooms = ("benchmarks", "detector", "docker", "ledgate", "serving", "tests/benchmarks", "training")
    text = "".join(file.read_text("utf-8") for room in rooms for file in (root / room).rglob("*.py"))
    named = set(re.findall(r"\bLEDGATE_(?:HEALTH_(?:CA|CERT|KEY)|[A-Z]+(?:_[A-Z]+)*)\b", text))
    elsewhere = named - {"LEDGATE_MAX_BATCH", "LEDGATE_PORT", "LEDGATE_CARS"}
    assert {"LEDGATE_ADDRESS", "LEDGATE_CACHE", "LEDGATE_CONFIG", "LEDGATE_DATA", "LEDGATE_DEBUG"} <= elsewhere
    assert unknown_variables(options, dict.fromkeys(elsewhere, "1")) == []


def test_a_mistyped_variable_is_told_by_a_dry_run_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LEDGATE_MAX_BATHC", "8")
    assert main(["serve", str(folder / "tiny"), "--dry-run", "--port=0", "--device=cpu"]) == 0
    assert "LEDGATE_MAX_BATHC: expected the name of an option" in caplog.text
    assert "perhaps LEDGATE_MAX_BATCH is meant" in caplog.text


@pytest.fixture
def serve() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    configure(made)
    return made


def test_every_option_of_serve_that_is_about_serving_has_its_three_places(serve: argparse.ArgumentParser) -> None:
    everywhere = set(serve.parse_args([]).settings)
    here_only = {action.dest for action in serve._actions} - everywhere
    assert here_only == {"help", "json", "dry_run", "config"}


def test_a_file_reaches_the_server(serve: argparse.ArgumentParser, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(
        "max_batch = 8\nmetrics_port = 9090\nallow_members = true\ntoken_file = 'tokens'\naudit = 'trail'\n"
    )
    options = settle(serve.parse_args(["--config", str(file)]), {"LEDGATE_BATCH_WAIT_MS": "2.5"})
    config, operations = _config(options), operations_config(options)
    assert (config.max_batch, config.batch_wait_s, config.allow_members) == (8, 0.0025, True)
    assert (operations.metrics_port, operations.token_file) == (9090, Path("tokens"))
    assert operations.audit is not None
    assert operations.audit.folder == Path("trail")


def test_the_commands_defaults_are_those_of_operations(serve: argparse.ArgumentParser) -> None:
    assert operations_config(settle(serve.parse_args([]), {})) == OperationsConfig()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tls-cert=a"], "tls_key: expected a file beside the other options of TLS, found none"),
        (["--tls-key=a"], "tls_cert: expected a file"),
        (["--tls-client-ca=a"], "tls_cert: expected a file"),
        (["--audit=a", "--audit-rate=0"], "audit_rate: expected more than 0 and at most 1, found 0.0"),
        (["--audit=a", "--audit-rate=nan"], "audit_rate: expected more than 0"),
        (["--audit-max-mb=nan"], "audit_max_mb: expected at least 1, found nan"),
        (["--audit=a", "--audit-max-mb=0.5"], "audit_max_mb: expected at least 1, found 0.5"),
        (["--metrics-port=65536"], "metrics_port: expected 0 to 65535, found 65536"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    serve: argparse.ArgumentParser, words: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        operations_config(settle(serve.parse_args(words), {}))


@pytest.mark.parametrize(
    ("host", "metrics", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("10.0.0.5", "::", True),
        ("10.0.0.5", "127.0.0.1", False),
    ],
)
def test_one_port_for_callers_and_metrics_is_refused(host: str, metrics: str, same: bool) -> None:
    operations, config = OperationsConfig(metrics_host=metrics, metrics_port=7), ServerConfig(host=host, port=7)
    if same:
        with pytest.raises(
            InputError, match=r"^metrics_port: expected another port than the server's, found 7 for both"
        ):
            operations.check_ports(config)
    else:
        operations.check_ports(config)
    OperationsConfig(metrics_host=metrics, metrics_port=0).check_ports(ServerConfig(host=host, port=0))


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_one_port_for_both_is_a_mistake_in_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(["serve", str(folder / "tiny"), "--port=7", "--metrics-port=7", *words]) == 2
    error = capsys.readouterr().err
    assert error == "ledgate serve: metrics_port: expected another port than the server's, found 7 for both\n"


def test_bundles_have_names_in_all_three_places(serve: argparse.ArgumentParser, tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text('bundles = ["a=x/one", "two"]')
    meant = [Offer(Path("x/one"), "a"), Offer(Path("two"), "two")]
    assert settle(serve.parse_args(["a=x/one", "two"]), {}).bundles == meant
    assert settle(serve.parse_args([]), {"LEDGATE_BUNDLES": "a=x/one:two"}).bundles == meant
    assert settle(serve.parse_args(["--config", str(tmp_path / "serve.toml")]), {}).bundles == meant
