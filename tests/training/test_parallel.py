"""Several processes on one run: as `torchrun` starts them, against one process on the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detector.errors import InputError
from training import Run, TrainConfig, train
from training.parallel import Group, joined

# Trains as `train` does, and then a network with batch normalisation, of which each process writes its state down.
EACH = """
import sys
import torch
from training import TrainConfig, load, train
from training.parallel import joined
from training.trainer import Trainer

config, out = sys.argv[1:]
train(TrainConfig.from_json(config), out, progress=False, device="cpu")
with joined(torch.device("cpu")) as group:
    torch.set_num_threads(1)
    trainer = Trainer(TrainConfig(epochs=1, batch_size=128), load("digits"), group=group)
    trainer.epoch([], lambda loss: None)
    torch.save(trainer.ensemble.state_dict(), f"{out}/{group.rank}.pt")
"""


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return TrainConfig(arch="own_networks:Plain", epochs=2, sampled_classes=5, seed=3)


@pytest.fixture(scope="module")
def by_two(config: TrainConfig, own_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that two processes trained together, speaking over loopback."""
    folder = tmp_path_factory.mktemp("parallel")
    (folder / "each.py").write_text(EACH)
    paths = [str(Path(__file__).parents[2]), str(own_networks)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         folder / "each.py", config.to_json(), folder / "run"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_two_processes_give_the_weights_of_one(by_two: Path, config: TrainConfig, tmp_path: Path) -> None:
    """On a network in which no image looks at another; with augmentation and sampled classes."""
    alone = train(config, tmp_path / "alone", progress=False).checkpoint()
    together = Run.open(by_two).checkpoint()
    assert alone is not None
    assert together is not None
    for name, value in alone.ensemble.items():
        torch.testing.assert_close(together.ensemble[name], value, rtol=0, atol=1e-5, msg=name)
    for mine, theirs in zip(alone.metrics, together.metrics, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-5)
        assert theirs["member_loss"] == pytest.approx(mine["member_loss"], abs=1e-4)


def test_files_are_written_once(by_two: Path) -> None:
    lines = [json.loads(line) for line in (by_two / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all("2 processes" in line["machine"] for line in lines)
    Run.open(by_two).trained()


def test_processes_leave_an_epoch_alike(by_two: Path) -> None:
    """Also where each normalised its own share: the leading one's statistics are the run's."""
    first, second = (torch.load(by_two / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("size", [1, 2, 4])
def test_shares_are_equal_and_together_the_batch(size: int) -> None:
    rows = torch.arange(16)
    shares = [Group(rank=rank, size=size).share(rows) for rank in range(size)]
    assert {len(share) for share in shares} == {16 // size}
    assert sorted(torch.cat(shares).tolist()) == rows.tolist()
    # The first halves of the shares are the first half of the batch: the half that adversarial training attacks.
    assert sorted(torch.cat([share[: len(share) // 2] for share in shares]).tolist()) == list(range(8))


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    Group(rank=1, size=4).check_batch(64)
    with pytest.raises(InputError, match="batch_size: expected a multiple of 4 processes, found 66"):
        Group(rank=1, size=4).check_batch(66)


def test_without_torchrun_there_is_one_process() -> None:
    with joined(torch.device("cpu")) as group:
        assert group == Group()
        assert group.leads
        assert group.told("this") == "this"


def test_processes_that_would_share_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    message = "device: expected cuda, which is a GPU for each process of torchrun, found cuda:0"
    with pytest.raises(InputError, match=message), joined(torch.device("cuda:0")):
        pass
