"""What Prometheus reads of a real server: counts that fit what was served."""

import math
import socket
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from detector.detector import Detector
from detector.errors import InputError, ServiceError
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.config import ServerConfig
from serving.metrics import Metrics
from serving.operations import OperationsConfig
from serving.server import Server
from tests.serving.conftest import GatedDetector, Submissions, picture, request
from tests.serving.operating import operated, scrape, value

CLASSIFY = "ledgate.v1.Classifier/Classify"
STREAM = "ledgate.v1.Classifier/ClassifyStream"


def stub_of(channel: grpc.Channel) -> Any:
    return classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]


def test_what_was_served_is_counted(tiny: Detector, twins: Detector) -> None:
    batches = [[1], [2, 3, 4], list(range(100))]
    with operated(tiny, twins, metrics_port=0) as (server, operations):
        with grpc.insecure_channel(server.address) as channel:
            stub = stub_of(channel)
            for pictures in batches:
                stub.Classify(request(*pictures))
            stub.Classify(request(7, model="twins"))
            for refused in (request(1, model="nope"), pb.ClassifyRequest()):
                with pytest.raises(grpc.RpcError):
                    stub.Classify(refused)
        server.stop()  # the models' threads have ended, and so counted all
        found = scrape(operations)
    assert value(found, "ledgate_requests_total", method=CLASSIFY, code="OK") == 4
    assert value(found, "ledgate_requests_total", method=CLASSIFY, code="NOT_FOUND") == 1
    assert value(found, "ledgate_requests_total", method=CLASSIFY, code="INVALID_ARGUMENT") == 1
    assert value(found, "ledgate_request_seconds_count", method=CLASSIFY) == 6
    verdicts = [tiny.classify(np.stack([picture(number) for number in pictures])) for pictures in batches]
    assert value(found, "ledgate_images_total", model="tiny") == 104
    flagged = sum(0 if each.adversarial is None else each.adversarial.tolist().count(True) for each in verdicts)
    assert flagged > 0
    assert value(found, "ledgate_flagged_images_total", model="tiny") == flagged
    assert value(found, "ledgate_images_total", model="twins") == 1
    assert value(found, "ledgate_flagged_images_total", model="twins") == 0
    assert value(found, "ledgate_batch_images_sum", model="tiny") == 104
    runs = 1 + 1 + math.ceil(100 / ServerConfig().max_batch)
    assert value(found, "ledgate_batch_images_count", model="tiny") == runs
    assert value(found, "ledgate_compute_seconds_count", model="tiny") == runs
    assert value(found, "ledgate_queue_seconds_count", model="tiny") == 3
    parts = [value(found, f"ledgate_{name}_seconds_sum", model="tiny") for name in ("queue", "compute")]
    assert 0 < sum(parts) < value(found, "ledgate_request_seconds_sum", method=CLASSIFY)


def test_the_scores_fall_into_the_calibrations_buckets(tiny: Detector, twins: Detector) -> None:
    with operated(tiny, twins, metrics_port=0) as (server, operations):
        with grpc.insecure_channel(server.address) as channel:
            stub_of(channel).Classify(request(*range(100)))
            stub_of(channel).Classify(request(1, model="twins"))
        server.stop()
        found = scrape(operations)
    scores = tiny.classify(np.stack([picture(number) for number in range(100)])).score
    calibration = tiny.bundle.calibration
    assert calibration is not None
    assert scores is not None
    edges = [dict(labels)["le"] for name, labels in found if name == "ledgate_score_bucket"]
    assert len(edges) > 5
    assert repr(calibration.threshold) in edges
    for edge in edges:
        assert value(found, "ledgate_score_bucket", model="tiny", le=edge) == np.count_nonzero(scores <= float(edge))
        clean = np.count_nonzero(np.array(calibration.clean_scores) <= float(edge))
        assert value(found, "ledgate_clean_score_bucket", model="tiny", le=edge) == clean
    # Without a calibration there are no buckets to put scores into.
    assert not any(("model", "twins") in labels for name, labels in found if name.endswith("score_bucket"))


def test_before_anything_was_served_all_is_zero_and_the_models_are_told(tiny: Detector, twins: Detector) -> None:
    calibration = tiny.bundle.calibration
    assert calibration is not None
    with operated(tiny, twins, metrics_port=0) as (_, operations):
        found = scrape(operations)
    for name in ("images_total", "flagged_images_total", "queue_images", "queue_seconds_count"):
        for model in ("tiny", "twins"):
            assert value(found, f"ledgate_{name}", model=model) == 0
    assert value(found, "ledgate_threshold", model="tiny") == calibration.threshold
    identity = {"bundle_digest": tiny.bundle.digest, "calibration_digest": calibration.digest, "score": "log_diversity"}
    assert value(found, "ledgate_model_info", model="tiny", provider="CPUExecutionProvider", **identity) == 1
    nothing = {"bundle_digest": twins.bundle.digest, "calibration_digest": "", "score": ""}
    assert value(found, "ledgate_model_info", model="twins", provider="CPUExecutionProvider", **nothing) == 1


def test_the_queue_is_told_in_images(gated: GatedDetector, submissions: Submissions) -> None:
    with operated(gated, metrics_port=0) as (server, operations), grpc.insecure_channel(server.address) as channel:
        calls = [stub_of(channel).Classify.future(request(0))]
        gated.wait_for_run()
        calls.append(stub_of(channel).Classify.future(request(1, 2, 3)))
        submissions.wait(2)
        assert value(scrape(operations), "ledgate_queue_images", model="tiny") == 3
        gated.release()
        for call in calls:
            call.result()
        assert value(scrape(operations), "ledgate_queue_images", model="tiny") == 0


def test_each_message_of_a_stream_is_an_answer(tiny: Detector) -> None:
    messages = [request(1), pb.ClassifyRequest(), request(2)]
    with operated(tiny, metrics_port=0) as (server, operations), grpc.insecure_channel(server.address) as channel:
        assert len(list(stub_of(channel).ClassifyStream(iter(messages)))) == 3
        found = scrape(operations)
    assert value(found, "ledgate_requests_total", method=STREAM, code="OK") == 2
    assert value(found, "ledgate_requests_total", method=STREAM, code="INVALID_ARGUMENT") == 1
    assert value(found, "ledgate_request_seconds_count", method=STREAM) == 3


def test_health_is_not_counted_and_no_caller_makes_a_series(tiny: Detector) -> None:
    with operated(tiny, metrics_port=0) as (server, operations), grpc.insecure_channel(server.address) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        for name in ("a", "b"):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/ledgate.v1.Classifier/{name}")(b"")  # type: ignore[arg-type]
            with pytest.raises(grpc.RpcError):
                stub_of(channel).Classify(request(1, model=name, request_id=name))
        found = scrape(operations)
    counted = {labels for name, labels in found if name == "ledgate_requests_total"}
    assert counted == {frozenset({("method", CLASSIFY), ("code", "NOT_FOUND")})}


def test_a_watcher_that_fails_costs_no_caller_an_answer(
    tiny: Detector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Metrics, "ran", fail)
    monkeypatch.setattr(Metrics, "answered", fail)
    with operated(tiny, metrics_port=0) as (server, _), grpc.insecure_channel(server.address) as channel:
        for number in range(3):
            assert len(stub_of(channel).Classify(request(number)).results) == 1
    assert "broken" in caplog.text


def test_a_taken_port_is_refused(tiny: Detector) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServiceError, match=rf"^127.0.0.1:{port}: expected a free port, found one in use$"),
            operated(tiny, metrics_port=port),
        ):
            pass


def test_a_port_that_was_given_back_is_free(tiny: Detector) -> None:
    with operated(tiny, metrics_port=0) as (_, operations):
        assert operations.metrics_address is not None
        port = int(operations.metrics_address.rpartition(":")[2])
    with operated(tiny, metrics_port=port) as (_, operations):
        assert scrape(operations)


@pytest.mark.parametrize(("field", "bad"), [("metrics_port", 65536), ("metrics_port", -1), ("metrics_host", "")])
def test_nonsense_is_refused(field: str, bad: Any) -> None:
    with pytest.raises(InputError, match=f"^{field}: expected"):
        OperationsConfig(**{field: bad})


def test_metrics_beyond_loopback_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    OperationsConfig(metrics_port=0, metrics_host="0.0.0.0").warn(ServerConfig())
    assert "anybody who reaches it" in caplog.text


def test_without_operations_nothing_is_around_a_call(tiny: Detector) -> None:
    with operated(tiny) as (server, operations):
        assert isinstance(server, Server)
        assert operations.metrics_address is None
        assert operations.for_server() == {"watchers": [], "interceptors": [], "credentials": None}
