"""An outcome for people: a table, and warnings where the figures are not the server's."""

import textwrap
from typing import Final

from serving.bench.latencies import Latencies
from serving.bench.load import Load, OpenLoop
from serving.bench.loop import MOST_IN_FLIGHT
from serving.bench.outcome import PERCENTILES, Outcome, milliseconds

# One Python process has one core to itself at most; near that, it is what is measured.
_BUSY_CORES: Final = 0.8
# A lag that is more than this, and more than this share of the latency at the same percentile, colours the figures.
_LAG_S: Final = 1e-3
_LAG_SHARE: Final = 0.1
_WIDTH: Final = 14
_TEXT_WIDTH: Final = 100


def warnings(outcome: Outcome, load: Load, *, held: bool, behind: bool = False) -> list[str]:
    """Where the generator, and not the server, made the figures; and what else makes them mean little.

    Args:
        outcome: The figures.
        load: Of which load.
        held: See `serving.bench.loop.Run`.
        behind: Likewise.
    """
    found = []
    if outcome.cpu_cores is not None and outcome.cpu_cores > _BUSY_CORES:
        found.append(
            f"the generator used {outcome.cpu_cores:.2f} of the one core that it can use: it, and not the server, is "
            "the bottleneck; several 'ledgate bench' beside one another can ask for more"
        )
    late = [name for name, percent in PERCENTILES.items() if _late(outcome, percent)]
    if isinstance(load, OpenLoop) and late:
        lags = milliseconds(outcome.lags)
        by = ", ".join(f"{name} {_number(lags[name], 1)} ms" for name in late)
        found.append(
            f"the generator was late to send ({by}), and its lateness is in the latency: there it, and not the server, "
            "is the bottleneck; is its machine busy?"
        )
    if held:
        found.append(
            f"{MOST_IN_FLIGHT} calls were in flight, and the next ones waited to be sent: the server does not keep up "
            "with this rate"
        )
    if behind:
        found.append(
            "not all arrivals were sent, since the generator was too far behind, and those that were not are in no "
            "figure: the rate is more than it can send"
        )
    if outcome.unfinished and not outcome.interrupted:
        found.append(f"{outcome.unfinished} calls had no answer when waiting for them ended")
    return found


def table(outcome: Outcome, load: Load) -> str:
    """The figures."""
    rows = [
        ("calls/s", f"{_number(outcome.calls_per_s, 1)}  ({outcome.answered} answered, {outcome.failed} failed"
         + (f", {outcome.unfinished} without an answer" if outcome.unfinished else "") + ")"),
        ("images/s", _number(outcome.images_per_s, 1)),
        ("in flight", f"{_number(outcome.in_flight_mean, 1)} on average, at most {outcome.in_flight_most}"),
        ("flagged", "no answer says" if outcome.flagged_share is None
         else f"{outcome.flagged_share:.2%} of {outcome.judged} images"),
        ("client CPU", f"{_number(outcome.cpu_us_per_call, 0)} us a call, {_number(outcome.cpu_cores, 2)} of a core"),
    ]  # fmt: skip
    lines = [f"{name:{_WIDTH}}{value}" for name, value in rows]
    lines += ["", f"{'latency, ms':{_WIDTH}}" + "".join(f"{name:>10}" for name in (*PERCENTILES, "mean"))]
    lines.append(_line("all", outcome.latency))
    if len(outcome.latencies) > 1:
        lines += [_line(f"  batch {size}", each) for size, each in outcome.latencies.items()]
    if isinstance(load, OpenLoop):
        lines.append(_line("lag", outcome.lags))
    if outcome.errors:
        lines += ["", *(f"{code} {count}: {outcome.details[code]}" for code, count in outcome.errors.items())]
    return "\n".join(lines)


def explanation(outcome: Outcome, load: Load) -> str:
    """How to read the table."""
    text = f"Latency: {load.meaning}; percentiles right to within 0.5 %, max and mean exact."
    if isinstance(load, OpenLoop):
        text += " Lag: by how much the generator sent later, which is in the latency too."
    if outcome.failed:
        text += " Calls that failed are not in it."
    return textwrap.fill(text, _TEXT_WIDTH)


def _late(outcome: Outcome, percent: float) -> bool:
    """Whether the lag is a part of the latency that matters, at a percentile that has calls beyond it."""
    lag_s, latency_s = outcome.lags.percentile_s(percent), outcome.latency.percentile_s(percent)
    if lag_s is None or outcome.lags.count * (100 - percent) < 100:
        return False
    return lag_s > max(_LAG_S, _LAG_SHARE * (latency_s or 0.0))


def _line(name: str, latencies: Latencies) -> str:
    """Percentiles, in milliseconds."""
    found = milliseconds(latencies)
    return f"{name:{_WIDTH}}" + "".join(f"{_number(found[column], 2):>10}" for column in (*PERCENTILES, "mean"))


def _number(value: float | None, digits: int) -> str:
    """A number, or that there is none."""
    return "none" if value is None else f"{value:,.{digits}f}"
