"""The comparisons: who meets whom under which load, and which figures follow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.bare import Way
from benchmarks.serving.children import Child, module
from benchmarks.serving.contenders import PEERS, Alone, Load, Served, Turn, echo, ours, peer
from benchmarks.serving.rounds import Cell, Goal, each_round, side_by_side
from detector.bundle import Bundle
from detector.device import usable_cores

SEED: Final = 0
_BATCH: Final = 64
_BATCH_CALLERS: Final = 4
# On a GPU, in the curve.
_GOAL_BATCH: Final = 256


@dataclass(frozen=True, kw_only=True)
class Course:
    """What all comparisons of a run share.

    Attributes:
        bundle: The folder that is served.
        small: The bundle whose networks cost next to nothing.
        device: `cpu` or `cuda`.
        seconds: Of a turn.
        repeats: Rounds.
        callers: Of single images, at a time.
        batches: That bare ONNX Runtime may choose from.
        peers: Servers of others, as far as they are installed.
    """

    bundle: Path
    small: Path
    device: str
    seconds: float
    repeats: int
    callers: int
    batches: Sequence[int]
    peers: Sequence[str] = tuple(PEERS)

    @property
    def trials(self) -> int:
        """Of each way of bare ONNX Runtime, before the best is chosen."""
        return min(3, self.repeats)

    @property
    def cores(self) -> int:
        """That everybody may use."""
        return usable_cores()

    def load(self, bundle: Path, callers: int, count: int) -> Load:
        """So many callers with so many images each."""
        shape = Bundle.open(bundle).input.shape
        return Load(callers=callers, images=_images(count, shape), seconds=self.seconds)


def singles(course: Course) -> Cell:
    """Many callers with one image each: what batching is for."""
    load = course.load(course.bundle, course.callers, 1)
    with _on_stage(course, course.bundle, ours=partial(ours, course.bundle, course.device)) as stage:
        best = stage.bare.best(_ways(course), course.seconds, course.cores, course.trials)
        for name in course.peers:
            stage.add(name, partial(peer, name, course.bundle))
        turns = stage.rounds("one image a call", load, best)
        others = [f"{name}: {stage.package(name)}" for name in course.peers]
    goals = [*_against_bare(turns, 0.85, 0.92)]
    for name in course.peers:
        slowest = each_round(turns, lambda own, other: own.p99_ms / other.p99_ms, "ours", name)
        goals += [
            Goal(name=f"images/s by {name}'s", found=each_round(turns, _rate, "ours", name), least=1.0),
            Goal(name=f"p99 by {name}'s", found=slowest, most=1.0),
        ]
    name = f"{course.callers} callers, one image each"
    return Cell(name=name, turns=turns, goals=goals, notes=[f"bare, the best of {len(_ways(course))}: {best}", *others])


def lone(course: Course) -> Cell:
    """One caller with one image: nothing waits for a batch."""
    load = course.load(course.bundle, 1, 1)
    with _on_stage(course, course.bundle, ours=partial(ours, course.bundle, course.device), echo=echo) as stage:
        turns = stage.rounds("one caller", load, Way(runners=1, threads=1, batch=1))
    more = each_round(turns, lambda own, bare, call: own.p50_ms - bare.p50_ms - call.p50_ms, "ours", "bare", "echo")
    goal = Goal(name="median beyond a bare run and an echo, ms", found=more, most=0.3)
    return Cell(name="one caller, one image", turns=turns, goals=[goal])


def batches(course: Course) -> Cell:
    """Callers who bring batches of their own."""
    load = course.load(course.bundle, _BATCH_CALLERS, _BATCH)
    with _on_stage(course, course.bundle, ours=partial(ours, course.bundle, course.device)) as stage:
        best = stage.bare.best(_ways(course), course.seconds, course.cores, course.trials)
        turns = stage.rounds("batches", load, best)
    name = f"{_BATCH_CALLERS} callers, {_BATCH} images each"
    return Cell(name=name, turns=turns, goals=_against_bare(turns, 0.98, None), notes=[f"bare: {best}"])


def small(course: Course) -> Cell:
    """Networks that cost next to nothing, beside a service that does nothing."""
    load = course.load(course.small, course.callers, 1)
    with _on_stage(course, course.small, ours=partial(ours, course.small, course.device), echo=echo) as stage:
        turns = stage.rounds("small networks", load, Way(runners=1, threads=1, batch=1))
    rate = Goal(name="calls/s by an echo's", found=each_round(turns, _rate, "ours", "echo"), least=0.8)
    cpu = each_round(turns, lambda a, b: (b.server_ms + b.client_ms) / (a.server_ms + a.client_ms), "ours", "echo")
    return Cell(
        name=f"{course.callers} callers, one image each, small networks",
        turns=turns,
        goals=[rate, Goal(name="CPU of an echo by ours, callers' included", found=cpu)],
    )


def curve(course: Course, counts: Sequence[int]) -> Iterator[Cell]:
    """Calls of ever more images, two at a time, beside bare runs of the same batch."""
    for count in counts:
        load = course.load(course.bundle, 2, count)
        options = ("--max-batch", str(count), "--max-images", str(count), "--max-queue", str(4 * count),
                   "--max-message-mb", "1024")  # fmt: skip
        with _on_stage(course, course.bundle, ours=partial(ours, course.bundle, course.device, *options)) as stage:
            best = stage.bare.best(
                [Way(runners=n, threads=1, batch=count) for n in (1, 2)], course.seconds, course.cores, course.trials
            )
            turns = stage.rounds(f"batch {count}", load, best)
        least = 0.9 if course.device != "cpu" and count == _GOAL_BATCH else None
        rate = Goal(name="images/s by bare's", found=each_round(turns, _rate, "ours", "bare"), least=least)
        yield Cell(
            name=f"2 callers, {count} images each, {course.device}", turns=turns, goals=[rate], notes=[str(best)]
        )


class _Stage:
    """The processes of one comparison."""

    def __init__(self, course: Course, bundle: Path, stack: ExitStack) -> None:
        self._course = course
        self._stack = stack
        self._served: dict[str, Served] = {}
        self._callers = stack.enter_context(Child(module("benchmarks.serving.load")))
        self.bare = Alone(bundle, course.device)
        stack.enter_context(self.bare.child)

    def add(self, name: str, start: Callable[[], Served]) -> None:
        """Starts one more server, which is ended with the others."""
        served = self._served[name] = start()
        self._stack.enter_context(served.child)

    def package(self, name: str) -> str:
        """Name and version of what a peer is."""
        return str(self._served[name].child.ready["package"])

    def rounds(self, name: str, load: Load, way: Way) -> dict[str, list[Turn]]:
        """All turns; the last in each round is that of bare ONNX Runtime."""
        cores = self._course.cores
        takers = {each: partial(served.turn, self._callers, load, cores) for each, served in self._served.items()}
        takers["bare"] = partial(self.bare.turn, way, self._course.seconds, cores)
        return side_by_side(name, takers, self._course.repeats)


@contextmanager
def _on_stage(course: Course, bundle: Path, **starts: Callable[[], Served]) -> Iterator[_Stage]:
    """The processes, for as long as they are compared."""
    with ExitStack() as stack:
        stage = _Stage(course, bundle, stack)
        for name, start in starts.items():
            stage.add(name, start)
        yield stage


def _against_bare(turns: dict[str, list[Turn]], by_clock: float, without_callers: float | None) -> list[Goal]:
    """Images a second by those of bare ONNX Runtime: as seen, and the callers' CPU time counted out.

    Beside them the same from CPU time, which says what the clock would on a machine that has nothing else to do.
    """
    figures = {
        "images/s by bare's": (lambda a, b: a.images_per_s / b.images_per_s, by_clock),
        "the same, callers counted out": (
            lambda a, b: a.images_per_s / (1 - a.client_share) / b.images_per_s,
            without_callers,
        ),
        "CPU of bare by ours, callers' included": (lambda a, b: b.server_ms / (a.server_ms + a.client_ms), None),
        "CPU of bare by ours": (lambda a, b: b.server_ms / a.server_ms, None),
    }
    return [
        Goal(name=name, found=each_round(turns, figure, "ours", "bare"), least=least)
        for name, (figure, least) in figures.items()
    ]


def _rate(a: Turn, b: Turn) -> float:
    """Images a second of one by those of the other."""
    return a.images_per_s / b.images_per_s


def _ways(course: Course) -> list[Way]:
    """How bare ONNX Runtime may use the cores: shared by one run, or a run on each."""
    shapes = [(1, 1)] if course.device != "cpu" else sorted({(course.cores, 1), (1, course.cores)})
    return [Way(runners=n, threads=threads, batch=batch) for n, threads in shapes for batch in course.batches]


def _images(count: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Random images; what is in them changes no time."""
    return np.random.default_rng(SEED).random((count, *shape), dtype=np.float32)
