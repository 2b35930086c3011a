"""The attacker who knows the detector: wrong and not flagged."""

import itertools

import numpy as np
import pytest
import torch

from detector.diversity import log_diversity_without
from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.outputs import Outputs
from detector.scores import SCORES
from detector.scores.score import Score
from detector.threshold import Threshold
from tests.training.attacks.models import linear, perturbed, some_images
from training import Run, attack, load, sample, take
from training.adp import log_mean
from training.attacks import FGSM, JSMA, MIM, PGD, AsInPaper, Attack, JSMAPairs, Untargeted
from training.attacks.aware import DetectorAware
from training.attacks.carlini_wagner import CarliniWagner
from training.attacks.surrogates import surrogate
from training.attacks.unseen import Unseen
from training.trainer import predict

STRONG = PGD(eps=0.1, steps=20, step_size=0.02)


def calibrated(run: Run, name: str = "log_diversity", flagged: float = 0.05) -> tuple[Score, Threshold]:
    """A score with a threshold that flags so many of the calibration images."""
    ensemble, _ = run.trained()
    logits = predict(ensemble, take(load("digits"), "calibration"), batch_size=256)
    score = SCORES[name]().fit(logits)
    return score, Threshold(overall=float(np.quantile(score.measure(Outputs(logits)), flagged)))


def attacked(run: Run, images: ImageSet, attack: Attack) -> torch.Tensor:
    ensemble, _ = run.trained()
    ensemble.requires_grad_(requires_grad=False)
    return perturbed(
        ensemble, torch.from_numpy(as_floats(images.images)), torch.from_numpy(np.asarray(images.labels)), attack
    )


def evading(run: Run, images: ImageSet, found: torch.Tensor, score: Score, threshold: Threshold) -> np.ndarray:
    """Which are wrong and not flagged, by numpy alone."""
    ensemble, _ = run.trained()
    outputs = Outputs(predict(ensemble, ImageSet(images=found.numpy()), batch_size=256))
    return np.asarray((outputs.labels != images.labels) & ~threshold.flags(score.measure(outputs), outputs.labels))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    "built_on",
    [
        STRONG,
        MIM(eps=0.1, steps=20, step_size=0.02),
        FGSM(eps=0.15),
        CarliniWagner(c=10.0, steps=60, learning_rate=0.03),
    ],
    ids=lambda built_on: built_on.method,
)
def test_it_evades_whatever_the_attack_it_is_built_on_evades_and_more(
    run: Run, validation: ImageSet, built_on: Attack, name: str
) -> None:
    some = sample(validation, 30)
    score, threshold = calibrated(run, name, flagged=0.2)
    plain = evading(run, some, attacked(run, some, built_on), score, threshold)
    aware = DetectorAware(attack=built_on, score=score, threshold=threshold)
    knowing = evading(run, some, attacked(run, some, aware), score, threshold)
    assert not (plain & ~knowing).any()
    assert knowing.sum() > plain.sum()


@pytest.mark.parametrize(
    "built_on", [JSMA(theta=0.5, gamma=0.3), JSMAPairs(gamma=0.3)], ids=lambda built_on: built_on.method
)
def test_saliency_maps_go_on_until_an_image_passes(run: Run, validation: ImageSet, built_on: Attack) -> None:
    some = sample(validation, 40)
    score, threshold = calibrated(run)
    plain = evading(run, some, attacked(run, some, built_on), score, threshold)
    aware = DetectorAware(attack=built_on, score=score, threshold=threshold)
    knowing = evading(run, some, attacked(run, some, aware), score, threshold)
    assert aware.attempts == 1
    assert not (plain & ~knowing).any()
    assert knowing.sum() > plain.sum()


@pytest.mark.parametrize("name", SCORES)
def test_where_none_passes_it_fools_as_many_as_the_attack_it_is_built_on(
    run: Run, validation: ImageSet, name: str
) -> None:
    """A threshold that flags everything."""
    some, (score, _) = sample(validation, 20), calibrated(run, name)
    aware = DetectorAware(attack=PGD(eps=0.1), score=score, threshold=Threshold(overall=np.inf), weights=(1.0,))
    assert torch.equal(attacked(run, some, aware), attacked(run, some, PGD(eps=0.1)))


def test_a_detector_that_flags_nothing_changes_nothing(run: Run, validation: ImageSet) -> None:
    """The attack it is built on is looked at first."""
    some, (score, _) = sample(validation, 20), calibrated(run)
    aware = DetectorAware(attack=PGD(eps=0.3), score=score, threshold=Threshold(overall=-np.inf))
    assert torch.equal(attacked(run, some, aware), attacked(run, some, PGD(eps=0.3)))


def test_an_attack_is_done_with_what_is_wrong_and_not_flagged(run: Run, validation: ImageSet) -> None:
    score, threshold = calibrated(run)
    aware = DetectorAware(attack=STRONG, score=score, threshold=threshold)
    found, labels = attacked(run, validation, STRONG), torch.from_numpy(np.asarray(validation.labels))
    with torch.no_grad():
        reached = aware.reached(Untargeted(labels), run.trained()[0](found)).numpy()
    assert np.array_equal(reached, evading(run, validation, found, score, threshold))
    assert 0 < reached.sum() < len(reached)


def test_it_stays_within_the_ball_of_the_attack_it_is_built_on(run: Run, validation: ImageSet) -> None:
    score, threshold = calibrated(run)
    found = attacked(run, validation, DetectorAware(attack=STRONG, score=score, threshold=threshold))
    change = found.double() - torch.from_numpy(as_floats(validation.images)).double()
    assert change.abs().max() <= 0.1
    assert found.min() >= 0
    assert found.max() <= 1


def test_more_weights_never_evade_less(run: Run, validation: ImageSet) -> None:
    score, threshold = calibrated(run)
    evaded = []
    for weights in ((1.0,), (1.0, 10.0), (1.0, 10.0, 0.1)):
        aware = DetectorAware(attack=STRONG, score=score, threshold=threshold, weights=weights)
        evaded.append(evading(run, validation, attacked(run, validation, aware), score, threshold))
    for fewer, more in itertools.pairwise(evaded):
        assert not (fewer & ~more).any()


def test_the_smallest_change_is_a_clean_image_or_passes(run: Run, validation: ImageSet) -> None:
    score, threshold = calibrated(run)
    some = sample(validation, 20)
    aware = DetectorAware(attack=CarliniWagner(c=10.0, steps=60), score=score, threshold=threshold)
    found = attacked(run, some, aware)
    changed = (found != torch.from_numpy(as_floats(some.images))).flatten(1).any(dim=1).numpy()
    assert changed.sum() >= 5
    assert evading(run, some, found, score, threshold)[changed].all()


def test_an_image_is_attacked_alike_in_any_batch(run: Run, validation: ImageSet) -> None:
    score, threshold = calibrated(run)
    some, aware = sample(validation, 6), DetectorAware(attack=STRONG, score=score, threshold=threshold)
    whole = attacked(run, some, aware)
    ensemble, _ = run.trained()
    images, labels = torch.from_numpy(as_floats(some.images)), torch.from_numpy(np.asarray(some.labels))
    for row in range(len(some)):
        alone = aware.perturb(ensemble, images[row : row + 1], Untargeted(labels[row : row + 1]), np.array([row]))
        assert torch.equal(alone, whole[row : row + 1])


def test_the_objective_rests_once_nothing_falls_short() -> None:
    images, _ = some_images(32)
    logits = linear()(images).double()
    outputs = Outputs(logits.numpy())
    labels = (torch.from_numpy(outputs.labels) + 1) % 5
    twin = surrogate(SCORES["log_diversity"]())
    ones = torch.ones(32, dtype=torch.float64)
    flagged = Unseen(labels, Untargeted(labels), twin, torch.full((5,), 0.5).double(), ones)
    passed = Unseen(labels, Untargeted(labels), twin, torch.full((5,), -1000.0).double(), ones)
    assert (flagged.shortfall(logits) > 0).all()
    assert not flagged.succeeded(logits).any()
    assert (passed.shortfall(logits) == 0).all()
    assert passed.succeeded(logits).all()
    assert torch.equal(flagged.only(torch.tensor([3])).shortfall(logits[3:4]), flagged.shortfall(logits)[3:4])


def test_the_scores_part_weighs_what_it_is_told() -> None:
    images, _ = some_images(32)
    logits = linear()(images).double()
    labels = log_mean(logits).argmax(dim=1)
    limits = torch.full((5,), 0.5).double()
    twin = surrogate(SCORES["log_diversity"]())
    unseen = Unseen(labels, Untargeted(labels), twin, limits, torch.ones(32, dtype=torch.float64))
    goal = Untargeted(labels).shortfall(logits)
    second = (logits.softmax(dim=2).mean(dim=1).scatter(1, labels[:, None], 0.0)).argmax(dim=1)
    missing = 0.5 - log_diversity_without(logits.numpy(), second.numpy())
    for weight in (1.0, 0.1, 30.0):
        found = unseen.weighing(weight).shortfall(logits) - goal
        np.testing.assert_allclose(found.numpy(), weight * missing, rtol=1e-6)


def test_evaded_is_what_the_score_itself_does_not_flag(run: Run, validation: ImageSet) -> None:
    score, threshold = calibrated(run)
    aware = DetectorAware(attack=STRONG, score=score, threshold=threshold)
    found = attack(run, validation, aware, progress=False)
    expected = evading(run, validation, torch.from_numpy(found.images), score, threshold)
    assert np.array_equal(np.asarray(found.evaded), expected & np.asarray(found.clean_correct))
    assert found.info["attack"]["found"]["evaded"] == np.asarray(found.evaded).sum() > 0
    assert attack(run, sample(validation, 3), STRONG, progress=False).evaded is None


def test_one_member_alone_has_no_detector(run: Run, validation: ImageSet) -> None:
    score, threshold = calibrated(run)
    aware = DetectorAware(attack=STRONG, score=score, threshold=threshold)
    with pytest.raises(InputError, match="member: expected none, since what a detector judges is all members together"):
        attack(run, sample(validation, 3), aware, member=1, progress=False)


def test_names_and_settings_say_what_it_is_built_on() -> None:
    score = SCORES["entropy"]()
    aware = DetectorAware(attack=STRONG, score=score, threshold=Threshold(overall=-1.5))
    assert aware.name == "aware-of-entropy-pgd20-0.1-by-0.02"
    settings = aware.describe()
    assert settings["attack"] == STRONG.describe()
    assert (settings["score"], settings["threshold"]) == ("entropy", -1.5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [((), "weights: expected at least one, found none"), ((1.0, -1.0), "weights: expected a number above 0")],
    ids=["none", "negative"],
)
def test_settings_are_refused(weights: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetectorAware(attack=STRONG, score=SCORES["entropy"](), threshold=Threshold(overall=0.0), weights=weights)


def test_the_papers_protocol_is_refused() -> None:
    images, labels = some_images()
    aware = DetectorAware(attack=STRONG, score=SCORES["entropy"](), threshold=Threshold(overall=0.0))
    with pytest.raises(InputError, match="the paper's protocol, which knows no detector"):
        perturbed(linear(), images, labels, aware, AsInPaper)


def test_thresholds_by_class_are_those_of_the_class_it_pretends_to_be() -> None:
    """One class flags everything and the others nothing, so that only they are reached."""
    images, _ = some_images(32)
    with torch.no_grad():
        labels = torch.from_numpy(Outputs(linear()(images).numpy()).labels)
    threshold = Threshold(by_class=(1.0, -1e6, -1e6, -1e6, -1e6))
    aware = DetectorAware(attack=PGD(eps=0.5), score=SCORES["log_diversity"](), threshold=threshold)
    found = perturbed(linear(), images, labels, aware)
    with torch.inference_mode():
        logits = linear()(found)
    reached = Outputs(logits.numpy()).labels
    unflagged = ~aware.flags(logits.numpy()) & (reached != labels.numpy())
    assert unflagged.sum() > 16
    assert (reached[unflagged] != 0).all()
