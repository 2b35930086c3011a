"""Where and how torch runs, and that it is left as it was."""

import platform

import pytest
import torch

from detector.errors import InputError
from training.execution import describe_machine, find_device, reproducible


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """So many of them, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "count", "own", "expected"),
    [
        ("cpu", 0, None, "cpu"),
        ("cpu", 2, "1", "cpu"),
        ("auto", 0, None, "cpu"),
        ("auto", 0, "1", "cpu"),
        ("auto", 2, None, "cuda"),
        ("cuda", 1, None, "cuda"),
        ("cuda:1", 2, None, "cuda:1"),
        # A process of torchrun has a GPU of its own.
        ("auto", 2, "1", "cuda:1"),
        ("cuda", 2, "0", "cuda:0"),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, name: str, count: int, own: str | None, expected: str) -> None:
    gpus(monkeypatch, count)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if own is not None:
        monkeypatch.setenv("LOCAL_RANK", own)
    assert find_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("gpu", None, "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        ("cuda:x", None, "device: expected auto, cpu, cuda or cuda:N, found 'cuda:x'"),
        ("cuda:2", None, "device: expected one of 2 CUDA devices, found 'cuda:2'"),
        ("cuda", "3", "device: expected one of 2 CUDA devices, found 'cuda:3'"),
    ],
)
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, name: str, own: str | None, message: str) -> None:
    gpus(monkeypatch, 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if own is not None:
        monkeypatch.setenv("LOCAL_RANK", own)
    with pytest.raises(InputError, match=message):
        find_device(name)


def test_torch_is_given_back_as_it_was() -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_rng_state()
    with reproducible(2):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 2
        torch.manual_seed(1)
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_machine_is_described_on_one_line() -> None:
    with reproducible(2):
        found = describe_machine(torch.device("cpu"), 3)
    assert found.endswith(f", 2 threads, 3 processes, torch {torch.__version__}")
    with reproducible(1):
        found = describe_machine(torch.device("cpu"), 1)
    assert found.endswith(f", 1 thread, torch {torch.__version__}")
    assert "\n" not in found
    if platform.system() == "Linux":
        assert not found.startswith(",")
