"""The client: the same verdicts as embedded, to the bit, and the same errors."""

import dataclasses
import io
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.detector import Detector
from detector.errors import (
    DeadlineExceeded,
    InputError,
    LedgateError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from detector.verdicts import Verdicts
from serving.client import Client
from serving.config import Reply, ServerConfig
from serving.modelinfo import ModelInfo
from serving.server import Server
from tests.serving.conftest import PATIENCE_S, SHAPE, GatedDetector, Served, Submissions, picture

Serve = Callable[..., Served]


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
    client = serve(tiny, allow_members=True).client
    assert_same(client.classify(images, members=members), tiny.classify(images, members=members))


def test_minus_infinity_arrives(serve: Serve, twins: Detector) -> None:
    images = noise(5)
    verdicts = serve(twins).client.classify(images)
    assert verdicts.log_diversity is not None
    assert verdicts.log_diversity.tolist() == [-np.inf] * 5
    assert_same(verdicts, twins.classify(images))


def test_large_arrays_go_in_several_calls(serve: Serve, gated: GatedDetector, tiny: Detector) -> None:
    gated.release()
    client = serve(gated, max_images=30, max_batch=100).client
    images = np.stack([picture(number) for number in range(70)])
    assert_same(client.classify(images), tiny.classify(images))
    assert [len(run) for run in gated.runs] == [30, 30, 10]


def test_large_messages_go_in_several_calls(serve: Serve, gated: GatedDetector, tiny: Detector) -> None:
    gated.release()
    client = serve(gated, max_message_bytes=4096).client
    images = np.stack([picture(number) for number in range(40)])
    assert_same(client.classify(images), tiny.classify(images))
    assert [len(run) for run in gated.runs] == [15, 15, 10]  # 256 bytes an image


def test_one_image_without_its_axis(serve: Serve, tiny: Detector) -> None:
    assert_same(serve(tiny).client.classify(picture(9)), tiny.classify(picture(9)[None]))


def test_files_are_decoded_by_the_server(serve: Serve, tiny: Detector) -> None:
    images = noise(7, np.uint8)
    files = []
    for image in images:
        content = io.BytesIO()
        Image.fromarray(image[0]).save(content, "PNG")
        files.append(content.getvalue())
    assert_same(serve(tiny, max_images=3).client.classify(files), tiny.classify(images))


def test_flag_only_leaves_none_where_it_hides(serve: Serve, tiny: Detector) -> None:
    images = noise(50)
    verdicts = serve(tiny, reply=Reply.FLAG_ONLY).client.classify(images)
    hidden = dataclasses.replace(tiny.classify(images), log_diversity=None, score=None, p_values=None)
    assert_same(verdicts, hidden)


def test_another_model_by_name(serve: Serve, tiny: Detector, twins: Detector) -> None:
    client = serve(tiny, twins).client
    images = noise(2)
    assert_same(client.classify(images, model="twins"), twins.classify(images))
    assert_same(client.classify(images), tiny.classify(images))


def test_the_model_describes_itself(serve: Serve, tiny: Detector, twins: Detector) -> None:
    client = serve(tiny, twins, max_images=9, max_message_bytes=8192, max_pixels=99).client
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
    info = serve(tiny, reply=Reply.FLAG_ONLY).client.model()
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
    serve: Serve, tiny: Detector, call: Callable[[Client], Any], error: type[LedgateError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(serve(tiny).client)


def test_a_bad_image_far_behind_is_found(serve: Serve, tiny: Detector) -> None:
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    with pytest.raises(InputError, match=r"^images from 4 on: encoded.images\[1\]: expected a PNG or JPEG"):
        serve(tiny, max_images=2).client.classify([content.getvalue()] * 5 + [b"junk"])


def test_the_deadline_is_for_all_images_together(serve: Serve, gated: GatedDetector) -> None:
    client = serve(gated).client
    client.model()
    with pytest.raises(DeadlineExceeded):
        client.classify(noise(1), timeout_s=0.3)


def test_a_clients_own_timeout_is_the_default(serve: Serve, gated: GatedDetector) -> None:
    served = serve(gated)
    with Client(served.address, timeout_s=0.3) as client, pytest.raises(DeadlineExceeded):
        client.classify(noise(1))


def test_a_full_queue_is_our_own_error(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    client = serve(gated, max_queue=1).client
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(client.classify, noise(1))
        gated.wait_for_run()
        waiting = pool.submit(client.classify, noise(1))
        submissions.wait(2)
        with pytest.raises(ResourceExhausted, match="queue: expected room for 1 images, found 1 of 1 waiting"):
            client.classify(noise(1))
        gated.release()
        assert len(running.result()) == len(waiting.result()) == 1


def test_nobody_there_is_unavailable() -> None:
    with Client(f"127.0.0.1:{unused_port()}") as client, pytest.raises(Unavailable):
        client.classify(noise(1))


def test_a_closed_client_says_so(serve: Serve, tiny: Detector) -> None:
    client = serve(tiny).client
    client.close()
    with pytest.raises(Unavailable, match="expected an open client, found a closed one"):
        client.classify(noise(1))


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(timeout_s: float) -> None:
    with pytest.raises(InputError, match="timeout_s: expected a positive number of seconds"):
        Client("127.0.0.1:1", timeout_s=timeout_s)


def test_waiting_for_a_server_that_never_comes() -> None:
    address = f"127.0.0.1:{unused_port()}"
    with (
        Client(address) as client,
        pytest.raises(DeadlineExceeded, match=f"{address}: expected a server that is ready within 0.3 s, found"),
    ):
        client.wait_ready(0.3)


def test_waiting_for_a_server_that_is_starting(tiny: Detector) -> None:
    with Server(ServerConfig(port=0)) as server:
        server.start()
        with Client(server.address) as client:
            with pytest.raises(DeadlineExceeded, match="the server is starting"):
                client.wait_ready(0.3)
            server.open([tiny])
            client.wait_ready(PATIENCE_S)
            assert client.model().name == "tiny"


def test_it_waits_until_a_server_listens(tiny: Detector) -> None:
    port = unused_port()
    with Client(f"127.0.0.1:{port}") as client, Server(ServerConfig(port=port)) as server:
        with pytest.raises(Unavailable):
            client.model()
        server.start()
        server.open([tiny])
        client.wait_ready(PATIENCE_S)


def test_the_client_loads_no_stubs_of_others_and_no_runtime() -> None:
    heavy = ("grpc_health.v1", "grpc_reflection.v1alpha", "onnxruntime", "onnx", "torch", "PIL", "scipy")
    code = f"import sys, serving; serving.Client; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("address", ["localhost", "", "http://localhost:50051", "localhost:port", ":50051"])
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(InputError, match=f"address: expected HOST:PORT, found '{address}'"):
        Client(address)


def test_nobody_at_the_address() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(Unavailable, match=r"^127\.0\.0\.1:1: expected a server"):
        client.model()
