"""Table 1 itself: the errors of nets and ensemble, the paper's beside ours, setting by setting."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Final

from detector.markdown import table
from detector.rates import Rate
from training.evaluation.comparison import compared, difference
from training.evaluation.estimate import Estimate
from training.evaluation.result import Result
from training.evaluation.setting import Setting
from training.paper import TABLE1, Errors

NOT_RUN: Final = "not run"
_NONE: Final = "-"
_FORM: Final = ".2f"
_BASELINE: Final = Setting(0.0, 0.0)


def error_table(dataset: str, runs: Mapping[Setting, Sequence[Result]]) -> str:
    """The table, in Markdown.

    Args:
        dataset: Its name.
        runs: Of each setting, what runs of different seeds measured; settings of the paper that are not
            there, and for a data set of the paper perhaps all, are shown as not run.
    """
    printed = {Setting(*weights): errors for weights, errors in TABLE1.get(dataset, {}).items()}
    nets = max(
        [len(errors.members) for errors in printed.values()]
        + [len(result.member_errors) for results in runs.values() for result in results]
    )
    names = [*(f"Net {k + 1}" for k in range(nets)), "Ensemble", "Ensemble less baseline's"]
    columns = [["error in %", *names]]
    for setting in sorted({*printed, *runs}):
        if printed:
            column = _paper(printed.get(setting), printed[_BASELINE], nets)
            columns.append([f"{setting.markdown}, paper", *column])
        results = runs.get(setting, [])
        seeds = f", {len(results)} seed{'s' * (len(results) > 1)}" if results else ""
        column = _ours(results, printed.get(setting), runs.get(_BASELINE, []), nets)
        columns.append([f"{setting.markdown}, ours{seeds}", *column])
    return table(list(zip(*columns, strict=True)))


def _paper(errors: Errors | None, baseline: Errors, nets: int) -> list[str]:
    """What the paper printed for a setting."""
    if errors is None:
        return [_NONE] * (nets + 2)
    members = [f"{error:.2f}" for error in errors.members]
    less = _NONE if errors is baseline else f"{errors.ensemble - baseline.ensemble:+.2f}"
    return [*members, *[_NONE] * (nets - len(members)), f"{errors.ensemble:.2f}", less]


def _ours(results: Sequence[Result], printed: Errors | None, baseline: Sequence[Result], nets: int) -> list[str]:
    """What our runs of a setting measured."""
    if not results:
        return [NOT_RUN] * (nets + 2)
    by_net = zip(*(result.member_errors for result in results), strict=True)
    theirs = () if printed is None else printed.members
    members = [_cell(rates, paper) for rates, paper in zip_longest(by_net, theirs) if rates is not None]
    ensemble = [result.ensemble_error for result in results]
    less = _NONE
    if baseline and results is not baseline:
        base = Estimate.of_rates([result.ensemble_error for result in baseline])
        less = difference(Estimate.of_rates(ensemble).value - base.value, _FORM, more_is_worse=True)
    return [
        *members,
        *[_NONE] * (nets - len(members)),
        _cell(ensemble, None if printed is None else printed.ensemble),
        less,
    ]


def _cell(rates: Sequence[Rate], paper: float | None) -> str:
    """An error over seeds with its interval, and how far it is from the paper's."""
    return compared(rates, paper, form=_FORM, more_is_worse=True)
