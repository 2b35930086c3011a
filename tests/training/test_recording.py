"""What is run as it is, what is recorded and what is replayed; on a stand-in for the GPU's own recorder."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from detector.errors import RunError
from training.recording import WARM_UP, Recording


class Graph:
    """Notes what a recorded function would do with its inputs, and does it when replayed."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        RUNNING[-1]()


class Stream:
    def wait_stream(self, other: object) -> None:
        pass


RUNNING: list[Any] = []


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    made: list[Graph] = []

    def graph() -> Graph:
        made.append(Graph())
        return made[-1]

    @contextmanager
    def recording(found: Graph, *, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        assert isinstance(stream, Stream)
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda *_: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda *_: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    RUNNING.clear()
    return made


def doubled(calls: list[tuple[int, ...]]) -> Recording:
    """A function that doubles, in place where a replay finds its inputs."""

    def function(values: Tensor, *, times: int) -> Tensor:
        calls.append((len(values), times))
        output = values * times
        RUNNING.append(lambda: torch.mul(values, times, out=output))
        return output

    return Recording(function)


def test_after_the_warm_up_one_call_is_recorded_and_the_rest_are_replayed(graphs: list[Graph]) -> None:
    calls: list[tuple[int, ...]] = []
    recording = doubled(calls)
    for value in range(WARM_UP + 4):
        found = recording(torch.full((2,), float(value)), times=2)
        assert found.tolist() == [2.0 * value] * 2
    assert len(calls) == WARM_UP + 1
    assert [graph.replays for graph in graphs] == [4]


def test_results_are_not_overwritten_by_later_ones(graphs: list[Graph]) -> None:
    recording = doubled([])
    found = [recording(torch.full((2,), float(value)), times=2) for value in range(WARM_UP + 3)]
    assert [each[0].item() for each in found] == [2.0 * value for value in range(WARM_UP + 3)]
    assert len(graphs) == 1


@pytest.mark.parametrize("change", ["shape", "setting"])
def test_another_kind_of_call_is_recorded_anew(change: str, graphs: list[Graph]) -> None:
    calls: list[tuple[int, ...]] = []
    recording = doubled(calls)
    for _ in range(WARM_UP + 2):
        recording(torch.ones(2), times=2)
    count, times = (3, 2) if change == "shape" else (2, 5)
    for _ in range(WARM_UP + 2):
        assert recording(torch.ones(count), times=times).tolist() == [float(times)] * count
    assert len(graphs) == 2
    assert calls[WARM_UP + 1 :] == [(count, times)] * (WARM_UP + 1)


def test_what_cannot_be_recorded_is_refused_with_the_way_out(
    graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def refusing(*_: Any, **__: Any) -> Iterator[None]:
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refusing)
    recording = doubled([])
    for _ in range(WARM_UP):
        recording(torch.ones(2), times=2)
    with pytest.raises(RunError, match=r"^compile: expected .* not permitted .* without --compile$"):
        recording(torch.ones(2), times=2)
    assert [graph.replays for graph in graphs] == [0]


def test_too_little_memory_is_not_taken_for_it(graphs: list[Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def full(*_: Any, **__: Any) -> Iterator[None]:
        yield
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "graph", full)
    recording = doubled([])
    for _ in range(WARM_UP):
        recording(torch.ones(2), times=2)
    with pytest.raises(torch.OutOfMemoryError):
        recording(torch.ones(2), times=2)
    assert [graph.replays for graph in graphs] == [0]
