"""The audit trail: what is kept, how much, and that nothing waits for it or is lost with it."""

import io
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from detector.detector import Detector
from detector.encoding import encode_image
from detector.errors import InputError
from protos.inference import inference_pb2_grpc
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.audit import Audit, AuditConfig
from serving.auditstore import AuditStore, Entry
from serving.ticket import Ticket
from serving.watching import Run
from tests.serving.conftest import PATIENCE_S, picture, request
from tests.serving.inference.test_service import infer_request
from tests.serving.operating import operated, scrape, value

MB = 1 << 20


def rows(folder: Path) -> list[dict[str, Any]]:
    """The trail, as anybody may read it."""
    database = sqlite3.connect(folder / "audit.sqlite")
    database.row_factory = sqlite3.Row
    found = [dict(row) for row in database.execute("SELECT * FROM flagged ORDER BY id")]
    assert tuple(database.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
    database.close()
    return found


def entry(number: int, size: int = 10_000, **fields: Any) -> Entry:
    values: dict[str, Any] = {
        "time": float(number),
        "model": "m",
        "bundle_digest": "b",
        "calibration_digest": "c",
        "request_id": f"call {number}",
        "image_index": 0,
        "label": "cat",
        "probability": 0.5,
        "score": -1.0,
        "p_value": 0.1,
        "format": "png",
        "image": bytes(size),
    }
    return Entry(**{**values, **fields})


def run_of(detector: Detector, *pictures: int) -> Run:
    images = np.stack([picture(number) for number in pictures])
    verdicts = detector.classify(images)
    return Run(
        model=detector.bundle.name,
        detector=detector,
        tickets=[Ticket(images)],
        verdicts=verdicts,
        begun_s=0.0,
        ended_s=0.0,
    )


def flagged_of(detector: Detector) -> list[int]:
    """The pictures that are flagged."""
    flags = detector.classify(np.stack([picture(number) for number in range(256)])).adversarial
    assert flags is not None
    found: list[int] = np.flatnonzero(flags).tolist()
    return found


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets no audit write before what this returns is called."""
    free = threading.Event()
    write = AuditStore.write

    def late(store: AuditStore, entries: Any) -> int:
        assert free.wait(PATIENCE_S)
        return write(store, entries)

    monkeypatch.setattr(AuditStore, "write", late)
    return free.set


def test_a_server_keeps_what_it_flags_and_nothing_else(tiny: Detector, tmp_path: Path) -> None:
    calibration = tiny.bundle.calibration
    assert calibration is not None
    began = time.time()
    with operated(tiny, audit=AuditConfig(folder=tmp_path / "trail"), metrics_port=0) as (server, operations):
        with grpc.insecure_channel(server.address) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            replies = [
                stub.Classify(request(*range(start, start + 64), request_id=f"call {start}")) for start in (0, 64)
            ]
        server.stop()
        assert operations.metrics is not None
        audit = operations.metrics.audit
        assert audit is not None
        audit.close()
        samples = scrape(operations)
    expected = [
        (f"call {start}", index, result)
        for start, reply in zip((0, 64), replies, strict=True)
        for index, result in enumerate(reply.results)
        if result.adversarial
    ]
    # Parts of a request may be answered at the same time.
    found = sorted(rows(tmp_path / "trail"), key=lambda row: (int(row["request_id"].split()[1]), row["image_index"]))
    assert len(found) == len(expected) > 0
    for row, (request_id, index, result) in zip(found, expected, strict=True):
        assert (row["request_id"], row["image_index"]) == (request_id, index)
        assert (row["score"], row["p_value"], row["label"]) == (result.score, result.p_value, result.label)
        assert row["probability"] == max(result.probabilities)
        assert (row["model"], row["bundle_digest"]) == ("tiny", tiny.bundle.digest)
        assert row["calibration_digest"] == calibration.digest
        assert began <= row["time"] <= time.time()
        assert row["format"] == "npz"
        image = np.load(io.BytesIO(row["image"]), allow_pickle=False)["images"]
        np.testing.assert_array_equal(image, picture(int(request_id.split()[1]) + index)[None])
    assert value(samples, "ledgate_audit_written_total") == len(expected)
    assert value(samples, "ledgate_audit_dropped_total") == 0


def test_of_a_batch_each_caller_has_its_own_rows(tiny: Detector, tmp_path: Path) -> None:
    whole = run_of(tiny, *range(200))
    tickets = [
        Ticket(whole.tickets[0].images[:50], request_id="a"),
        Ticket(whole.tickets[0].images[50:], request_id="b"),
    ]
    with Audit(AuditConfig(folder=tmp_path)) as audit:
        audit.ran(replace(whole, tickets=tickets))
    flags, scores = whole.verdicts.adversarial, whole.verdicts.score
    assert flags is not None
    assert scores is not None
    expected = [("a", row) if row < 50 else ("b", row - 50) for row in np.flatnonzero(flags).tolist()]
    assert {request_id for request_id, _ in expected} == {"a", "b"}
    assert [(row["request_id"], row["image_index"]) for row in rows(tmp_path)] == expected
    assert [row["score"] for row in rows(tmp_path)] == scores[flags].tolist()


def test_what_waits_to_be_written_keeps_no_request_alive(
    tiny: Detector, tmp_path: Path, blocked: Callable[[], None]
) -> None:
    audit = Audit(AuditConfig(folder=tmp_path))
    run = run_of(tiny, *range(200))
    images = weakref.ref(run.tickets[0].images)
    audit.ran(run)
    del run
    assert images() is None
    blocked()
    audit.close()
    assert rows(tmp_path)


def test_without_an_access_log_too_a_row_tells_which_call_it_is_of(tiny: Detector, tmp_path: Path) -> None:
    everything = range(64)
    with (
        operated(tiny, audit=AuditConfig(folder=tmp_path)) as (server, _),
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        other = inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        calls = [stub.Classify.with_call(request(*everything))[1]]
        calls.append(other.ModelInfer.with_call(infer_request(*everything))[1])
        stub.Classify(request(*everything, request_id="mine"))
        calls.append(stub.ClassifyStream(iter([request(*everything), request(*everything, request_id="own")])))
        ids = {answer.request_id for answer in calls[-1]}
    given = [dict(call.trailing_metadata())["x-request-id"] for call in calls]
    assert ids == {"", "own"}  # the reply has what the request had
    assert {row["request_id"] for row in rows(tmp_path)} == {*given, "mine", "own"}
    assert len(set(given)) == 3


def test_a_long_request_id_is_refused_and_leaves_nothing(tiny: Detector, tmp_path: Path) -> None:
    with (
        operated(tiny, audit=AuditConfig(folder=tmp_path, max_bytes=MB)) as (server, _),
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(
            grpc.RpcError, match="request_id: expected at most 256 characters, found 2097152"
        ) as refused:
            stub.Classify(request(*range(64), request_id="z" * (2 * MB)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rows(tmp_path) == []


def test_a_server_makes_a_file_smaller_that_was_allowed_more(tiny: Detector, tmp_path: Path) -> None:
    store = AuditStore(tmp_path, max_bytes=64 * MB)
    store.write([entry(number) for number in range(1000)])
    store.close()
    assert store.path.stat().st_size > 8 * MB
    with operated(tiny, audit=AuditConfig(folder=tmp_path, max_bytes=MB)) as (server, _):
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= MB
        with grpc.insecure_channel(server.address) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            for _ in range(10):
                stub.Classify(request(*range(64)))
                assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= MB
    assert rows(tmp_path)[0]["time"] > 900


def test_what_waits_is_bounded_with_its_text(
    tiny: Detector, tmp_path: Path, blocked: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny, flagged_of(tiny)[0])
    (ticket,) = run.tickets
    monkeypatch.setattr("serving.audit._MAX_WAITING_BYTES", ticket.images.nbytes + 100)
    audit = Audit(AuditConfig(folder=tmp_path))
    for request_id in ("\N{SNOWMAN}" * 34, "x" * 100, ""):  # of 102, 100 and 0 bytes
        audit.ran(replace(run, tickets=[Ticket(ticket.images, request_id=request_id)]))
    assert audit.dropped == 2
    blocked()
    audit.close()
    assert [row["request_id"] for row in rows(tmp_path)] == ["x" * 100]


def test_an_uncalibrated_model_leaves_no_trail(twins: Detector, tmp_path: Path) -> None:
    with Audit(AuditConfig(folder=tmp_path)) as audit:
        audit.ran(run_of(twins, *range(50)))
    assert rows(tmp_path) == []


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    AuditStore(tmp_path / "a" / "trail", max_bytes=MB).close()
    assert stat.S_IMODE((tmp_path / "a" / "trail").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "trail" / "audit.sqlite").stat().st_mode) == 0o600


@pytest.mark.parametrize("shape", [(1, 8, 6), (3, 8, 6)])
def test_8_bit_images_are_kept_as_png(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    kind, file = encode_image(image)
    pixels = np.asarray(Image.open(io.BytesIO(file), formats=["PNG"]))
    assert kind == "png"
    np.testing.assert_array_equal(pixels if shape[0] == 1 else pixels.transpose(2, 0, 1), image.squeeze())


@pytest.mark.parametrize(("shape", "dtype"), [((3, 4, 4), np.float32), ((2, 4, 4), np.uint8)])
def test_what_no_png_can_hold_is_kept_as_npz(shape: tuple[int, int, int], dtype: Any) -> None:
    image = np.random.default_rng(0).random(shape).astype(dtype)
    kind, file = encode_image(image)
    found = np.load(io.BytesIO(file), allow_pickle=False)["images"]
    assert kind == "npz"
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, image[None])


def test_the_sample_is_what_was_drawn(tiny: Detector, tmp_path: Path) -> None:
    flagged = flagged_of(tiny)
    draws = np.random.default_rng(1).random(len(flagged)).tolist()
    drawn = iter(draws)
    with Audit(AuditConfig(folder=tmp_path, rate=0.4), draw=lambda: next(drawn)) as audit:
        audit.ran(run_of(tiny, *range(256)))
    kept = [number for number, draw in zip(flagged, draws, strict=True) if draw < 0.4]
    assert 0 < len(kept) < len(flagged)
    assert [row["image_index"] for row in rows(tmp_path)] == kept


def test_where_writing_is_slow_inputs_are_dropped_and_counted(
    tiny: Detector, tmp_path: Path, blocked: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    audit = Audit(AuditConfig(folder=tmp_path))
    run = run_of(tiny, *flagged_of(tiny))
    count = len(run.verdicts)
    rounds = 3 * 256 // count + 3
    for _ in range(rounds):
        audit.ran(run)  # returns though nothing is written
    assert audit.dropped > 0
    blocked()
    audit.close()
    assert audit.written + audit.dropped == rounds * count
    assert len(rows(tmp_path)) == audit.written >= 256
    assert f"{audit.dropped} flagged inputs were dropped" in caplog.text


def test_a_disk_that_fails_is_told_once_until_it_works_again(
    tiny: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    number = flagged_of(tiny)[0]
    run = run_of(tiny, number)
    audit = Audit(AuditConfig(folder=tmp_path))
    for works, written, told in ((False, 0, 1), (True, 3, 1), (False, 3, 2)):
        audit._store._database.execute(f"PRAGMA query_only = {not works}")
        for _ in range(3):
            audit.ran(run)
            audit.settled()
        assert audit.written == written
        assert caplog.text.count("expected to write flagged inputs, found: attempt to write") == told
    audit.close()
    assert audit.dropped == 6
    assert len(rows(tmp_path)) == 3


def test_infinity_and_no_p_value_are_kept_as_such(tmp_path: Path) -> None:
    store = AuditStore(tmp_path, max_bytes=MB)
    store.write([entry(0, score=-np.inf, p_value=None)])
    store.close()
    (row,) = rows(tmp_path)
    assert (row["score"], row["p_value"]) == (-np.inf, None)


WRITER = """
import sys
from pathlib import Path
from serving.auditstore import AuditStore
from tests.serving.test_audit import entry
store = AuditStore(Path(sys.argv[1]), max_bytes=1 << 30)
for start in range(0, 10**9, 10):
    store.write([entry(number) for number in range(start, start + 10)])
    print(start + 10, flush=True)
"""


def test_after_a_kill_the_file_is_whole_and_has_what_was_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 200:
                break
        process.send_signal(signal.SIGKILL)
        told = int([line, *process.stdout.read().split()][-1])
    numbers = [int(row["time"]) for row in rows(tmp_path)]
    assert len(numbers) >= told >= 200
    assert numbers == list(range(len(numbers)))
    assert len(numbers) % 10 == 0  # all of a transaction or none


@pytest.mark.parametrize("kind", ["file in the way", "no database"])
def test_what_cannot_be_written_to_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "no database":
        (tmp_path / "audit.sqlite").write_bytes(b"something else entirely " * 100)
        folder = tmp_path
    else:
        (tmp_path / "file").touch()
        folder = tmp_path / "file"
    with pytest.raises(InputError, match=r"audit\.sqlite: expected a (file|database) to write to, found"):
        AuditStore(folder, max_bytes=MB)
