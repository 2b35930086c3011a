"""Rounds: everybody's turn in each, so that whatever else the machine does meets all; and ratios within a round."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.serving.contenders import Turn


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure of every round, and what its median should be.

    Attributes:
        name: Of the figure.
        found: One for each round.
        least: What its median is to reach; None where it has no lower bound.
        most: What its median is not to pass; None where it has no upper bound.
    """

    name: str
    found: list[float]
    least: float | None = None
    most: float | None = None

    @property
    def median(self) -> float:
        """Over the rounds."""
        return median(self.found)

    @property
    def goal(self) -> str:
        """In words; empty for a figure that is only shown."""
        if self.least is not None:
            return f">= {self.least:g}"
        return "" if self.most is None else f"<= {self.most:g}"

    @property
    def missed(self) -> bool:
        """Whether it is not reached."""
        low = self.least is not None and self.median < self.least
        return low or (self.most is not None and self.median > self.most)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One comparison.

    Attributes:
        name: Of the load.
        turns: Each contender's, one for each round.
        goals: What follows from them.
        notes: What else there is to say.
    """

    name: str
    turns: dict[str, list[Turn]]
    goals: list[Goal]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        goals = {
            goal.name: {"rounds": goal.found, "median": goal.median, "goal": goal.goal, "missed": goal.missed}
            for goal in self.goals
        }
        turns = {name: [asdict(turn) for turn in each] for name, each in self.turns.items()}
        return {"turns": turns, "figures": goals, "notes": self.notes}


def side_by_side(name: str, takers: Mapping[str, Callable[[], Turn]], repeats: int) -> dict[str, list[Turn]]:
    """So many rounds of everybody's turn, after one that does not count."""
    turns: dict[str, list[Turn]] = {taker: [] for taker in takers}
    for number in tqdm(range(repeats + 1), desc=name, disable=None, leave=False):
        for taker, turn in takers.items():
            found = turn()
            if number:
                turns[taker].append(found)
    return turns


def each_round(turns: Mapping[str, list[Turn]], figure: Callable[..., float], *names: str) -> list[float]:
    """A figure of the turns of some contenders in each round."""
    return [figure(*round_) for round_ in zip(*(turns[name] for name in names), strict=True)]


def table(cells: list[Cell]) -> str:
    """All comparisons, for people; Markdown."""
    lines = []
    for cell in cells:
        lines += [f"\n{cell.name}\n", "| | images/s | calls/s | p50, ms | p99, ms | server CPU, ms/image | callers' |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        for name, turns in cell.turns.items():
            columns = ("images_per_s", "calls_per_s", "p50_ms", "p99_ms", "server_ms", "client_ms")
            rate, calls, p50, p99, server, client = (
                median(getattr(turn, column) for turn in turns) for column in columns
            )
            lines.append(f"| {name} | {rate:.0f} | {calls:.0f} | {p50:.2f} | {p99:.2f} | {server:.3f} | {client:.3f} |")
        lines += ["", "| figure | median | lowest to highest | goal | |", "|---|---|---|---|---|"]
        for goal in cell.goals:
            word = "" if not goal.goal else "missed" if goal.missed else "reached"
            spread = f"{min(goal.found):.3f} to {max(goal.found):.3f}"
            lines.append(f"| {goal.name} | {goal.median:.3f} | {spread} | {goal.goal} | {word} |")
        lines += [f"\n{note}" for note in cell.notes]
    return "\n".join(lines).strip()
