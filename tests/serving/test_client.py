"""Both clients, by the same tests: the same verdicts as embedded, to the bit, and the same errors."""

import dataclasses
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.detector import Detector
from detector.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    LedgateError,
    NotFound,
    PermissionDenied,
    QueueFull,
    Unavailable,
)
from detector.verdicts import Verdicts
from serving.config import Reply, ServerConfig
from serving.modelinfo import ModelInfo
from serving.retry import Retry
from serving.server import Server
from tests.serving.callers import Caller, Connect, Kind
from tests.serving.conftest import PATIENCE_S, SHAPE, GatedDetector, Served, Submissions, picture
from tests.serving.counted import unused_port

Serve = Callable[..., Caller]
ONCE = Retry(attempts=1)


@pytest.fixture
def serve(serve: Callable[..., Served], connect: Connect) -> Serve:
    """Starts a server, and a client that is patient with it."""

    def start(*detectors: Any, client: dict[str, Any] | None = None, **config: Any) -> Caller:
        return connect(serve(*detectors, **config).address, **{"timeout_s": PATIENCE_S, **(client or {})})

    return start


def noise(count: int, dtype: type = np.float32) -> Any:
    images = np.random.default_rng(1).integers(0, 256, (count, *SHAPE)).astype(np.uint8)
    return images if dtype is np.uint8 else images.astype(np.float32) / np.float32(255)


def assert_same(found: Verdicts, expected: Verdicts) -> None:
    """Every field the same, to the bit."""
    for field in dataclasses.fields(Verdicts):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype, field.name
            assert left.shape == right.shape, field.name
            assert left.tobytes() == right.tobytes(), field.name
        else:
            assert left == right, field.name


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("members", [False, True])
def test_the_answer_is_the_detectors_to_the_bit(serve: Serve, tiny: Detector, dtype: type, *, members: bool) -> None:
    images = noise(70, dtype)
    client = serve(tiny, allow_members=True)
    assert_same(client.classify(images, members=members), tiny.classify(images, members=members))


def test_minus_infinity_arrives(serve: Serve, twins: Detector) -> None:
    images = noise(5)
    verdicts = serve(twins).classify(images)
    assert verdicts.log_diversity is not None
    assert verdicts.log_diversity.tolist() == [-np.inf] * 5
    assert_same(verdicts, twins.classify(images))


def test_large_arrays_go_in_several_calls(serve: Serve, gated: GatedDetector, tiny: Detector) -> None:
    gated.release()
    client = serve(gated, max_images=30, max_batch=100, client={"in_flight": 1})
    images = np.stack([picture(number) for number in range(70)])
    assert_same(client.classify(images), tiny.classify(images))
    assert [len(run) for run in gated.runs] == [30, 30, 10]


def test_large_messages_go_in_several_calls(serve: Serve, gated: GatedDetector, tiny: Detector) -> None:
    gated.release()
    client = serve(gated, max_message_bytes=4096, client={"in_flight": 1})
    images = np.stack([picture(number) for number in range(40)])
    assert_same(client.classify(images), tiny.classify(images))
    assert [len(run) for run in gated.runs] == [15, 15, 10]  # 256 bytes an image


def test_one_image_without_its_axis(serve: Serve, tiny: Detector) -> None:
    assert_same(serve(tiny).classify(picture(9)), tiny.classify(picture(9)[None]))


def test_files_are_decoded_by_the_server(serve: Serve, tiny: Detector) -> None:
    images = noise(7, np.uint8)
    files = []
    for image in images:
        content = io.BytesIO()
        Image.fromarray(image[0]).save(content, "PNG")
        files.append(content.getvalue())
    assert_same(serve(tiny, max_images=3).classify(files), tiny.classify(images))


def test_flag_only_leaves_none_where_it_hides(serve: Serve, tiny: Detector) -> None:
    images = noise(50)
    verdicts = serve(tiny, reply=Reply.FLAG_ONLY).classify(images)
    hidden = dataclasses.replace(tiny.classify(images), log_diversity=None, score=None, p_values=None)
    assert_same(verdicts, hidden)


def test_another_model_by_name(serve: Serve, tiny: Detector, twins: Detector) -> None:
    client = serve(tiny, twins)
    images = noise(2)
    assert_same(client.classify(images, model="twins"), twins.classify(images))
    assert_same(client.classify(images), tiny.classify(images))


def test_the_model_describes_itself(serve: Serve, tiny: Detector, twins: Detector) -> None:
    client = serve(tiny, twins, max_images=9, max_message_bytes=8192, max_pixels=99)
    calibration = tiny.bundle.calibration
    assert calibration is not None
    expected = ModelInfo(
        name="tiny",
        bundle_digest=tiny.bundle.digest,
        calibration_digest=calibration.digest,
        members=3,
        labels=tiny.bundle.labels,
        shape=SHAPE,
        resizes=False,
        greys_to_rgb=False,
        score_name="log_diversity",
        threshold=calibration.threshold,
        thresholds=None,
        target="TargetFpr(0.2, delta=0.05)",
        clean_count=len(calibration.clean_scores),
        provider="CPUExecutionProvider",
        dtype="float32",
        tf32=False,
        max_images=9,
        max_message_bytes=8192,
        max_pixels=99,
        available=("tiny", "twins"),
    )
    assert client.model() == client.model("tiny") == expected
    bare = client.model("twins")
    assert (bare.calibration_digest, bare.score_name, bare.threshold, bare.target) == (None,) * 4


def test_a_hidden_threshold_is_none(serve: Serve, tiny: Detector) -> None:
    info = serve(tiny, reply=Reply.FLAG_ONLY).model()
    assert info.threshold is None
    assert info.score_name == "log_diversity"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.classify(noise(1)[:, :, :4]), InputError, r"tensor.shape: .* found \(1, 1, 4, 8\)"),
        (lambda c: c.classify([b"junk"]), InputError, r"encoded.images\[0\]: expected a PNG or JPEG"),
        (lambda c: c.classify([b"junk"] * 4), InputError, r"^encoded.images\[0\]"),
        (lambda c: c.classify(noise(1), model="nope"), NotFound, "model: expected tiny, found 'nope'"),
        (lambda c: c.model("nope"), NotFound, "model: expected tiny, found 'nope'"),
        (lambda c: c.classify(noise(1), members=True), PermissionDenied, "without --allow-members"),
        (lambda c: c.classify(noise(1), timeout_s=0.0), InputError, "timeout_s: expected a positive number"),
    ],
)
def test_a_refusal_is_our_own_error(
    serve: Serve, tiny: Detector, call: Callable[[Caller], Any], error: type[LedgateError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(serve(tiny))


def test_a_bad_image_far_behind_is_found(serve: Serve, tiny: Detector) -> None:
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    with pytest.raises(InputError, match=r"^images from 4 on: encoded.images\[1\]: expected a PNG or JPEG"):
        serve(tiny, max_images=2).classify([content.getvalue()] * 5 + [b"junk"])


def test_the_deadline_is_for_all_images_together(serve: Serve, gated: GatedDetector) -> None:
    client = serve(gated)
    client.model()
    with pytest.raises(DeadlineExceeded, match=r"^127.0.0.1:\d+: expected an answer within 0.3 s, found none$"):
        client.classify(noise(1), timeout_s=0.3)
    with pytest.raises(DeadlineExceeded, match=r"^timeout_s: expected all images to be sent within 1e-09 s"):
        client.classify(noise(1), timeout_s=1e-9)


def test_a_clients_own_timeout_is_the_default(serve: Serve, gated: GatedDetector) -> None:
    with pytest.raises(DeadlineExceeded, match=r"expected an answer within 0.3 s"):
        serve(gated, client={"timeout_s": 0.3}).classify(noise(1))


def test_a_full_queue_is_our_own_error(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    client = serve(gated, max_queue=1, client={"retry": ONCE})
    running = client.start("classify", noise(1))
    gated.wait_for_run()
    waiting = client.start("classify", noise(1))
    submissions.wait(2)
    with pytest.raises(QueueFull, match="queue: expected room for 1 images, found 1 of 1 waiting"):
        client.classify(noise(1))
    gated.release()
    assert len(running.result()) == len(waiting.result()) == 1


def test_nobody_there_is_unavailable(connect: Connect) -> None:
    with pytest.raises(Unavailable):
        connect(f"127.0.0.1:{unused_port()}").classify(noise(1))


def test_a_closed_client_says_so(serve: Serve, tiny: Detector) -> None:
    client = serve(tiny)
    client.classify(noise(1))
    client.close()
    with pytest.raises(Unavailable, match="expected an open client, found a closed one"):
        client.classify(noise(1))


def test_a_client_that_is_closed_before_its_first_call_says_so(serve: Serve, tiny: Detector) -> None:
    client = serve(tiny)
    client.close()
    with pytest.raises(Unavailable, match="expected an open client, found a closed one"):
        client.classify(noise(1))


def test_closing_a_client_ends_its_calls(serve: Serve, gated: GatedDetector) -> None:
    client = serve(gated)
    call = client.start("classify", noise(1))
    gated.wait_for_run()
    client.close()
    with pytest.raises(Cancelled):
        call.result(PATIENCE_S)


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(kind: Kind, timeout_s: float) -> None:
    with pytest.raises(InputError, match="timeout_s: expected a positive number of seconds"):
        kind("127.0.0.1:1", timeout_s=timeout_s)


def test_waiting_for_a_server_that_never_comes(connect: Connect) -> None:
    address = f"127.0.0.1:{unused_port()}"
    with pytest.raises(DeadlineExceeded, match=f"{address}: expected a server that is ready within 0.3 s, found"):
        connect(address).wait_ready(0.3)


def test_waiting_for_a_server_that_is_starting(connect: Connect, tiny: Detector) -> None:
    with Server(ServerConfig(port=0)) as server:
        server.start()
        client = connect(server.address)
        with pytest.raises(DeadlineExceeded, match="the server is starting"):
            client.wait_ready(2.0)  # time enough for an answer on a busy machine
        server.open([tiny])
        client.wait_ready(PATIENCE_S)
        assert client.model().name == "tiny"


def test_it_waits_until_a_server_listens(connect: Connect, tiny: Detector) -> None:
    port = unused_port()
    client = connect(f"127.0.0.1:{port}", retry=ONCE)
    with Server(ServerConfig(port=port)) as server:
        with pytest.raises(Unavailable):
            client.model()
        server.start()
        server.open([tiny])
        client.wait_ready(PATIENCE_S)


def test_the_client_loads_no_stubs_of_others_and_no_runtime() -> None:
    heavy = ("grpc_health.v1", "grpc_reflection.v1alpha", "onnxruntime", "onnx", "torch", "PIL", "scipy")
    code = (
        f"import sys, serving; serving.Client; serving.AsyncClient; print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("address", "found"),
    [
        *((one, one) for one in ("localhost", "", "http://localhost:50051", "localhost:port", ":50051")),
        ("localhost:1,", ""),
        (["localhost:1", "localhost"], "localhost"),
    ],
)
def test_an_address_is_host_and_port(kind: Kind, address: Any, found: str) -> None:
    with pytest.raises(InputError, match=f"address: expected HOST:PORT, found '{found}'"):
        kind(address)


@pytest.mark.parametrize(
    ("addresses", "message"),
    [([], "address: expected HOST:PORT, found none"), ("a:1, a:1", "expected each once, found 'a:1' 2 times")],
)
def test_addresses_are_some_and_different(kind: Kind, addresses: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(addresses)


def test_a_number_of_calls_in_flight_is_positive(kind: Kind) -> None:
    with pytest.raises(InputError, match="in_flight: expected at least 1, found 0"):
        kind("localhost:1", in_flight=0)


def test_nobody_at_the_address(connect: Connect) -> None:
    with pytest.raises(Unavailable, match=r"^127\.0\.0\.1:1: expected a server.*\(tried 2 times\)$"):
        connect("127.0.0.1:1", retry=Retry(attempts=2)).model()
