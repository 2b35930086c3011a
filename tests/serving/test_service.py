"""The service over real channels: batches across callers, bounds, departures, and what a reply tells."""

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from detector.detector import Detector
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.config import Reply
from tests.serving.conftest import CLASSES, PATIENCE_S, GatedDetector, Served, Submissions, picture, request

Serve = Callable[..., Served]


def assert_own(reply: pb.ClassifyResponse, detector: Detector, *pictures: int) -> None:
    """The reply is what the detector says of these pictures, to the bit."""
    verdicts = detector.classify(np.stack([picture(number) for number in pictures]))
    assert len(reply.results) == len(pictures)
    assert verdicts.log_diversity is not None
    assert verdicts.score is not None
    for index, result in enumerate(reply.results):
        assert result.class_index == verdicts.labels[index]
        assert result.label == verdicts.class_names[index]
        assert list(result.probabilities) == verdicts.probabilities[index].tolist()
        assert result.log_diversity == verdicts.log_diversity[index]
        assert result.score == verdicts.score[index]
        if verdicts.adversarial is not None and verdicts.p_values is not None:
            assert result.adversarial == verdicts.adversarial[index]
            assert result.p_value == verdicts.p_values[index]


def test_a_hundred_callers_get_their_own_answers(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated, max_batch=16)
    with ThreadPoolExecutor(100) as pool:
        replies = [pool.submit(served.stub.Classify, request(number), timeout=PATIENCE_S) for number in range(100)]
        submissions.wait(100)
        gated.release()
        for number, reply in enumerate(replies):
            assert_own(reply.result(), tiny, number)
    assert sorted(number for run in gated.runs for number in run) == list(range(100))
    # All came before the first run had ended: that one has what was there, the others are full.
    assert [len(run) for run in gated.runs[1:-1]] == [16] * len(gated.runs[1:-1])
    assert len(gated.runs) <= 8


def test_callers_share_a_run(serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions) -> None:
    served = serve(gated)
    first = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    others = [served.stub.Classify.future(request(number, number + 100)) for number in range(1, 6)]
    submissions.wait(6)
    gated.release()
    assert_own(first.result(), tiny, 0)
    for number, other in enumerate(others, start=1):
        assert_own(other.result(), tiny, number, number + 100)
    assert [len(run) for run in gated.runs] == [1, 10]


def test_a_cancelled_caller_gives_up_its_place(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated, max_queue=3)
    first = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    before, gone, after = (served.stub.Classify.future(request(number)) for number in (1, 2, 3))
    submissions.wait(4)
    gone.cancel()
    submissions.wait_cancelled(1)
    instead = served.stub.Classify.future(request(4))  # there is room again
    submissions.wait(1)
    gated.release()
    for number, reply in ((0, first), (1, before), (3, after), (4, instead)):
        assert_own(reply.result(), tiny, number)
    assert sorted(gated.runs[1]) == [1, 3, 4]
    assert len(gated.runs) == 2


def test_a_caller_whose_time_is_up_is_not_run(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated)
    first = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    good = served.stub.Classify.future(request(1))
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.Classify(request(2), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    submissions.wait(3)
    submissions.wait_cancelled(1)
    gated.release()
    assert_own(first.result(), tiny, 0)
    assert_own(good.result(), tiny, 1)
    assert gated.runs == [[0], [1]]


def test_a_full_queue_refuses_at_once(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated, max_queue=3)
    accepted = [served.stub.Classify.future(request(0))]
    gated.wait_for_run()
    accepted += [served.stub.Classify.future(request(number)) for number in (1, 2, 3)]
    submissions.wait(4)
    for refused in (request(4), request(5, 6, 7, 8)):
        with pytest.raises(grpc.RpcError, match="queue: expected room for") as caught:
            served.stub.Classify(refused)  # while the model is stuck
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    gated.release()
    for number, reply in enumerate(accepted):
        assert_own(reply.result(), tiny, number)


def test_a_full_queue_refuses_before_it_decodes(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    served = serve(gated, max_queue=1)
    running = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    waiting = served.stub.Classify.future(request(1))
    submissions.wait(2)
    undecodable = pb.ClassifyRequest(encoded=pb.EncodedImages(images=[b"no image"]))
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.Classify(undecodable)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    gated.release()
    assert running.code() is waiting.code() is grpc.StatusCode.OK


def test_a_call_larger_than_queue_and_batch_is_served(serve: Serve, tiny: Detector) -> None:
    served = serve(tiny, max_queue=3, max_batch=4)
    assert_own(served.stub.Classify(request(*range(50))), tiny, *range(50))


def test_nan_of_a_member_is_internal_for_its_caller_only(
    serve: Serve, fragile: Detector, submissions: Submissions, caplog: pytest.LogCaptureFixture
) -> None:
    gated = GatedDetector(fragile)
    served = serve(gated)
    first = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    poison = request(2, request_id="poison")
    pixels = np.frombuffer(poison.tensor.data, np.float32).copy()
    pixels[63] = 1.0
    poison.tensor.data = pixels.tobytes()
    before, bad, after = (served.stub.Classify.future(one) for one in (request(1), poison, request(3)))
    submissions.wait(4)
    gated.release()
    assert_own(first.result(), fragile, 0)
    assert_own(before.result(), fragile, 1)
    assert_own(after.result(), fragile, 3)
    assert bad.code() is grpc.StatusCode.INTERNAL
    assert bad.details() == "internal error; the server's log says more"
    assert sorted(gated.runs[1]) == [1, 2, 3]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "member 2 answered with nan" in record.getMessage()
    assert "request 'poison'" in record.getMessage()


def test_a_failing_model_is_internal_and_its_details_stay_in_the_log(
    serve: Serve, gated: GatedDetector, tiny: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    gated.breaks_on = {7}
    gated.release()
    served = serve(gated)
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.Classify(request(7))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    assert "secret path /srv/weights" in caplog.text
    assert_own(served.stub.Classify(request(8)), tiny, 8)


def test_a_reply_says_where_it_comes_from(serve: Serve, tiny: Detector) -> None:
    reply = serve(tiny).stub.Classify(request(1, request_id="call 1"))
    calibration = tiny.bundle.calibration
    assert calibration is not None
    assert reply.model == "tiny"
    assert reply.request_id == "call 1"
    assert reply.bundle_digest == tiny.bundle.digest
    assert reply.calibration_digest == calibration.digest
    assert reply.score_name == "log_diversity"
    assert reply.threshold == calibration.threshold
    assert reply.execution_path == pb.ExecutionPath(provider="CPUExecutionProvider", dtype="float32", tf32=False)


def test_the_calibrated_model_flags_some_and_not_others(serve: Serve, tiny: Detector) -> None:
    reply = serve(tiny).stub.Classify(request(*range(256)))
    assert {result.adversarial for result in reply.results} == {True, False}
    for result in reply.results:
        assert result.adversarial == (result.score < reply.threshold)


def test_without_a_calibration_nothing_is_flagged(serve: Serve, fragile: Detector) -> None:
    reply = serve(fragile).stub.Classify(request(1))
    assert not reply.HasField("threshold")
    assert reply.calibration_digest == ""
    assert reply.results[0].HasField("score")
    assert not reply.results[0].HasField("adversarial")
    assert not reply.results[0].HasField("p_value")


def test_flag_only_tells_no_score_and_no_threshold(serve: Serve, tiny: Detector) -> None:
    served = serve(tiny, reply=Reply.FLAG_ONLY)
    reply = served.stub.Classify(request(*range(256)))
    told = serve(tiny).stub.Classify(request(*range(256)))
    assert not reply.HasField("threshold")
    assert list(reply.thresholds) == []
    for result, open_ in zip(reply.results, told.results, strict=True):
        for field in ("log_diversity", "score", "p_value"):
            assert not result.HasField(field)
            assert open_.HasField(field)
        assert result.adversarial == open_.adversarial
        assert result.probabilities == open_.probabilities
    described = served.stub.GetModel(pb.GetModelRequest()).calibration
    assert not described.HasField("threshold")
    assert described.clean_count > 0


def test_the_members_are_told_where_allowed_and_asked_for(serve: Serve, tiny: Detector) -> None:
    stub = serve(tiny, allow_members=True).stub
    reply = stub.Classify(request(1, 2, return_member_probabilities=True))
    expected = tiny.classify(np.stack([picture(1), picture(2)]), members=True).member_probabilities
    assert expected is not None
    for result, each in zip(reply.results, expected, strict=True):
        assert np.array(result.member_probabilities).reshape(3, CLASSES).tolist() == each.tolist()
    assert list(stub.Classify(request(1)).results[0].member_probabilities) == []


def test_the_first_model_is_the_default(serve: Serve, tiny: Detector, twins: Detector) -> None:
    stub = serve(twins, tiny).stub
    assert stub.Classify(request(1)).model == "twins"
    assert stub.Classify(request(1, model="tiny")).model == "tiny"
    assert stub.GetModel(pb.GetModelRequest()).name == "twins"
    assert list(stub.GetModel(pb.GetModelRequest(model="tiny")).available) == ["twins", "tiny"]


def test_a_model_describes_itself(serve: Serve, tiny: Detector) -> None:
    described = serve(tiny, max_images=5, max_message_bytes=9999, max_pixels=77).stub.GetModel(pb.GetModelRequest())
    calibration = tiny.bundle.calibration
    assert calibration is not None
    assert described == pb.Model(
        name="tiny",
        bundle_digest=tiny.bundle.digest,
        calibration_digest=calibration.digest,
        members=3,
        labels=[f"class {index}" for index in range(CLASSES)],
        input=pb.Input(shape=[1, 8, 8], dtypes=[pb.UINT8, pb.FLOAT32], low=0.0, high=1.0),
        calibration=pb.Calibration(
            score_name="log_diversity",
            threshold=calibration.threshold,
            target="TargetFpr(0.2, delta=0.05)",
            clean_count=len(calibration.clean_scores),
        ),
        execution_path=pb.ExecutionPath(provider="CPUExecutionProvider", dtype="float32"),
        limits=pb.Limits(max_images=5, max_message_bytes=9999, max_pixels=77),
        available=["tiny"],
    )


def test_callers_of_two_models_do_not_wait_for_each_other(serve: Serve, gated: GatedDetector, twins: Detector) -> None:
    stub = serve(gated, twins).stub
    stuck = stub.Classify.future(request(1))
    gated.wait_for_run()
    assert_own(stub.Classify(request(2, model="twins")), twins, 2)
    assert not stuck.done()


def test_refusals_are_in_the_log_at_debug(serve: Serve, tiny: Detector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "serving")
    with pytest.raises(grpc.RpcError):
        serve(tiny).stub.Classify(pb.ClassifyRequest(request_id="call 9"))
    assert re.search(r"request 'call 9': INVALID_ARGUMENT: input: expected", caplog.text)


def test_more_callers_than_a_small_queue_all_get_an_answer_in_the_end(serve: Serve, tiny: Detector) -> None:
    served = serve(tiny, max_queue=4, max_batch=2)
    barrier = threading.Barrier(16)

    def call(number: int) -> Any:
        barrier.wait(PATIENCE_S)
        while True:
            attempt = served.stub.Classify.future(request(number))
            if attempt.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                return attempt.result()

    with ThreadPoolExecutor(16) as pool:
        for number, reply in enumerate(pool.map(call, range(16))):
            assert_own(reply, tiny, number)
