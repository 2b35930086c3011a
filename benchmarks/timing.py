"""Timing several pieces of work side by side: in turns, so that whatever else the machine does meets all of them.

On a CPU the judge is the process's CPU time, which other processes on the same cores move least; on a GPU
it is the wall clock around work that has been waited for.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from tqdm import tqdm

Work = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Seconds for one call, of each repeat.

    Attributes:
        wall: By the clock.
        cpu: The process's CPU time, all threads together.
    """

    wall: list[float]
    cpu: list[float]

    def judged(self, device: torch.device) -> list[float]:
        """What ratios are made from."""
        return self.cpu if device.type == "cpu" else self.wall


def side_by_side(works: Mapping[str, Work], *, repeats: int, calls: int, device: torch.device) -> dict[str, Times]:
    """Times each piece of work.

    Args:
        works: By name; each is called once before, which compiles, allocates and chooses kernels.
        repeats: Rounds; in each, every piece has its turn.
        calls: Calls in a turn.
        device: What to wait for.
    """
    for work in works.values():
        work()
    times = {name: Times([], []) for name in works}
    for _ in tqdm(range(repeats), desc="rounds", disable=None, leave=False):
        for name, work in works.items():
            _wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(calls):
                work()
            _wait(device)
            times[name].cpu.append((time.process_time() - cpu) / calls)
            times[name].wall.append((time.perf_counter() - wall) / calls)
    return times


def ratio(times: Mapping[str, Times], name: str, to: str, device: torch.device) -> float:
    """The median over the rounds of one piece's time by another's in the same round."""
    pairs = zip(times[name].judged(device), times[to].judged(device), strict=True)
    return median(mine / theirs for mine, theirs in pairs)


def _wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
