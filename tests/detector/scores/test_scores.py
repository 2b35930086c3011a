"""Each score against the textbook formula, in order and in direction; and where that formula rounds."""

from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import entropy

from detector.diversity import log_diversity
from detector.errors import CalibrationError, InputError
from detector.outputs import Outputs
from detector.scores import DEFAULT_SCORE, SCORES, score_named
from detector.scores.score import Score

Floats = NDArray[np.float64]


def random_logits(count: int, seed: int, *, members: int = 3, classes: int = 10, spread: float = 3.0) -> Floats:
    """Members that agree on a class more or less."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(count, 1, classes)) * spread
    return np.asarray(shared + rng.normal(size=(count, members, classes)))


def naive(name: str, logits: Floats) -> float:
    """What the definitions say of one image, (K, L), oriented so that lower is more suspicious."""
    each = softmax(logits, axis=1)
    mean = each.mean(axis=0)
    match name:
        case "log_diversity":
            others = np.delete(each, mean.argmax(), axis=1)
            columns = others / np.linalg.norm(others, axis=1, keepdims=True)
            return float(np.log(np.linalg.det(columns @ columns.T)))
        case "mutual_information":
            return float(np.mean([entropy(one) for one in each]) - entropy(mean))
        case "entropy":
            return float(-entropy(mean))
        case "max_probability":
            return float(np.log(mean.max() / (1 - mean.max())))
        case _:
            return float(np.mean(logsumexp(logits, axis=1)))


@pytest.fixture(scope="module")
def every() -> dict[str, Score]:
    """Every score by name, fitted where it has to be."""
    logits = random_logits(400, 100)
    return {name: score_named(name).fit(logits) for name in SCORES}


PLAIN = [name for name, score in SCORES.items() if not score.needs_fit]


def test_the_default_is_the_papers() -> None:
    assert DEFAULT_SCORE == "log_diversity"
    assert next(iter(SCORES)) == DEFAULT_SCORE


def test_an_unknown_score_is_named_with_the_others() -> None:
    with pytest.raises(InputError, match=r"score: expected one of log_diversity, mutual_information, .*, found odds"):
        score_named("odds")


@pytest.mark.parametrize("name", PLAIN)
def test_against_the_textbook(name: str, every: dict[str, Score]) -> None:
    logits = random_logits(300, 1)
    found = every[name].of(logits)
    expected = np.array([naive(name, image) for image in logits])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(np.argsort(found), np.argsort(expected))


@pytest.mark.parametrize("name", SCORES)
def test_which_scores_the_averaged_prediction_tells(name: str, every: dict[str, Score]) -> None:
    """Three ensembles of other members and the same mean: a score that it tells is the same, any other is not."""
    logits = random_logits(50, 3)
    mean = softmax(logits, axis=2).mean(axis=1, keepdims=True)
    alike = np.repeat(np.log(mean), logits.shape[1], axis=1) + np.linspace(0, 1, logits.shape[1])[None, :, None]
    moved = logits + np.array([5.0, 0.0, 0.0])[None, :, None]
    halved = softmax(logits, axis=2)  # the first two give each other half of what they differ by
    halved[:, :2] = halved[:, :2] / 2 + halved[:, :2].mean(axis=1, keepdims=True) / 2
    for other in (alike, moved, np.log(halved)):
        np.testing.assert_allclose(Outputs(other).probabilities, mean[:, 0], rtol=1e-12)
    found = every[name].of(logits)
    others = [every[name].of(other) for other in (alike, moved, np.log(halved))]
    same = all(np.allclose(found, other, rtol=1e-9) for other in others)
    assert same == SCORES[name].of_prediction


def test_log_diversity_is_the_librarys() -> None:
    logits = random_logits(50, 2)
    np.testing.assert_array_equal(score_named("log_diversity").of(logits), log_diversity(logits))


SURE = np.array([[9.0, 0, 0, -1], [9.0, 0, -1, 0]])
TORN = np.array([[0.3, 0, 0, -1], [0.3, 0, -1, 0]])
SPLIT = np.array([[9.0, 0, 0, -1], [0, 9.0, -1, 0]])
ALIKE = np.array([[9.0, 0, -1, -1], [9.0, 0, -1, -1.01]])


@pytest.mark.parametrize(
    ("name", "honest", "suspicious"),
    [
        ("log_diversity", SURE, ALIKE),
        ("mutual_information", SURE, SPLIT),
        ("entropy", SURE, TORN),
        ("max_probability", SURE, TORN),
        ("energy", SURE, TORN),
    ],
)
def test_lower_is_more_suspicious(name: str, honest: Floats, suspicious: Floats, every: dict[str, Score]) -> None:
    low, high = every[name].of(np.stack([suspicious, honest]))
    assert low < high


def certain(margins: list[float]) -> Floats:
    """Images that three members are certain of, by some margin, each seeing the rest in its own way."""
    rest = np.random.default_rng(3).normal(size=(3, 10))
    logits = np.repeat(rest[None], len(margins), axis=0)
    logits[:, :, 4] = np.array(margins)[:, None]
    return logits


def exact(name: str, logits: Floats) -> float:
    """The definition in 700 digits."""
    with mpmath.workdps(700):
        each = []
        for member in logits:
            weights = [mpmath.exp(mpmath.mpf(float(z))) for z in member]
            each.append([weight / mpmath.fsum(weights) for weight in weights])
        mean = [mpmath.fsum(column) / len(each) for column in zip(*each, strict=True)]

        def spread(row: list[mpmath.mpf]) -> mpmath.mpf:
            return -mpmath.fsum(p * mpmath.log(p) for p in row)

        match name:
            case "mutual_information":
                return float(mpmath.fsum(map(spread, each)) / len(each) - spread(mean))
            case "entropy":
                return float(-spread(mean))
            case _:
                return float(mpmath.log(max(mean) / (1 - max(mean))))


@pytest.mark.parametrize("name", ["mutual_information", "entropy", "max_probability"])
def test_certainty_does_not_round(name: str, every: dict[str, Score]) -> None:
    """The textbook's p is 1 from a margin of 37 on, and ties all of these."""
    margins = [30.0, 37.0, 38.0, 60.0, 100.0, 400.0, 600.0]
    found = every[name].of(certain(margins))
    assert (np.diff(found) > 0).all()
    expected = [exact(name, image) for image in certain(margins)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
def test_small_disagreement_does_not_cancel(gap: float) -> None:
    """The difference of two entropies is rounding noise from a gap of 1e-8 on, and may be negative."""
    logits = random_logits(3, 4, members=1).repeat(3, axis=1)
    logits[:, 1] += gap * np.random.default_rng(5).normal(size=(3, 10))
    expected = [exact("mutual_information", image) for image in logits]
    np.testing.assert_allclose(score_named("mutual_information").of(logits), expected, rtol=1e-9 / gap)
    assert (Outputs(logits[:, [0, 0, 0]]).disagreement < 1e-30).all()


def test_energy_keeps_its_order_when_a_members_logits_shift(every: dict[str, Score]) -> None:
    """Softmax leaves that constant open, so the order must not hang on it."""
    logits = random_logits(100, 6)
    shifted = logits.copy()
    shifted[:, 1] += 50.0
    found = every["energy"].of(shifted)
    np.testing.assert_allclose(found, every["energy"].of(logits) + 50 / 3)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(("members", "classes"), [(2, 3), (3, 10), (5, 100)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_images_score_is_the_same_in_every_batch(name: str, members: int, classes: int, dtype: type) -> None:
    """To the bit: what is flagged offline is flagged in a batch of the server."""
    logits: NDArray[np.floating[Any]] = random_logits(257, 7, members=members, classes=classes).astype(dtype)
    score = score_named(name).fit(random_logits(300, 8, members=members, classes=classes))
    whole = score.of(logits)
    for size in (1, 3, 64):
        parts = [score.measure(Outputs(logits[start : start + size])) for start in range(0, 257, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    "logits",
    [
        np.zeros((2, 3, 10)),
        np.full((2, 3, 10), 1e30),
        np.where(np.arange(10) == 3, 3e4, np.zeros((2, 3, 10))),
        np.where(np.arange(10) == 3, -3e4, np.zeros((2, 3, 10))),
        np.random.default_rng(9).normal(size=(2, 3, 10)) * 1e4,
    ],
    ids=["zeros", "huge", "certain", "one impossible", "wild"],
)
def test_a_score_is_always_a_number(name: str, logits: Floats, every: dict[str, Score]) -> None:
    found = every[name].of(logits.astype(np.float32))
    assert not np.isnan(found).any()


def test_only_densities_need_a_fit(every: dict[str, Score]) -> None:
    assert [name for name, score in every.items() if score.needs_fit] == ["typicality", "mahalanobis"]
    assert [name for name, score in every.items() if score.fitted is not None] == ["typicality", "mahalanobis"]


@pytest.mark.parametrize("name", ["typicality", "mahalanobis"])
def test_a_fit_of_too_few_images_is_refused(name: str) -> None:
    with pytest.raises(CalibrationError, match=f"{name}: expected at least 100 clean images to fit, found 99"):
        score_named(name).fit(random_logits(99, 0))


def test_a_fit_of_another_score_is_refused(every: dict[str, Score]) -> None:
    for name, other in (("typicality", "mahalanobis"), ("mahalanobis", "typicality")):
        with pytest.raises(InputError, match=f"{name}: expected a fit of its own, found one of another score"):
            score_named(name, every[other].fitted)
