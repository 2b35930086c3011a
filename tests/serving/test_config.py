"""The server's configuration refuses what cannot work."""

import argparse
import dataclasses
import math
import re
from typing import Any

import pytest

from detector.errors import InputError, SettingError
from serving.commands.serve import _config, configure
from serving.config import Reply, ServerConfig, address
from serving.settings import settle


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_batch", 0),
        ("max_queue", 0),
        ("max_images", -1),
        ("max_message_bytes", 0),
        ("max_message_bytes", 2**31),
        ("max_pixels", 0),
        ("max_streams", 0),
        ("stream_window", 0),
        ("port", -1),
        ("port", 65536),
        ("batch_wait_s", -0.1),
        ("batch_wait_s", math.nan),
        ("batch_wait_s", 1e12),
        ("grace_s", math.inf),
        ("watch_s", -1.0),
        ("watch_s", math.nan),
    ],
)
def test_numbers_out_of_range_are_named(field: str, value: float) -> None:
    values: dict[str, Any] = {field: value}
    with pytest.raises(InputError, match=rf"^{field}: expected .*, found {re.escape(str(value))}"):
        ServerConfig(**values)


def test_members_give_away_what_flag_only_hides() -> None:
    with pytest.raises(InputError, match="anybody can compute the score"):
        ServerConfig(allow_members=True, reply=Reply.FLAG_ONLY)


def test_only_a_port_that_is_known_can_be_shared() -> None:
    with pytest.raises(InputError, match="share_port: expected a port to share, found 0"):
        ServerConfig(port=0, share_port=True)


def test_a_host_is_needed() -> None:
    with pytest.raises(InputError, match="host: expected a name"):
        ServerConfig(host="")


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerConfig().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("example.org", False),
    ],
)
def test_what_is_loopback(host: str, *, loopback: bool) -> None:
    assert ServerConfig(host=host).loopback is loopback


def test_an_address_of_ipv6_has_brackets() -> None:
    assert address("127.0.0.1", 1) == "127.0.0.1:1"
    assert address("::1", 1) == "[::1]:1"


def test_threads_outnumber_what_can_wait_up_to_a_bound() -> None:
    config = ServerConfig(max_queue=100, max_batch=10, max_streams=5)
    assert config.call_threads(1) > 100 + 10 + 5
    assert config.call_threads(2) > 2 * (100 + 10) + 5
    assert ServerConfig(max_queue=2**31 - 1).call_threads(1) < 10_000


def test_the_commands_defaults_are_the_configs() -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    assert _config(settle(parser.parse_args(["bundle"]), {})) == ServerConfig()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--threads=0", "threads: expected at least 1, found 0"),
        ("--max-message-mb=inf", "max_message_mb: expected more than 0 and less than 2048, found inf"),
        ("--max-message-mb=1e-9", "max_message_mb: expected more than 0"),
        ("--batch-wait-ms=nan", "batch_wait_ms: expected 0 to 86400000, found nan"),
        ("--batch-wait-ms=-1", "batch_wait_ms: expected 0 to 86400000, found -1.0"),
    ],
)
def test_the_command_refuses_nonsense(option: str, message: str) -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    with pytest.raises(SettingError, match=f"^{message}"):
        _config(settle(parser.parse_args(["bundle", option]), {}))
