"""The Open Inference Protocol over a raw channel: every call, and the same answers as from `ledgate.v1`."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import grpc
import numpy as np
import pytest

from detector.detector import Detector
from detector.verdicts import Verdicts
from protos.inference import inference_pb2 as pb
from protos.inference import inference_pb2_grpc
from serving.config import Reply, ServerConfig
from serving.server import Server
from tests.serving.conftest import CLASSES, PATIENCE_S, SHAPE, GatedDetector, Served, Submissions, picture
from tests.serving.conftest import request as classify_request
from tests.serving.test_service import assert_own

Serve = Callable[..., Served]
DTYPES = {"FP64": np.dtype("<f8"), "INT64": np.dtype("<i8"), "BOOL": np.dtype("?")}
FIELDS = {"FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}
CALIBRATED = ["label", "probabilities", "adversarial", "log_diversity", "score", "p_value"]


def stub_of(served: Served) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)  # type: ignore[no-untyped-call]


def images_of(*pictures: int) -> np.ndarray:
    return np.stack([picture(number) for number in pictures])


def infer_request(*pictures: int, outputs: tuple[str, ...] = (), **fields: Any) -> pb.ModelInferRequest:
    """A raw request for some pictures."""
    images = images_of(*pictures)
    request = pb.ModelInferRequest(raw_input_contents=[images.tobytes()], **fields)
    request.inputs.add(name="images", datatype="FP32", shape=images.shape)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def arrays(reply: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """The tensors of a reply, raw or not."""
    found = {}
    for number, tensor in enumerate(reply.outputs):
        if reply.raw_output_contents:
            values = np.frombuffer(reply.raw_output_contents[number], DTYPES[tensor.datatype])
        else:
            values = np.array(getattr(tensor.contents, FIELDS[tensor.datatype]), DTYPES[tensor.datatype])
        found[tensor.name] = values.reshape(tuple(tensor.shape))
    return found


def assert_told(found: dict[str, np.ndarray], verdicts: Verdicts) -> None:
    """The tensors are the verdicts, to the bit."""
    whole = {
        "label": verdicts.labels,
        "probabilities": verdicts.probabilities,
        "adversarial": verdicts.adversarial,
        "log_diversity": verdicts.log_diversity,
        "score": verdicts.score,
        "p_value": verdicts.p_values,
        "member_probabilities": verdicts.member_probabilities,
    }
    for name, values in found.items():
        expected = whole[name]
        assert expected is not None
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected, err_msg=name, strict=True)


def test_it_is_live_and_ready(serve: Serve, tiny: Detector, twins: Detector) -> None:
    stub = stub_of(serve(tiny, twins))
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    for name, asked in (("tiny", ""), ("twins", "1"), ("", "")):
        assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=asked)).ready
    with pytest.raises(grpc.RpcError, match="model: expected tiny or twins, found 'nope'") as caught:
        stub.ModelReady(pb.ModelReadyRequest(name="nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_before_its_models_are_ready_it_says_so(tiny: Detector) -> None:
    with Server(ServerConfig(port=0)) as server:
        server.start()
        with grpc.insecure_channel(server.address) as channel:
            stub: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]

            def ready() -> list[bool]:
                """Live, and the server and the model ready."""
                return [
                    stub.ServerLive(pb.ServerLiveRequest()).live,
                    stub.ServerReady(pb.ServerReadyRequest()).ready,
                    stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready,
                ]

            assert ready() == [True, False, False]
            for call, message in (
                (stub.ModelInfer, infer_request(1)),
                (stub.ModelMetadata, pb.ModelMetadataRequest(name="tiny")),
                (stub.RepositoryIndex, pb.RepositoryIndexRequest()),
            ):
                with pytest.raises(grpc.RpcError, match="the server is starting") as caught:
                    call(message)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            server.open([tiny])
            assert ready() == [True, True, True]


def test_the_server_says_who_it_is(serve: Serve, tiny: Detector) -> None:
    found = stub_of(serve(tiny)).ServerMetadata(pb.ServerMetadataRequest())
    assert found == pb.ServerMetadataResponse(name="ledgate", version=version("ledgate"))


def test_the_repository_is_what_is_served(serve: Serve, tiny: Detector, twins: Detector) -> None:
    found = stub_of(serve(twins, tiny)).RepositoryIndex(pb.RepositoryIndexRequest())
    assert [(model.name, model.version, model.state) for model in found.models] == [
        ("twins", "1", "READY"),
        ("tiny", "1", "READY"),
    ]


def test_a_model_describes_itself(serve: Serve, tiny: Detector) -> None:
    found = stub_of(serve(tiny, allow_members=True)).ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
    assert (found.name, list(found.versions), found.platform) == ("tiny", ["1"], "ledgate")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [("images", "FP32", [-1, *SHAPE])]
    assert [(one.name, one.datatype, list(one.shape)) for one in found.outputs] == [
        ("label", "INT64", [-1]),
        ("probabilities", "FP64", [-1, CLASSES]),
        ("adversarial", "BOOL", [-1]),
        ("log_diversity", "FP64", [-1]),
        ("score", "FP64", [-1]),
        ("p_value", "FP64", [-1]),
        ("member_probabilities", "FP64", [-1, 3, CLASSES]),
    ]


@pytest.mark.parametrize(
    ("model", "config", "outputs"),
    [
        pytest.param("tiny", {}, CALIBRATED, id="calibrated"),
        pytest.param("twins", {}, ["label", "probabilities", "log_diversity", "score"], id="not calibrated"),
        pytest.param("tiny", {"reply": Reply.FLAG_ONLY}, ["label", "probabilities", "adversarial"], id="flag only"),
        pytest.param("tiny", {"allow_members": True}, CALIBRATED, id="members, not asked for"),
    ],
)
def test_a_model_answers_with_what_it_may_tell(
    serve: Serve, tiny: Detector, twins: Detector, model: str, config: dict[str, Any], outputs: list[str]
) -> None:
    stub = stub_of(serve(tiny, twins, **config))
    detector = {"tiny": tiny, "twins": twins}[model]
    reply = stub.ModelInfer(infer_request(1, 2, 3, model_name=model, id="call 7"))
    assert (reply.model_name, reply.model_version, reply.id) == (model, "1", "call 7")
    found = arrays(reply)
    assert list(found) == outputs
    assert_told(found, detector.classify(images_of(1, 2, 3)))
    described = stub.ModelMetadata(pb.ModelMetadataRequest(name=model)).outputs
    assert [(one.name, one.datatype) for one in described if one.name != "member_probabilities"] == [
        (one.name, one.datatype) for one in reply.outputs
    ]


def test_the_parameters_say_which_version_answered_and_what_its_flags_mean(serve: Serve, tiny: Detector) -> None:
    calibration = tiny.bundle.calibration
    assert calibration is not None
    told = {"bundle_digest": tiny.bundle.digest, "calibration_digest": calibration.digest}
    told |= {"score_name": "log_diversity", "provider": "CPUExecutionProvider"}
    for config, threshold in (({}, calibration.threshold), ({"reply": Reply.FLAG_ONLY}, None)):
        parameters = stub_of(serve(tiny, **config)).ModelInfer(infer_request(1)).parameters
        assert {name: parameters[name].string_param for name in told} == told
        assert set(parameters) == {*told, *(["threshold"] if threshold is not None else [])}
        if threshold is not None:
            assert float(parameters["threshold"].string_param) == threshold


def test_what_is_asked_for_comes_in_that_order(serve: Serve, tiny: Detector) -> None:
    stub = stub_of(serve(tiny, allow_members=True))
    asked = ("score", "member_probabilities", "label")
    found = arrays(stub.ModelInfer(infer_request(4, 5, outputs=asked)))
    assert tuple(found) == asked
    assert_told(found, tiny.classify(images_of(4, 5), members=True))


def typed(images: np.ndarray, datatype: str) -> pb.ModelInferRequest:
    """A request with its numbers as numbers."""
    request = pb.ModelInferRequest()
    tensor = request.inputs.add(name="images", datatype=datatype, shape=images.shape)
    field = tensor.contents.fp32_contents if datatype == "FP32" else tensor.contents.uint_contents
    field.extend(images.ravel().tolist())
    return request


def test_numbers_are_answered_with_numbers(serve: Serve, tiny: Detector) -> None:
    stub = stub_of(serve(tiny))
    images = images_of(1, 2)
    for request in (typed(images, "FP32"), typed((images * 255).astype(np.uint8), "UINT8")):
        reply = stub.ModelInfer(request)
        assert list(reply.raw_output_contents) == []
        assert list(arrays(reply)) == CALIBRATED
        assert_told(arrays(reply), tiny.classify(images))


def test_bytes_and_one_image_without_its_axis(serve: Serve, tiny: Detector) -> None:
    image = np.random.default_rng(3).integers(0, 256, SHAPE).astype(np.uint8)
    request = pb.ModelInferRequest(raw_input_contents=[image.tobytes()])
    request.inputs.add(name="images", datatype="UINT8", shape=SHAPE)
    assert_told(arrays(stub_of(serve(tiny)).ModelInfer(request)), tiny.classify(image[None]))


def test_callers_of_both_protocols_share_a_run(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated)
    stub = stub_of(served)
    first = stub.ModelInfer.future(infer_request(0))
    gated.wait_for_run()
    others = [stub.ModelInfer.future(infer_request(number)) for number in (1, 2)]
    gone = stub.ModelInfer.future(infer_request(3))
    late = stub.ModelInfer.future(infer_request(4), timeout=0.2)
    submissions.wait(5)
    gone.cancel()
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    submissions.wait_cancelled(2)
    same = served.stub.Classify.future(classify_request(5))
    submissions.wait(1)
    gated.release()
    for number, reply in zip((0, 1, 2), (first, *others), strict=True):
        assert_told(arrays(reply.result(timeout=PATIENCE_S)), tiny.classify(images_of(number)))
    assert_own(same.result(), tiny, 5)
    assert [sorted(run) for run in gated.runs] == [[0], [1, 2, 5]]


def test_a_call_that_waits_is_answered_when_the_server_stops(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated)
    stub = stub_of(served)
    call = stub.ModelInfer.future(infer_request(0))
    gated.wait_for_run()
    served.server._reception.gate.drain(0.0)
    assert not stub.ServerReady(pb.ServerReadyRequest()).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready
    with pytest.raises(grpc.RpcError, match="the server is draining"):
        stub.ModelInfer(infer_request(1))
    gated.release()
    assert_told(arrays(call.result(timeout=PATIENCE_S)), tiny.classify(images_of(0)))


def test_what_is_not_spoken_is_unimplemented(serve: Serve, tiny: Detector) -> None:
    channel = serve(tiny).channel
    for name in ("ModelConfig", "ModelStatistics", "RepositoryModelLoad", "SystemSharedMemoryStatus"):
        call: Any = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_hundred_images_are_one_answer(serve: Serve, tiny: Detector) -> None:
    reply = stub_of(serve(tiny, max_batch=16)).ModelInfer(infer_request(*range(100)))
    assert_told(arrays(reply), tiny.classify(images_of(*range(100))))
