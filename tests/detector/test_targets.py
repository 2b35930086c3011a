"""Thresholds against their definitions, and the promises in simulation, with and without ties."""

import json
import math
from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator
from scipy.stats import beta, binom

from detector.document import Document
from detector.errors import CalibrationError, InputError
from detector.targets import (
    Explicit,
    MeanFpr,
    PerClass,
    Target,
    TargetFpr,
    TargetTpr,
    Youden,
    target_from_json,
    target_to_json,
)

Floats = NDArray[np.float64]


def flagged(scores: Floats, threshold: float) -> int:
    return int((scores < threshold).sum())


@pytest.mark.parametrize(("n", "allowed"), [(299, 0), (500, 1), (1000, 4), (2000, 12), (10_000, 83)])
def test_exceedances_allowed_at_one_percent(n: int, allowed: int) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    threshold = TargetFpr(0.01).threshold(scores, [])
    assert threshold in scores
    assert flagged(scores, threshold) == allowed


@pytest.mark.parametrize(("rate", "delta"), [(0.01, 0.05), (0.05, 0.05), (0.2, 0.01), (0.5, 0.3)])
@pytest.mark.parametrize("n", [60, 300, 1001])
def test_fpr_against_the_definition(rate: float, delta: float, n: int) -> None:
    """The smallest k with beta.cdf(rate, n - k + 1, k) >= 1 - delta; the threshold is the (n - k + 1)-th lowest."""
    scores = np.random.default_rng(0).normal(size=n)
    kept = [k for k in range(1, n + 1) if beta.cdf(rate, n - k + 1, k) >= 1 - delta]
    if kept:
        assert TargetFpr(rate, delta).threshold(scores, []) == sorted(scores)[n - min(kept)]
    else:
        with pytest.raises(CalibrationError):
            TargetFpr(rate, delta).threshold(scores, [])


@pytest.mark.parametrize(("rate", "delta"), [(0.9, 0.05), (0.5, 0.05), (0.99, 0.01)])
@pytest.mark.parametrize("n", [60, 300, 1001])
def test_tpr_against_the_definition(rate: float, delta: float, n: int) -> None:
    """The lowest score that at least this share of the attack's distribution reaches down to, surely enough."""
    scores = np.random.default_rng(1).normal(size=n)
    kept = [m for m in range(1, n + 1) if binom.cdf(m - 1, n, rate) >= 1 - delta]
    if kept:
        threshold = TargetTpr(rate, delta).threshold(np.zeros(1), [scores])
        assert flagged(scores, threshold) == min(kept)
        assert threshold == np.nextafter(sorted(scores)[min(kept) - 1], np.inf)
    else:
        with pytest.raises(CalibrationError):
            TargetTpr(rate, delta).threshold(np.zeros(1), [scores])


def distribution(kind: str, generator: np.random.Generator, n: int) -> Floats:
    """Draws from a continuous distribution, or one of 50 atoms, or one of atoms and minus infinity."""
    match kind:
        case "continuous":
            return generator.normal(size=n)
        case "atoms":
            return generator.integers(50, size=n).astype(np.float64)
        case _:
            draws = generator.integers(20, size=n).astype(np.float64)
            return np.where(draws < 1, -np.inf, draws)


def below(kind: str, threshold: float) -> float:
    """Share of that distribution strictly below a threshold."""
    match kind:
        case "continuous":
            return 0.5 * (1 + math.erf(threshold / math.sqrt(2)))
        case "atoms":
            return min(max(math.ceil(threshold), 0), 50) / 50
        case _:
            return sum(1 for atom in (-math.inf, *range(1, 20)) if atom < threshold) / 20


@pytest.mark.parametrize("kind", ["continuous", "atoms", "minus infinity"])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_the_false_alarm_promise_is_kept_in_simulation(kind: str, rate: float) -> None:
    """Broken in at most delta of the calibrations, plus three standard deviations of this count."""
    runs, delta = 2000, 0.05
    generator = np.random.default_rng(20)
    target = TargetFpr(rate, delta)
    broken = sum(
        below(kind, target.threshold(distribution(kind, generator, 1000), [])) > rate + 1e-12 for _ in range(runs)
    )
    assert broken <= runs * delta + 3 * math.sqrt(runs * delta * (1 - delta))
    if kind == "continuous":
        assert broken > runs * delta / 10  # and not kept by never flagging anything


@pytest.mark.parametrize("kind", ["continuous", "atoms", "minus infinity"])
def test_the_promise_by_class_is_kept_for_all_classes_together(kind: str) -> None:
    """Classes of different sizes, and shifted against each other; how many images a class gets is drawn too."""
    runs, delta, rate, shares = 2000, 0.05, 0.1, (0.6, 0.3, 0.1)
    generator = np.random.default_rng(24)
    target, names = PerClass(TargetFpr(rate, delta)), ("a", "b", "c")
    broken = 0
    for _ in range(runs):
        classes = generator.choice(3, size=900, p=shares)
        scores = distribution(kind, generator, 900) + 100 * classes
        found = target.thresholds(scores, classes, [], names)
        broken += any(below(kind, value - 100 * label) > rate + 1e-12 for label, value in enumerate(found))
    assert broken <= runs * delta + 3 * math.sqrt(runs * delta * (1 - delta))
    if kind == "continuous":
        assert broken > runs * delta / 10


@pytest.mark.parametrize("kind", ["continuous", "atoms", "minus infinity"])
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_the_average_is_kept_in_simulation_and_nearly_half_of_its_calibrations_exceed_it(
    kind: str, rate: float
) -> None:
    runs, n = 2000, 1000
    generator = np.random.default_rng(25)
    target = MeanFpr(rate)
    shares = np.array([below(kind, target.threshold(distribution(kind, generator, n), [])) for _ in range(runs)])
    assert shares.mean() <= rate + 3 * shares.std() / math.sqrt(runs)
    if kind == "continuous":
        assert shares.mean() == pytest.approx(
            math.floor(rate * (n + 1)) / (n + 1), abs=3 * shares.std() / math.sqrt(runs)
        )
        assert 0.4 < (shares > rate).mean() < 0.55


@pytest.mark.parametrize(("rate", "n"), [(0.01, 99), (0.01, 1000), (0.05, 19), (0.1, 29), (0.3, 9), (0.07, 1999)])
def test_the_average_against_the_definition(rate: float, n: int) -> None:
    """The k-th highest, k = ceil((n + 1)(1 - rate)), in whole numbers of a hundredth."""
    scores = np.random.default_rng(26).normal(size=n)
    hundredths = round(100 * rate)
    k = -((n + 1) * (100 - hundredths) // -100)
    assert MeanFpr(rate).threshold(scores, []) == sorted(scores, reverse=True)[k - 1]


@pytest.mark.parametrize(("rate", "least"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.3, 3), (0.5, 1)])
def test_too_few_for_an_average(rate: float, least: int) -> None:
    scores = np.arange(float(least))
    assert MeanFpr(rate).threshold(scores, []) == 0.0
    with pytest.raises(CalibrationError, match=f"expected at least {least} clean images .*, found {least - 1}"):
        MeanFpr(rate).threshold(scores[1:], [])


@pytest.mark.parametrize("seed", range(5))
def test_youden_against_every_threshold(seed: int) -> None:
    """Ties and infinities included; each attack counts alike, however many images it has."""
    generator = np.random.default_rng(seed)
    clean = generator.choice([-np.inf, -1.0, 0.0, 1.0, 2.0, 3.0, np.inf], size=80)
    attacked = [generator.choice([-np.inf, -2.0, -1.0, 0.0, 1.0], size=n) for n in (20, 60)]
    found = Youden().threshold(clean, attacked)

    def gain(threshold: float) -> float:
        return float(np.mean([(s < threshold).mean() for s in attacked]) - (clean < threshold).mean())

    everywhere = [-np.inf, *np.nextafter(np.concatenate([clean, *attacked]), np.inf)]
    assert gain(found) == pytest.approx(max(map(gain, everywhere)))


def test_youden_flags_nothing_where_nothing_is_to_be_gained() -> None:
    assert Youden().threshold(np.full(5, -2.0), [np.full(5, 3.0)]) == -math.inf
    for clean, attacked in (([], [np.zeros(2)]), ([1.0], []), ([1.0], [np.zeros(0)])):
        with pytest.raises(CalibrationError, match="expected clean and attacked images, found none of one kind"):
            Youden().threshold(np.array(clean), attacked)


@pytest.mark.parametrize("kind", ["continuous", "atoms", "minus infinity"])
@pytest.mark.parametrize("attacks", [1, 4])
def test_the_detection_promise_is_kept_in_simulation(kind: str, attacks: int) -> None:
    """For all attacks together."""
    runs, delta, rate = 150, 0.1, 0.8
    generator = np.random.default_rng(21)
    target = TargetTpr(rate, delta)
    broken = 0
    for _ in range(runs):
        threshold = target.threshold(np.zeros(1), [distribution(kind, generator, 300) for _ in range(attacks)])
        broken += below(kind, threshold) < rate - 1e-12
    assert broken <= runs * delta + 3 * math.sqrt(runs * delta * (1 - delta))


def test_a_weak_attack_decides_the_threshold() -> None:
    generator = np.random.default_rng(22)
    easy, hard = generator.normal(-10, 1, size=200), generator.normal(0, 1, size=200)
    both = TargetTpr(0.9).threshold(np.zeros(1), [easy, hard])
    assert both == TargetTpr(0.9, 0.025).threshold(np.zeros(1), [hard])  # delta is shared out
    assert flagged(easy, both) == 200


@pytest.mark.parametrize(("rate", "delta", "least"), [(0.01, 0.05, 299), (0.05, 0.05, 59), (0.01, 0.01, 459)])
def test_too_few_for_a_false_alarm_rate(rate: float, delta: float, least: int) -> None:
    target = TargetFpr(rate, delta)
    scores = np.arange(float(least))
    assert target.least == least
    assert target.threshold(scores, []) == 0.0
    message = rf"TargetFpr\({rate}, delta={delta}\): expected at least {least} clean images .*, found {least - 1}"
    with pytest.raises(CalibrationError, match=message):
        target.threshold(scores[1:], [])


def test_too_few_for_a_detection_rate() -> None:
    scores = np.arange(59.0)
    assert TargetTpr(0.95).threshold(np.zeros(1), [scores]) == np.nextafter(58.0, np.inf)
    with pytest.raises(CalibrationError, match=r"expected at least 59 images of each attack .*, found 58"):
        TargetTpr(0.95).threshold(np.zeros(1), [scores[1:]])
    with pytest.raises(CalibrationError, match=r"expected at least 72 images of each attack .*, found 59"):
        TargetTpr(0.95).threshold(np.zeros(1), [scores, scores])
    with pytest.raises(CalibrationError, match="found 0"):
        TargetTpr(0.95).threshold(np.zeros(1), [scores[:0]])
    with pytest.raises(CalibrationError, match="expected attacked images, found none"):
        TargetTpr(0.95).threshold(scores, [])


@pytest.mark.parametrize("target", [TargetFpr(0.4, 0.6**5), TargetTpr(0.42, 0.42**3)])
def test_a_number_that_is_just_enough_or_just_not(target: TargetFpr | TargetTpr) -> None:
    """Where 1 - delta is met exactly, rounding decides; either way there is a threshold or a reason."""
    for n in (2, 3, 4, 5, 6, 7):
        scores = np.arange(float(n))
        try:
            assert np.isfinite(target.threshold(scores, [scores]))
        except CalibrationError as error:
            assert f"found {n}" in str(error)  # noqa: PT017
            assert f"at least {n} " not in str(error)  # noqa: PT017


def test_order_does_not_matter_and_arguments_are_kept() -> None:
    generator = np.random.default_rng(23)
    scores = generator.normal(size=400)
    before = scores.copy()
    for target in (TargetFpr(0.05), TargetTpr(0.9)):
        assert target.threshold(scores, [scores]) == target.threshold(np.sort(scores), [np.sort(scores)])
    np.testing.assert_array_equal(scores, before)


def test_all_scores_equal() -> None:
    """As with identical members, or a saturated score: nothing clean is flagged, everything attacked is."""
    for value in (-np.inf, -1.0, 0.0):
        scores = np.full(400, value)
        assert flagged(scores, TargetFpr(0.2).threshold(scores, [])) == 0
        threshold = TargetTpr(0.9).threshold(np.zeros(1), [scores])
        assert flagged(scores, threshold) == 400
        assert not math.isnan(threshold)


@pytest.mark.parametrize("value", [-math.inf, -1.5, 0.0, math.inf])
def test_explicit_is_taken_as_it_is(value: float) -> None:
    assert Explicit(value).threshold(np.zeros(3), [np.ones(3)]) == value


def test_minus_infinity_flags_nothing() -> None:
    assert flagged(np.array([-np.inf, -5.0]), Explicit(-math.inf).threshold(np.zeros(1), [])) == 0


class Wish(Document):
    """A document with a target."""

    target: Annotated[Target, PlainValidator(target_from_json), PlainSerializer(target_to_json)]
    digest: str = ""


ALL = [TargetFpr(0.05), TargetFpr(0.01, 0.1), TargetTpr(0.9), TargetTpr(0.5, 1e-6), Explicit(-1.5), Explicit(0.0),
       Explicit(-math.inf), Explicit(math.inf), MeanFpr(0.05), Youden(), PerClass(TargetFpr(0.05)),
       PerClass(Youden())]  # fmt: skip


@pytest.mark.parametrize("target", ALL, ids=str)
def test_json_round_trip(target: Target) -> None:
    text = Wish(target=target).model_dump_json()
    assert Wish.model_validate_json(text).target == target
    json.loads(text, parse_constant=pytest.fail)  # no bare Infinity


def test_json_of_infinities() -> None:
    assert target_to_json(Explicit(-math.inf)) == {"kind": "explicit", "value": "-Infinity"}
    assert target_to_json(Explicit(math.inf)) == {"kind": "explicit", "value": "Infinity"}
    assert target_to_json(TargetFpr(0.05)) == {"kind": "fpr", "rate": 0.05, "delta": 0.05}
    nested = {"kind": "per_class", "target": {"kind": "mean_fpr", "rate": 0.1}}
    assert target_to_json(PerClass(MeanFpr(0.1))) == nested


@pytest.mark.parametrize(
    "value",
    [None, 3, [], {}, {"kind": "auc"}, {"kind": ["fpr"]}, {"kind": "fpr"}, {"kind": "fpr", "rate": None},
     {"kind": "fpr", "rate": [1]}, {"kind": "fpr", "rate": "x"}, {"kind": "fpr", "rate": 0.1, "more": 1},
     {"kind": "fpr", "rate": 2}, {"kind": "explicit", "value": "NaN"}, {"kind": "per_class"},
     {"kind": "per_class", "target": 3}, {"kind": "per_class", "target": {"kind": "explicit", "value": 1}},
     {"kind": "per_class", "target": {"kind": "youden"}, "more": 1},
     {"kind": "per_class", "target": {"kind": "per_class", "target": {"kind": "youden"}}}],
)  # fmt: skip
def test_json_that_is_no_target(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  pydantic turns it into a fault of the field
        target_from_json(value)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.1, math.nan, math.inf])
def test_rates_out_of_range(rate: float) -> None:
    for make in (TargetFpr, TargetTpr):
        with pytest.raises(InputError, match="expected a number between 0 and 1, found"):
            make(rate)
        with pytest.raises(InputError, match="delta: expected a number between 0 and 1, found"):
            make(0.5, rate)


def test_explicit_is_a_number() -> None:
    with pytest.raises(InputError, match="threshold: expected a number, found nan"):
        Explicit(math.nan)


def test_texts() -> None:
    assert [str(target) for target in ALL[:5]] == [
        "TargetFpr(0.05, delta=0.05)",
        "TargetFpr(0.01, delta=0.1)",
        "TargetTpr(0.9, delta=0.05)",
        "TargetTpr(0.5, delta=1e-06)",
        "Explicit(-1.5)",
    ]
