"""The log as text and as JSON, and the access log of a real server."""

import json
import logging
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from detector.detector import Detector
from protos.inference import inference_pb2, inference_pb2_grpc
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.audit import AuditConfig
from serving.logs import JsonFormatter, LogFormat, configure_logging
from serving.requests import RequestReader
from tests.serving.conftest import SHAPE, GatedDetector, request
from tests.serving.inference.test_service import infer_request
from tests.serving.operating import operated


@contextmanager
def configured(level: str, style: LogFormat) -> Iterator[None]:
    """A root logger that had no handlers, as that of a process that has just started."""
    root = logging.getLogger()
    handlers, before = root.handlers[:], root.level
    root.handlers.clear()
    configure_logging(level, style)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(before)
        logging.captureWarnings(False)


def test_a_line_of_json_is_an_object_with_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("some.where")
    with configured("info", LogFormat.JSON):
        log.debug("not this")
        log.info("two\nlines of %s", "text", extra={"fields": {"request_id": "call 1"}})
        log.error("failed", exc_info=ValueError("why"))
    plain, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert plain.pop("time").endswith("+00:00")
    assert plain == {"level": "INFO", "logger": "some.where", "message": "two\nlines of text", "request_id": "call 1"}
    assert failed["message"] == "failed"
    assert failed["exception"] == "ValueError: why"


def test_a_warning_of_a_library_is_a_line_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with configured("info", LogFormat.JSON):
            warnings.warn("an image is large", stacklevel=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["logger"] == "py.warnings"
    assert "an image is large" in json.loads(line)["message"]


def test_a_line_of_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("warning", LogFormat.TEXT):
        logging.getLogger("some.where").info("not this")
        logging.getLogger("some.where").warning("this")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" WARNING some.where: this")


def accesses(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The lines of the access log, without what differs from run to run."""
    records = [record for record in caplog.records if record.name == "ledgate.access"]
    found = [json.loads(JsonFormatter().format(record)) for record in records]
    for line in found:
        assert str(line.pop("peer")).startswith("ipv4:127.0.0.1:")
        for name in ("time", "level", "logger", "message"):
            del line[name]
    return found


def test_each_answer_is_a_line_without_scores(tiny: Detector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ledgate.access")
    stream = [request(1, request_id="c"), pb.ClassifyRequest(request_id="d")]
    with operated(tiny, access_log=True) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        stub.Classify(request(1, 2, request_id="a"))
        with pytest.raises(grpc.RpcError):
            stub.Classify(request(1, model="nope", request_id="b"))
        list(stub.ClassifyStream(iter(stream)))
    found = accesses(caplog)
    for line in found:
        milliseconds = line.pop("milliseconds")
        assert isinstance(milliseconds, float)
        assert milliseconds > 0
    classify = "ledgate.v1.Classifier/Classify"
    assert found == [
        {"method": classify, "code": "OK", "request_id": "a", "images": 2},
        {"method": classify, "code": "NOT_FOUND", "request_id": "b"},
        {"method": f"{classify}Stream", "code": "OK", "request_id": "c", "images": 1},
        {"method": f"{classify}Stream", "code": "INVALID_ARGUMENT", "request_id": "d"},
    ]


def test_a_call_without_an_id_is_given_one_and_told(tiny: Detector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ledgate.access")
    with operated(tiny, access_log=True) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        reply, call = stub.Classify.with_call(request(1))
        with pytest.raises(grpc.RpcError) as refused:
            stub.Classify(pb.ClassifyRequest())
    ended: list[Any] = [call, refused.value]
    given = [dict(each.trailing_metadata())["x-request-id"] for each in ended]
    assert reply.request_id == ""  # the reply has what the request had
    assert [line["request_id"] for line in accesses(caplog)] == given
    assert len(set(given)) == 2


def errors(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines about what is our fault."""
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    return [json.loads(JsonFormatter().format(record)) for record in records]


@pytest.mark.parametrize("named", ["mine", ""], ids=["the caller's", "given"])
@pytest.mark.parametrize("fault", ["nan", "run", "reading"])
def test_the_id_that_a_caller_knows_is_in_the_line_about_the_error(
    fragile: Detector,
    tiny: Detector,
    gated: GatedDetector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    named: str,
) -> None:
    images = np.ones((1, *SHAPE), np.float32)  # a fragile member answers with NaN
    message = pb.ClassifyRequest(
        tensor=pb.Tensor(dtype=pb.FLOAT32, shape=images.shape, data=images.tobytes()), request_id=named
    )
    if fault == "reading":
        monkeypatch.setattr(RequestReader, "images", lambda *_: 1 // 0)
    gated.breaks_on = set(range(256))
    gated.release()
    detector = {"nan": fragile, "run": gated, "reading": tiny}[fault]
    with operated(detector, access_log=True) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as refused:
            stub.Classify(message)
    call: Any = refused.value
    assert call.code() is grpc.StatusCode.INTERNAL
    (line,) = errors(caplog)
    known = named or dict(call.trailing_metadata())["x-request-id"]
    assert line["request_id"] == known
    assert f"request '{known}'" in line["message"]


def test_a_stream_is_given_an_id_for_its_messages_without(
    tiny: Detector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ledgate.access")
    monkeypatch.setattr(RequestReader, "images", lambda *_: 1 // 0)
    with operated(tiny, access_log=True) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        call = stub.ClassifyStream(iter([request(1), request(2, request_id="mine"), request(3)]))
        assert [answer.request_id for answer in call] == ["", "mine", ""]  # as they came
        given = dict(call.trailing_metadata())["x-request-id"]
    for lines in (accesses(caplog), errors(caplog)):
        assert [line["request_id"] for line in lines] == [given, "mine", given]


def test_the_id_that_a_caller_is_given_is_in_the_audit_trail(gated: GatedDetector, tmp_path: Path) -> None:
    gated.release()
    everything = tuple(range(256))
    with (
        operated(gated, access_log=True, audit=AuditConfig(folder=tmp_path)) as (server, _),
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        reply, call = stub.Classify.with_call(request(*everything))
    assert any(result.adversarial for result in reply.results)
    given = dict(call.trailing_metadata())["x-request-id"]
    with sqlite3.connect(tmp_path / "audit.sqlite") as trail:
        assert trail.execute("SELECT DISTINCT request_id FROM flagged").fetchall() == [(given,)]


def test_calls_of_the_open_inference_protocol_say_how_many_images(
    tiny: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ledgate.access")
    with operated(tiny, access_log=True) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        stub.ModelInfer(infer_request(1, 2, 3, id="a"))
        stub.ModelInfer(infer_request(1, id="b", outputs=("score",)))
        stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name="tiny"))
    assert [line.get("images") for line in accesses(caplog)] == [3, 1, None]


def test_a_callers_text_is_cut_and_quoted(tiny: Detector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ledgate.access")
    with operated(tiny, access_log=True) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError, match="request_id: expected at most"):
            stub.Classify(request(1, request_id="new\nline" + "x" * 10_000))
    (record,) = [record for record in caplog.records if record.name == "ledgate.access"]
    text = record.getMessage()
    assert "\n" not in text
    assert len(text) < 400


def test_it_is_off_by_default(tiny: Detector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with operated(tiny, metrics_port=0) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        stub.Classify(request(1))
    assert not accesses(caplog)
