"""The table and the warnings, from outcomes made by hand."""

import pytest

from serving.bench.answers import Answer
from serving.bench.load import ClosedLoop, OpenLoop
from serving.bench.outcome import Outcome
from serving.bench.report import explanation, table, warnings
from serving.bench.tally import Tally

OPEN, CLOSED = OpenLoop(rate=100.0), ClosedLoop(callers=1)


def outcome(*, lag_s: float = 0.0, cpu_s: float = 1.0, sizes: tuple[int, ...] = (1,), fails: int = 0) -> Outcome:
    """Two hundred calls in ten seconds, of 20 ms each beside the lag."""
    spent = iter([0.0] + [cpu_s] * 1000)
    tally = Tally(0.0, 10.0, cpu=lambda: next(spent))
    for number in range(200):
        at_s = number / 25
        tally.begin(at_s, at_s + lag_s)
        ended = Answer(code="UNAVAILABLE", details="gone") if number < fails else Answer(code="OK", judged=1, flagged=0)
        tally.end(sizes[number % len(sizes)], at_s, at_s + lag_s + 0.02, ended)
    return tally.outcome(20.0, interrupted=False)


def test_a_generator_with_no_core_left_is_warned_of() -> None:
    (warning,) = warnings(outcome(cpu_s=9.0), CLOSED, held=False)
    assert warning.startswith("the generator used 0.90 of the one core")


def test_a_lag_that_matters_is_warned_of() -> None:
    (warning,) = warnings(outcome(lag_s=0.004), OPEN, held=False)
    assert "p50 4.0 ms" in warning
    assert "p99.9" not in warning  # there is no call beyond it


@pytest.mark.parametrize("lag_s", [0.0, 0.0009, 0.0019], ids=["none", "below a millisecond", "a tenth"])
def test_a_small_lag_is_not(lag_s: float) -> None:
    assert warnings(outcome(lag_s=lag_s), OPEN, held=False) == []


def test_the_table_says_what_was_measured() -> None:
    lines = [line.split() for line in table(outcome(), CLOSED).splitlines()]
    assert ["calls/s", "20.0", "(200", "answered,", "0", "failed)"] in lines
    assert ["images/s", "20.0"] in lines
    assert ["latency,", "ms", "p50", "p90", "p99", "p99.9", "max", "mean"] in lines
    (row,) = [line for line in lines if line[:1] == ["all"]]
    assert [float(value) for value in row[1:]] == pytest.approx([20.0] * 6, rel=0.006)
    assert not any(line[:1] == ["lag"] for line in lines)


def test_the_table_of_a_mix_has_a_row_for_each_size() -> None:
    said = table(outcome(sizes=(1, 64)), CLOSED)
    assert "\n  batch 1 " in said
    assert "\n  batch 64 " in said


def test_the_table_of_an_open_loop_has_the_lag() -> None:
    (row,) = [line for line in table(outcome(lag_s=0.004), OPEN).splitlines() if line.startswith("lag")]
    assert float(row.split()[1]) == pytest.approx(4.0, rel=0.006)


def test_errors_are_lines_with_the_first_words() -> None:
    said = table(outcome(fails=3), CLOSED)
    assert said.endswith("\n\nUNAVAILABLE 3: gone")
    assert "Calls that failed are not in it." in " ".join(explanation(outcome(fails=3), CLOSED).split())


@pytest.mark.parametrize(
    ("load", "words"), [(OPEN, "was to arrive"), (CLOSED, "when it has its answer")], ids=["open", "closed"]
)
def test_the_explanation_is_that_of_the_load(load: OpenLoop | ClosedLoop, words: str) -> None:
    assert words in " ".join(explanation(outcome(), load).split())
