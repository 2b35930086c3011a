"""Log diversity against a 60-digit twin, against known answers, and at its borders."""

import mpmath
import numpy as np
import pytest

from detector.diversity import _HARMLESS, _by_elimination, log_diversity
from detector.errors import InputError
from detector.prediction import mean_prediction


def twin(logits: np.ndarray, label: int) -> float:
    """Eq. (3) as it is written, for one image, in 60 digits: softmax, drop, normalise, Gram, det."""
    with mpmath.workdps(60):
        columns = []
        for member in logits:
            weights = [mpmath.exp(mpmath.mpf(float(z))) for z in member]
            total = mpmath.fsum(weights)
            others = [w / total for j, w in enumerate(weights) if j != label]
            length = mpmath.sqrt(mpmath.fsum(w * w for w in others))
            columns.append([w / length for w in others])
        gram = mpmath.matrix(len(columns))
        for i, a in enumerate(columns):
            for j, b in enumerate(columns):
                gram[i, j] = mpmath.fdot(a, b)
        # The determinant of nearly parallel columns cancels; the digits to survive it are added.
        with mpmath.workdps(60 + 40 * len(columns)):
            return float(mpmath.log(mpmath.det(gram)))


def exact(logits: np.ndarray, label: int, digits: int = 45) -> float:
    """The twin at as many digits a member as it takes: the Gram matrix itself must not round the cancellation away."""
    with mpmath.workdps(60 + digits * len(logits)):
        columns = []
        for member in logits:
            others = [mpmath.mpf(float(z)) for j, z in enumerate(member) if j != label]
            top = max(others)
            columns.append([mpmath.exp(z - top) for z in others])
        gram = mpmath.matrix(len(columns))
        for i, a in enumerate(columns):
            for j, b in enumerate(columns[: i + 1]):
                gram[i, j] = gram[j, i] = mpmath.fdot(a, b)
        squares = [gram[k, k] for k in range(len(columns))]
        return float(mpmath.log(mpmath.det(gram)) - mpmath.fsum(mpmath.log(square) for square in squares))


def error(logits: np.ndarray, labels: np.ndarray, digits: int = 45) -> float:
    found = log_diversity(logits, labels)
    expected = np.array([exact(z, y, digits) for z, y in zip(logits, labels, strict=True)])
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())


def test_the_twins_agree() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 10)) * 3
    assert exact(logits, 4) == pytest.approx(twin(logits, 4), abs=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("members", "classes"), [(2, 3), (3, 4), (3, 10), (5, 10), (9, 10), (20, 21), (20, 100)])
@pytest.mark.parametrize("margin", [0.0, 10.0, 52.0, 100.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_margin_between_label_and_rest(members: int, classes: int, margin: float, sign: int, dtype: type) -> None:
    rng = np.random.default_rng(members * classes)
    count = 2 if members < 20 else 1
    logits = rng.normal(size=(count, members, classes)) * 2
    labels = rng.integers(classes, size=count)
    logits[np.arange(count), :, labels] += sign * margin
    assert error(logits.astype(dtype), labels, digits=5) <= 1e-9


@pytest.mark.parametrize(("members", "classes"), [(2, 3), (3, 10), (5, 10), (9, 10)])
@pytest.mark.parametrize("spread", [20.0, 60.0, 100.0, 200.0])
def test_wide_logits(members: int, classes: int, spread: float) -> None:
    """Other labels far apart from each other too, as when every member picks one wrong class."""
    rng = np.random.default_rng(7)
    logits = rng.uniform(-spread, 0, size=(4, members, classes))
    labels = rng.integers(classes, size=4)
    assert error(logits, labels, digits=60) <= 1e-9


@pytest.mark.parametrize(("members", "classes", "count"), [(3, 4, 60), (3, 5, 60), (5, 6, 15), (9, 10, 4)])
@pytest.mark.parametrize("spread", [100.0, 150.0, 200.0])
def test_wide_logits_and_as_many_members_as_there_may_be(members: int, classes: int, count: int, spread: float) -> None:
    """The hardest case known: a pivoted QR and complete pivoting are off by anything up to infinity in some."""
    rng = np.random.default_rng(int(members * spread))
    logits = rng.uniform(-spread, 0, size=(count, members, classes))
    assert error(logits, rng.integers(classes, size=count), digits=60) <= 1e-9


def test_where_a_pivoted_qr_fails() -> None:
    """By 27 in 148 in one of these."""
    rng = np.random.default_rng(12)
    logits = rng.uniform(-100, 0, size=(20, 9, 10))
    labels = rng.integers(10, size=20)
    hard = [1, 8, 14]
    assert error(logits[hard], labels[hard], digits=60) <= 1e-9


def test_where_complete_pivoting_fails() -> None:
    """All members agree on one wrong class, by margins that differ widely."""
    others = np.array([[0, -0.38, -127.97], [0, -28.14, -164.07], [0, -194.58, -163.13]])
    logits = np.concatenate([np.full((3, 1), 1.0), others], axis=1)[None]
    assert error(logits, np.zeros(1, dtype=np.int64), digits=100) <= 1e-12


@pytest.mark.parametrize("margin", [20.0, 60.0, 100.0])
def test_all_members_certain_of_one_wrong_class(margin: float) -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(10, 4, 10)) * 2
    logits[:, :, 3] += margin
    assert error(logits, np.zeros(10, dtype=np.int64)) <= 1e-9


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize(("members", "classes"), [(2, 3), (3, 10), (5, 10), (20, 30)])
def test_nearly_collinear_members(gap: float, members: int, classes: int) -> None:
    rng = np.random.default_rng(9)
    count = 3 if members < 20 else 1
    base = rng.normal(size=(count, 1, classes)) * 2
    logits = base + gap * rng.normal(size=(count, members, classes))
    assert error(logits, rng.integers(classes, size=count), digits=20) <= 1e-6


@pytest.mark.parametrize(("members", "classes"), [(2, 10), (3, 10), (5, 10), (5, 100), (20, 1000)])
def test_the_gram_matrix_agrees_with_the_elimination(members: int, classes: int) -> None:
    """Down to where it is used; members drawn nearer and nearer to each other, to have values on both sides."""
    rng = np.random.default_rng(members)
    count = 400 if members < 20 else 30
    near = np.geomspace(0.05, 8, count)[:, None, None]
    logits = rng.normal(size=(count, 1, classes)) + near * rng.normal(size=(count, members, classes))
    labels = rng.integers(classes, size=count)
    found = log_diversity(logits, labels)
    used = found > _HARMLESS
    assert 0 < used.sum() < count
    others = np.stack(
        [np.delete(image, label, axis=1) for image, label in zip(logits[used], labels[used], strict=True)]
    )
    columns = np.swapaxes(np.exp(others - others.max(axis=2, keepdims=True)), 1, 2)
    np.testing.assert_allclose(found[used], _by_elimination(columns), rtol=0, atol=1e-11)


def test_thousand_classes() -> None:
    rng = np.random.default_rng(10)
    logits = (rng.normal(size=(1, 20, 1000)) * 3).astype(np.float32)
    assert error(logits, np.array([17]), digits=1) <= 1e-9


def test_orthogonal_members_reach_the_upper_bound() -> None:
    """Disjoint supports, Corollary 1: the volume is 1."""
    logits = np.full((1, 3, 10), -300.0)
    logits[0, :, 0] = 0.0
    for k in range(3):
        logits[0, k, 1 + 3 * k : 4 + 3 * k] = -1.0
    assert log_diversity(logits)[0] == pytest.approx(0.0, abs=1e-12)
    assert log_diversity(logits)[0] <= 0.0


def test_two_members_at_a_known_angle() -> None:
    """K = 2: ED = 1 - cos^2. Others (1, e^-1) and (e^-1, 1) have cos = 2 e^-1 / (1 + e^-2) = 1 / cosh 1."""
    logits = np.array([[[5.0, 0.0, -1.0], [5.0, -1.0, 0.0]]])
    assert log_diversity(logits)[0] == pytest.approx(2 * np.log(np.tanh(1.0)), abs=1e-12)


def test_identical_members_give_minus_infinity() -> None:
    rng = np.random.default_rng(11)
    logits = rng.normal(size=(50, 3, 10))
    logits[:, 2] = logits[:, 0]
    assert np.isneginf(log_diversity(logits)).all()


def test_members_equal_up_to_a_shift_give_minus_infinity() -> None:
    logits = np.array([[[4.0, 1.0, 0.5, 0.25], [8.0, 5.0, 4.5, 4.25]]])
    assert np.isneginf(log_diversity(logits)).all()


def test_default_label_is_the_ensembles_prediction() -> None:
    logits = np.random.default_rng(12).normal(size=(30, 3, 10)) * 4
    labels = mean_prediction(logits).argmax(axis=1)
    np.testing.assert_array_equal(log_diversity(logits), log_diversity(logits, labels))


def test_an_image_does_not_depend_on_its_batch() -> None:
    logits = np.random.default_rng(13).normal(size=(300, 5, 1000))
    whole = log_diversity(logits)
    np.testing.assert_array_equal(whole[[0, 299]], log_diversity(logits[[0, 299]]))


def test_the_argument_is_not_changed() -> None:
    logits = np.random.default_rng(14).normal(size=(4, 3, 10))
    before = logits.copy()
    log_diversity(logits)
    np.testing.assert_array_equal(logits, before)


def test_no_images() -> None:
    assert log_diversity(np.zeros((0, 3, 10))).shape == (0,)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 10)), None, r"shape \(N, K, L\), found \(2, 10\)"),
        (np.zeros((2, 3, 10), dtype=np.float16), None, "float32 or float64, found float16"),
        (np.zeros((2, 3, 10), dtype=np.int64), None, "found int64"),
        (np.zeros((2, 1, 10)), None, "at least 2, found 1"),
        (np.zeros((2, 3, 3)), None, "at most 2 for 3 classes, found 3; .* singular"),
        (np.zeros((2, 2, 2)), None, "singular"),
        (np.full((1, 3, 10), np.nan), None, "found nan at image 0, member 0, class 0"),
        (np.where(np.arange(10) == 7, np.inf, np.zeros((2, 3, 10))), None, "found inf at image 0, member 0, class 7"),
        (np.zeros((2, 3, 10)), [0], r"labels: expected shape \(2,\)"),
        (np.zeros((2, 3, 10)), [0, 10], "0 to 9, found 10 at image 1"),
        (np.zeros((2, 3, 10)), [0, -1], "0 to 9, found -1 at image 1"),
        (np.zeros((2, 3, 10)), [0.0, 1.0], "expected integers, found float64"),
    ],
)
def test_refusals(logits: np.ndarray, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        log_diversity(logits, labels)  # type: ignore[arg-type]
