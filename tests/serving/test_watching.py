"""Who looks on is told of every batch that was answered, and of nothing else."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import Internal
from detector.verdicts import Verdicts
from serving.batcher import Batcher
from serving.config import ServerConfig
from serving.ticket import Ticket
from serving.watching import Run
from tests.serving.conftest import GatedDetector, picture


class Noting:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def __call__(self, run: Run) -> None:
        self.runs.append(run)


class Clock:
    """Goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def ticket(*pictures: int) -> Ticket:
    return Ticket(np.stack([picture(number) for number in pictures]))


def test_it_is_told_which_rows_are_whose(gated: GatedDetector, tiny: Detector) -> None:
    noting = Noting()
    batcher = Batcher(gated, ServerConfig(max_batch=8), watchers=[noting], clock=Clock())
    tickets = [ticket(0), ticket(1, 2, 3), ticket(4)]
    batcher.submit(tickets[0])
    gated.wait_for_run()
    for one in tickets[1:]:
        batcher.submit(one)
    gated.release()
    answers = [one.wait() for one in tickets]
    batcher.close()
    assert [list(run.tickets) for run in noting.runs] == [tickets[:1], tickets[1:]]
    for run in noting.runs:
        assert (run.model, run.detector) == ("tiny", gated)
        assert run.begun_s < run.ended_s
        for one, rows in run.rows():
            expected = answers[tickets.index(one)].score
            found = run.verdicts.only(rows).score
            assert expected is not None
            assert found is not None
            assert found.tolist() == expected.tolist()


def test_it_is_not_told_of_a_run_that_failed(gated: GatedDetector) -> None:
    noting = Noting()
    gated.breaks_on = {2}
    batcher = Batcher(gated, ServerConfig(), watchers=[noting])
    first, bad, good = ticket(0), ticket(2), ticket(3)
    batcher.submit(first)
    gated.wait_for_run()
    batcher.submit(bad)
    batcher.submit(good)
    gated.release()
    good.wait()
    with pytest.raises(Internal):
        bad.wait()
    batcher.close()
    assert [list(run.tickets) for run in noting.runs] == [[first], [good]]


def test_it_is_told_of_those_whose_members_answered_with_numbers(fragile: Detector) -> None:
    noting, gated = Noting(), GatedDetector(fragile)
    batcher = Batcher(gated, ServerConfig(), watchers=[noting])
    first, bad, good = ticket(0), ticket(2), ticket(3)
    bad.images = bad.images.copy()
    bad.images[0, 0, 7, 7] = 1.0
    batcher.submit(first)
    gated.wait_for_run()
    batcher.submit(bad)
    batcher.submit(good)
    gated.release()
    with pytest.raises(Internal):
        bad.wait()
    good.wait()
    batcher.close()
    assert [list(run.tickets) for run in noting.runs] == [[first], [good]]
    assert [len(run.verdicts) for run in noting.runs] == [1, 1]


def test_it_is_not_told_of_scores_that_are_no_numbers(tiny: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    noting = Noting()
    judge = tiny.judge

    def broken(logits: Any, **fields: Any) -> Verdicts:
        return replace(judge(logits, **fields), score=np.full(len(logits), np.nan))

    monkeypatch.setattr(tiny, "judge", broken)
    batcher = Batcher(tiny, ServerConfig(), watchers=[noting])
    batcher.submit(one := ticket(1))
    with pytest.raises(Internal):
        one.wait()
    batcher.close()
    assert noting.runs == []


def test_one_that_fails_harms_no_other_and_no_caller(tiny: Detector, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Run) -> None:
        raise RuntimeError("why")

    noting = Noting()
    batcher = Batcher(tiny, ServerConfig(), watchers=[broken, noting])
    for number in range(3):
        one = ticket(number)
        batcher.submit(one)
        one.wait()
    batcher.close()
    assert len(noting.runs) == 3
    assert caplog.text.count("RuntimeError: why") == 3
