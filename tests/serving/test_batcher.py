"""The batcher: who shares a run, and that nobody suffers for another."""

import logging
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable
from detector.verdicts import Verdicts
from serving.batcher import Batcher, Replaced
from serving.config import ServerConfig
from serving.ticket import Ticket
from tests.serving.conftest import PATIENCE_S, GatedDetector, numbers, picture

Make = Callable[..., Batcher]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    made: list[tuple[Batcher, Any]] = []

    def batcher(detector: Any, **config: Any) -> Batcher:
        made.append((Batcher(detector, ServerConfig(**config), clock=clock), detector))
        return made[-1][0]

    yield batcher
    for one, detector in made:
        if isinstance(detector, GatedDetector):
            detector.release()
        one.close()


def ticket(*pictures: int, **fields: Any) -> Ticket:
    return Ticket(np.stack([picture(number) for number in pictures]), **fields)


def submit(batcher: Batcher, *pictures: int, **fields: Any) -> Ticket:
    batcher.submit(one := ticket(*pictures, **fields))
    return one


def assert_same(found: Verdicts, expected: Verdicts) -> None:
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def own(detector: Detector, *pictures: int) -> Verdicts:
    """What the detector says of these pictures alone."""
    return detector.classify(np.stack([picture(number) for number in pictures]))


def test_what_waits_shares_a_run_and_each_gets_its_own_rows(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated, max_batch=4)
    first = submit(batcher, 0)
    gated.wait_for_run()
    others = [submit(batcher, 1, 2), submit(batcher, 3), submit(batcher, 4), submit(batcher, 5)]
    gated.release()
    assert_same(first.wait(), own(tiny, 0))
    for one, pictures in zip(others, ([1, 2], [3], [4], [5]), strict=True):
        assert_same(one.wait(), own(tiny, *pictures))
    assert gated.runs == [[0], [1, 2, 3, 4], [5]]


def test_an_idle_model_does_not_wait_for_company(gated: GatedDetector, make: Make) -> None:
    gated.release()
    assert len(submit(make(gated), 7).wait()) == 1  # the clock stands still


def test_the_first_waits_for_company_until_the_batch_is_full(gated: GatedDetector, make: Make) -> None:
    batcher = make(gated, max_batch=2, batch_wait_s=3600.0)
    gated.release()
    tickets = [submit(batcher, number) for number in range(2)]
    for one in tickets:
        one.wait()
    assert gated.runs == [[0, 1]]


def test_in_a_hurry_nobody_waits_for_company(gated: GatedDetector, make: Make) -> None:
    batcher = make(gated, max_batch=64, batch_wait_s=3600.0)
    gated.release()
    tickets = [submit(batcher, number) for number in range(3)]
    batcher.hurry()
    for one in tickets:
        one.wait()
    assert gated.runs == [[0, 1, 2]]


def test_a_request_larger_than_a_batch_is_run_in_pieces(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated, max_batch=4, max_queue=4)
    gated.release()
    assert_same(submit(batcher, *range(10)).wait(), own(tiny, *range(10)))
    assert gated.runs == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_one_image_does_not_wait_for_all_of_a_large_request(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated, max_batch=4)
    large = submit(batcher, *range(10))
    gated.wait_for_run()
    small = submit(batcher, 99)
    gated.release()
    assert_same(small.wait(), own(tiny, 99))
    assert_same(large.wait(), own(tiny, *range(10)))
    assert gated.runs == [[0, 1, 2, 3], [99, 4, 5, 6], [7, 8, 9]]


def test_a_large_request_that_is_given_up_is_not_run_on(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated, max_batch=4)
    large = submit(batcher, *range(100))
    gated.wait_for_run()
    batcher.cancel(large)
    with pytest.raises(Cancelled):
        large.wait()
    small = submit(batcher, 200)
    gated.release()
    assert_same(small.wait(), own(tiny, 200))
    assert gated.runs == [[0, 1, 2, 3], [200]]


def test_a_large_request_that_expires_is_not_run_on(gated: GatedDetector, make: Make, clock: Clock) -> None:
    batcher = make(gated, max_batch=4)
    large = submit(batcher, *range(100), deadline_s=5.0)
    gated.wait_for_run()
    clock.now_s = 5.0
    gated.release()
    with pytest.raises(DeadlineExceeded):
        large.wait()
    submit(batcher, 200).wait()
    assert gated.runs == [[0, 1, 2, 3], [200]]


def test_a_large_request_is_refused_as_a_whole_and_not_run_on(
    fragile: Detector, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    gated = GatedDetector(fragile)
    batcher = make(gated, max_batch=4)
    poison = np.stack([picture(number) for number in range(12)])
    poison[5, 0, 7, 7] = 1.0
    batcher.submit(bad := Ticket(poison, request_id="poison"))
    gated.wait_for_run()
    good = submit(batcher, 200)
    gated.release()
    with pytest.raises(Internal):
        bad.wait()
    assert_same(good.wait(), own(fragile, 200))
    submit(batcher, 201).wait()
    assert gated.runs == [[0, 1, 2, 3], [200, 4, 5, 6], [201]]
    assert "class 0 of image 5: request 'poison' (12 images)" in caplog.text


def test_who_finishes_answers_what_it_has_and_takes_no_more(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated, max_batch=4, batch_wait_s=3600.0)
    first = submit(batcher, 0, 1, 2, 3)
    gated.wait_for_run()
    waiting = [submit(batcher, *range(10)), submit(batcher, 42)]
    batcher.finish()
    with pytest.raises(Replaced):
        submit(batcher, 5)
    gated.release()
    assert_same(first.wait(), own(tiny, 0, 1, 2, 3))
    assert_same(waiting[0].wait(), own(tiny, *range(10)))
    assert_same(waiting[1].wait(), own(tiny, 42))


@pytest.mark.parametrize("lanes", [1, 2])
def test_who_has_finished_lets_go_of_its_model(tiny: Detector, lanes: int) -> None:
    detector = GatedDetector(tiny)
    detector.lanes = lanes
    detector.release()
    gone = threading.Event()
    weakref.finalize(detector, gone.set)
    batcher = Batcher(detector, ServerConfig())
    del detector
    submit(batcher, 1).wait()
    batcher.finish()
    del batcher
    assert gone.wait(PATIENCE_S)


class LanedDetector(GatedDetector):
    """Two batches at once, each let through by itself: by the first of its pictures.

    Attributes:
        takes_s: How long a batch takes, on the clock.
    """

    def __init__(self, detector: Detector, clock: Clock) -> None:
        super().__init__(detector)
        self.lanes = 2
        self.takes_s = 1.0
        self.clock = clock
        self.through = {number: threading.Event() for number in range(256)}

    def logits(self, images: Any) -> Any:
        found = numbers(images)
        self.runs.append(found)
        self._started.put(None)
        assert self.through[found[0]].wait(PATIENCE_S)
        self.clock.now_s += self.takes_s
        return self._detector.logits(images)

    def release(self) -> None:
        for event in self.through.values():
            event.set()


@pytest.fixture
def laned(tiny: Detector, clock: Clock) -> Iterator[LanedDetector]:
    detector = LanedDetector(tiny, clock)
    yield detector
    detector.release()


def test_where_there_are_lanes_two_batches_run_at_once(laned: LanedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(laned)
    first = submit(batcher, 0)
    laned.wait_for_run()
    second = submit(batcher, 1)
    laned.wait_for_run()
    third, fourth = submit(batcher, 2), submit(batcher, 3)
    laned.through[1].set()
    assert_same(second.wait(), own(tiny, 1))
    laned.wait_for_run()
    assert not first.settled
    laned.release()
    for number, one in ((0, first), (2, third), (3, fourth)):
        assert_same(one.wait(), own(tiny, number))
    assert laned.runs == [[0], [1], [2, 3]]


def test_what_takes_no_time_waits_for_the_batch_that_runs(laned: LanedDetector, make: Make) -> None:
    batcher = make(laned)
    laned.takes_s = 0.0
    laned.through[9].set()
    submit(batcher, 9).wait()
    submit(batcher, 0)
    for _ in range(2):
        laned.wait_for_run()
    others = [submit(batcher, number) for number in (1, 2, 3)]
    laned.release()
    for one in others:
        one.wait()
    assert laned.runs == [[9], [0], [1, 2, 3]]


def test_a_batch_that_is_being_answered_keeps_no_other_from_running(laned: LanedDetector, make: Make) -> None:
    laned.lanes = 1
    batcher = make(laned)
    answering, go_on = threading.Event(), threading.Event()

    def answer() -> None:
        answering.set()
        assert go_on.wait(PATIENCE_S)

    slow = ticket(0)
    slow.then(answer)
    batcher.submit(slow)
    laned.wait_for_run()
    other = submit(batcher, 1)
    laned.release()
    assert answering.wait(PATIENCE_S)
    assert len(other.wait()) == 1
    go_on.set()


def test_the_parts_of_a_large_request_may_end_in_any_order(laned: LanedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(laned, max_batch=4)
    large = submit(batcher, *range(10))
    for _ in range(2):
        laned.wait_for_run()
    laned.through[4].set()
    laned.wait_for_run()  # the third part, in the lane of the second
    laned.through[8].set()
    laned.through[0].set()
    assert_same(large.wait(), own(tiny, *range(10)))
    assert laned.runs == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_closing_tells_those_in_every_lane(laned: LanedDetector, make: Make) -> None:
    batcher = make(laned, max_batch=1)
    tickets = []
    for number in range(2):
        tickets.append(submit(batcher, number))
        laned.wait_for_run()
    tickets.append(submit(batcher, 2))
    batcher.close()
    for one in tickets:
        with pytest.raises(Unavailable):
            one.wait()


def test_uint8_and_float32_share_a_run(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    floats = submit(batcher, 1)
    batcher.submit(bytes_ := Ticket((picture(2) * 255).astype(np.uint8)[None]))
    gated.release()
    assert_same(floats.wait(), own(tiny, 1))
    assert_same(bytes_.wait(), own(tiny, 2))
    assert gated.runs == [[0], [1, 2]]


def test_a_cancelled_request_is_not_run_and_its_mates_are(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    before, gone, after = (submit(batcher, number) for number in (1, 2, 3))
    batcher.cancel(gone)
    with pytest.raises(Cancelled):
        gone.wait()
    gated.release()
    assert_same(before.wait(), own(tiny, 1))
    assert_same(after.wait(), own(tiny, 3))
    assert gated.runs == [[0], [1, 3]]


def test_a_caller_need_not_wait_for_the_run_it_leaves(gated: GatedDetector, make: Make) -> None:
    batcher = make(gated)
    running = submit(batcher, 0)
    gated.wait_for_run()
    batcher.cancel(running)
    with pytest.raises(Cancelled):
        running.wait()


def test_an_expired_request_is_not_run_and_its_mates_are(
    gated: GatedDetector, tiny: Detector, make: Make, clock: Clock
) -> None:
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    late, good = submit(batcher, 1, deadline_s=5.0), submit(batcher, 2, deadline_s=5.5)
    clock.now_s = 5.0
    gated.release()
    with pytest.raises(DeadlineExceeded):
        late.wait()
    assert_same(good.wait(), own(tiny, 2))
    assert gated.runs == [[0], [2]]


def test_a_place_given_up_after_the_deadline_says_so(gated: GatedDetector, make: Make, clock: Clock) -> None:
    batcher = make(gated)
    late = submit(batcher, 1, deadline_s=5.0)
    clock.now_s = 5.0
    batcher.cancel(late)
    with pytest.raises(DeadlineExceeded):
        late.wait()


def test_a_full_queue_refuses_at_once(gated: GatedDetector, make: Make) -> None:
    batcher = make(gated, max_queue=3)
    submit(batcher, 0)
    gated.wait_for_run()
    submit(batcher, 1, 2)
    with pytest.raises(ResourceExhausted, match="expected room for 2 images, found 2 of 3 waiting"):
        batcher.admit(2)
    with pytest.raises(ResourceExhausted):
        submit(batcher, 3, 4)
    submit(batcher, 5)


def test_one_that_breaks_the_run_harms_no_other(
    gated: GatedDetector, tiny: Detector, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    gated.breaks_on = {2}
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    before, bad, after = (submit(batcher, number, request_id=f"call {number}") for number in (1, 2, 3))
    gated.release()
    assert_same(before.wait(), own(tiny, 1))
    assert_same(after.wait(), own(tiny, 3))
    with pytest.raises(Internal) as caught:
        bad.wait()
    assert "secret" not in str(caught.value)
    assert gated.runs == [[0], [1, 2, 3], [1], [2], [3]]
    assert "secret path /srv/weights" in caplog.text
    assert "request 'call 2'" in caplog.text
    assert "request 'call 1'" not in caplog.text


def test_who_left_or_expired_is_not_run_alone(gated: GatedDetector, make: Make, clock: Clock) -> None:
    gated.breaks_on = {1}
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    bad, gone, late = submit(batcher, 1), submit(batcher, 2), submit(batcher, 3, deadline_s=9.0)

    def leave(images: Any, run: Callable[[Any], Any] = gated.logits) -> Any:
        if len(images) == 3:  # in the midst of the run that they share
            batcher.cancel(gone)
            clock.now_s = 9.0
        return run(images)

    gated.logits = leave  # type: ignore[method-assign]
    gated.release()
    for one, error in ((bad, Internal), (gone, Cancelled), (late, DeadlineExceeded)):
        with pytest.raises(error):
            one.wait()
    assert gated.runs == [[0], [1, 2, 3], [1]]


def test_nan_of_a_member_concerns_its_caller_only(
    fragile: Detector, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    gated = GatedDetector(fragile)
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    poison = np.stack([picture(2), picture(3)])
    poison[1, 0, 7, 7] = 1.0
    before, after = submit(batcher, 1, members=True), ticket(4, 5)
    batcher.submit(bad := Ticket(poison, request_id="poison"))
    batcher.submit(after)
    gated.release()
    each = fragile.classify(picture(1)[None], members=True)
    assert_same(before.wait(), each)
    assert_same(after.wait(), own(fragile, 4, 5))
    with pytest.raises(Internal) as caught:
        bad.wait()
    assert gated.runs == [[0], [1, 2, 3, 4, 5]]
    assert "nan" not in str(caught.value).lower()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == (
        "model fragile: member 2 answered with nan for class 0 of image 1: request 'poison' (2 images)"
    )


def test_nan_alone_in_a_batch_is_an_error(fragile: Detector, make: Make) -> None:
    poison = picture(0)
    poison[0, 7, 7] = 1.0
    batcher = make(fragile)
    batcher.submit(bad := Ticket(poison[None]))
    with pytest.raises(Internal):
        bad.wait()
    assert len(submit(batcher, 1).wait()) == 1


def test_a_score_that_is_no_number_is_no_verdict(
    gated: GatedDetector, tiny: Detector, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(logits: Any, *, members: bool = False) -> Verdicts:
        verdicts = tiny.judge(logits, members=members)
        assert verdicts.score is not None
        verdicts.score[verdicts.score == own(tiny, 2).score] = math.nan
        return verdicts

    monkeypatch.setattr(gated, "judge", judge)
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    good, bad = submit(batcher, 1), submit(batcher, 2)
    gated.release()
    assert_same(good.wait(), own(tiny, 1))
    with pytest.raises(Internal):
        bad.wait()


@pytest.mark.parametrize("answer", [np.zeros((1, 3, 10), np.float32), np.zeros((2, 10), np.float32)])
def test_logits_of_another_shape_are_our_own_error(tiny: Detector, make: Make, answer: Any) -> None:
    class Wrong(GatedDetector):
        def logits(self, images: Any) -> Any:
            return answer

    with pytest.raises(Internal):
        submit(make(Wrong(tiny)), 1, 2).wait()


def test_only_who_asks_gets_the_members(gated: GatedDetector, tiny: Detector, make: Make) -> None:
    batcher = make(gated)
    submit(batcher, 0)
    gated.wait_for_run()
    asked, silent = submit(batcher, 1, members=True), submit(batcher, 2)
    gated.release()
    assert_same(asked.wait(), tiny.classify(picture(1)[None], members=True))
    assert silent.wait().member_probabilities is None


def test_closing_tells_all_that_wait(gated: GatedDetector, make: Make) -> None:
    batcher = make(gated, max_batch=2)
    tickets = [submit(batcher, 0)]
    gated.wait_for_run()
    tickets += [submit(batcher, number) for number in range(1, 6)]
    batcher.close()  # the run is stuck, and stays so
    for one in tickets:
        with pytest.raises(Unavailable):
            one.wait()
    with pytest.raises(Unavailable):
        submit(batcher, 9)
    assert gated.runs == [[0]]


def test_the_first_outcome_counts() -> None:
    one = ticket(1)
    one.settle(Cancelled("first"))
    one.settle(Internal("second"))
    for _ in range(2):
        with pytest.raises(Cancelled, match="first"):
            one.wait()


def test_who_does_not_wait_is_called_back_once() -> None:
    called: list[str] = []
    one = ticket(1)
    one.then(lambda: called.append("once"))
    assert called == []
    one.settle(Cancelled("first"))
    one.settle(Internal("second"))
    assert called == ["once"]


def test_who_comes_after_the_outcome_is_called_back_at_once() -> None:
    called: list[str] = []
    one = ticket(1)
    one.settle(Cancelled("first"))
    one.then(lambda: called.append("at once"))
    assert called == ["at once"]
