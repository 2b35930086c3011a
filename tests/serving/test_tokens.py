"""Bearer tokens: a file of them, and a real server that asks for one."""

import os
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from detector.detector import Detector
from detector.errors import InputError, Unauthenticated
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.client import Client
from serving.config import ServerConfig
from serving.operations import OperationsConfig
from serving.tokens import Tokens, header, read_token
from tests.serving.conftest import PATIENCE_S, picture, request
from tests.serving.operating import operated, scrape, value

ALICE, BOB = "alice-0123456789-abc", "Bob/0123456789+abc=="


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# who may call\n{ALICE} alice of the shop\n\n  {BOB}\n")
    return path


def metadata(value: str) -> Any:
    return [("user-agent", "test"), ("authorization", value)]


@pytest.mark.parametrize(
    ("sent", "name"),
    [(f"Bearer {ALICE}", "alice of the shop"), (f"bearer {BOB}", "line 4"), (f"Bearer  {ALICE} ", "alice of the shop")],
)
def test_a_token_says_who_calls(file: Path, sent: str, name: str) -> None:
    assert Tokens(file).caller(metadata(sent)) == name


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer ", f"Bearer {ALICE[:-1]}", f"Basic {ALICE}", ALICE, "Bearer #"])
def test_anything_else_says_nobody(file: Path, sent: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Tokens(file).caller(metadata(sent))
    assert ALICE[:-1] not in str(caught.value)


def test_no_metadata_says_nobody(file: Path) -> None:
    for nothing in (None, ()):
        with pytest.raises(Unauthenticated, match="found nothing"):
            Tokens(file).caller(nothing)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a token a line, found none"),
        ("# nothing\n", "expected a token a line, found none"),
        (f"{ALICE}\nshort\n", "line 2: expected a token of at least 16"),
        ("no-slash-0123456789é", "line 1: expected a token"),
        (f"{ALICE} a\n{ALICE} b", "line 2: expected a new token"),
    ],
    ids=["empty", "comments", "short", "letters", "twice"],
)
def test_a_file_that_is_none_is_refused_without_its_tokens(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {re.escape(message)}") as caught:
        Tokens(path)
    assert not any(word in str(caught.value) for word in ("alice", "short", "slash"))


def test_a_changed_file_is_read_and_a_broken_one_is_not(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens(file)
    file.write_text(BOB)
    with pytest.raises(Unauthenticated):
        tokens.caller(metadata(f"Bearer {ALICE}"))
    assert tokens.caller(metadata(f"Bearer {BOB}")) == "line 1"
    file.write_text("broken")
    assert tokens.caller(metadata(f"Bearer {BOB}")) == "line 1"
    assert tokens.caller(metadata(f"Bearer {BOB}")) == "line 1"
    assert caplog.text.count("what was read before stays in force") == 1
    assert "broken" not in caplog.text


def test_a_link_that_moves_is_a_change(file: Path, tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text(f"{BOB} bob")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    link.symlink_to(file)
    tokens = Tokens(link)
    with pytest.raises(Unauthenticated, match="found another"):
        tokens.caller(metadata("Bearer bob"))
    link.unlink()
    link.symlink_to(other)
    assert tokens.caller(metadata(f"Bearer {BOB}")) == "bob"


def test_a_client_takes_the_first_of_a_file(file: Path) -> None:
    assert header(read_token(file)) == ("authorization", f"Bearer {ALICE}")


def test_a_server_answers_those_who_have_one(tiny: Detector, file: Path) -> None:
    with operated(tiny, token_file=file, metrics_port=0) as (server, operations):
        with Client(server.address, token=ALICE, timeout_s=PATIENCE_S) as client:
            client.wait_ready(PATIENCE_S)
            assert len(client.classify(picture(1))) == 1
        for token in (None, "unknown-0123456789"):
            with Client(server.address, token=token) as client, pytest.raises(Unauthenticated, match="authorization"):
                client.classify(picture(1), timeout_s=PATIENCE_S)
        found = scrape(operations)
    method = "ledgate.v1.Classifier/GetModel"
    assert value(found, "ledgate_requests_total", method=method, code="UNAUTHENTICATED") == 2
    assert value(found, "ledgate_images_total", model="tiny") == 1


def test_without_one_only_health_answers(tiny: Detector, file: Path) -> None:
    with operated(tiny, token_file=file) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        for call in (
            lambda: stub.Classify(request(1)),
            lambda: stub.Classify(pb.ClassifyRequest()),
            lambda: stub.GetModel(pb.GetModelRequest()),
            lambda: list(stub.ClassifyStream(iter([request(1)]))),
            lambda: ProtoReflectionDescriptorDatabase(channel).get_services(),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        assert next(health.Watch(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


def test_a_strangers_message_is_not_read(tiny: Detector, file: Path) -> None:
    with operated(tiny, token_file=file) as (server, _), grpc.insecure_channel(server.address) as channel:
        raw = channel.unary_unary("/ledgate.v1.Classifier/Classify", lambda message: message, bytes)
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff no message")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_tokens_in_plaintext_stay_on_this_machine_unless_told(file: Path) -> None:
    far = ServerConfig(host="0.0.0.0")
    with pytest.raises(InputError, match=r"^token_file: expected TLS on 0\.0\.0\.0, found none"):
        OperationsConfig(token_file=file).check(far)
    OperationsConfig(token_file=file, token_in_plaintext=True).check(far)
    OperationsConfig(token_file=file).check(ServerConfig())


def test_a_client_sends_none_in_plaintext_to_others_unless_told() -> None:
    for address in ("example.org:1", "10.0.0.1:1", "[2001:db8::1]:1"):
        with pytest.raises(InputError, match=r"^token: expected TLS on the way to"):
            Client(address, token=ALICE)
        Client(address, token=ALICE, token_in_plaintext=True).close()
    for address in ("localhost:1", "127.0.0.1:1", "[::1]:1"):
        Client(address, token=ALICE).close()


def test_a_client_refuses_what_is_no_token() -> None:
    with pytest.raises(InputError, match=r"^token: expected letters") as caught:
        Client("localhost:1", token="two words")
    assert "two words" not in str(caught.value)
