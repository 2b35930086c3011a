"""A large array at a server whose queue is too small for the parts that a client has under way."""

import time
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import QueueFull
from serving.retry import Budget, Retry
from tests.serving.callers import Connect
from tests.serving.conftest import PATIENCE_S, GatedDetector, Submissions, picture
from tests.serving.counted import CLASSIFY, counted

PARTS = 20
ONCE = Retry(attempts=1)


class SlowDetector(GatedDetector):
    """Takes its time for each batch."""

    def __init__(self, detector: Detector, seconds: float) -> None:
        super().__init__(detector)
        self.seconds = seconds
        self.release()

    def logits(self, images: Any) -> Any:
        time.sleep(self.seconds)
        return super().logits(images)


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> "SimpleQueue[None]":
    """One for each token that any client's budget has lost."""
    found: SimpleQueue[None] = SimpleQueue()
    failed = Budget.failed

    def noted(budget: Budget) -> bool:
        found.put(None)
        return failed(budget)

    monkeypatch.setattr(Budget, "failed", noted)
    return found


def pictures(count: int) -> np.ndarray:
    return np.stack([picture(number) for number in range(count)])


def test_all_of_a_large_array_are_answered_where_the_queue_holds_two_parts(connect: Connect, tiny: Detector) -> None:
    limits: dict[str, Any] = {"max_images": 4, "max_batch": 4, "max_queue": 8}
    with counted(SlowDetector(tiny, 0.05), **limits) as (server, _):
        found = connect(server.address, in_flight=8).classify(pictures(4 * PARTS))
    np.testing.assert_array_equal(found.score, tiny.classify(pictures(4 * PARTS)).score)


def test_parts_that_are_handed_over_are_neither_repeated_nor_counted(
    connect: Connect, gated: GatedDetector, failures: "SimpleQueue[None]"
) -> None:
    gated.release()
    with counted(gated, max_images=1, max_batch=1, max_queue=1) as (server, calls):
        client = connect(server.address, in_flight=8, retry=ONCE)
        for _ in range(5):
            assert len(client.classify(pictures(PARTS))) == PARTS
        assert calls.count(CLASSIFY) <= 5 * (PARTS + 7)  # of each array, all but one of those who send may be refused
    assert failures.empty()


def test_the_last_that_is_under_way_is_repeated_and_then_refused(
    connect: Connect, gated: GatedDetector, submissions: Submissions
) -> None:
    with counted(gated, max_images=1, max_batch=1, max_queue=1) as (server, _):
        filling = connect(server.address)
        calls = [filling.start("classify", picture(1))]
        gated.wait_for_run()
        calls.append(filling.start("classify", picture(2)))
        submissions.wait(2)
        client = connect(server.address, in_flight=3, retry=Retry(attempts=4, initial_s=0.01, max_s=0.01))
        with pytest.raises(QueueFull, match=r"found 1 of 1 waiting; try again later \(tried 4 times\)$"):
            client.classify(pictures(PARTS))
        gated.release()
        for call in calls:
            call.result(PATIENCE_S)


def test_a_part_that_finds_no_room_goes_to_another_server_first(
    connect: Connect, tiny: Detector, gated: GatedDetector, submissions: Submissions
) -> None:
    with (
        counted(gated, max_images=1, max_queue=1) as (full, first),
        counted(tiny, max_images=1) as (well, second),
    ):
        filling = connect(full.address)
        calls = [filling.start("classify", picture(1))]
        gated.wait_for_run()
        calls.append(filling.start("classify", picture(2)))
        submissions.wait(2)
        client = connect([full.address, well.address], retry=ONCE)
        assert len(client.classify(pictures(PARTS))) == PARTS
        assert first.count(CLASSIFY) > 2  # it was asked, and said no
        assert second.count(CLASSIFY) == PARTS
        gated.release()
        for call in calls:
            call.result(PATIENCE_S)
