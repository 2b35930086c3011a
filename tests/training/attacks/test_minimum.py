"""C&W and EAD, and the loop they share: against the answer that a linear model has."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.prediction import mean_prediction
from tests.training.attacks.models import Linear, answered, perturbed
from training import Run, sample
from training.attacks import EAD, CarliniWagner, DecisionRule, Targeted, Untargeted
from training.attacks.minimum import MinimumAttack

ATTACKS = [CarliniWagner, EAD]


def plane(count: int = 12) -> tuple[Linear, Tensor, Tensor, Tensor]:
    """Two alike members of two classes and a third that never wins; images well inside [0, 1], on one side.

    Returns:
        Ensemble, images, labels, and each image's L2 distance to the other side.
    """
    rng = np.random.default_rng(3)
    normal = rng.normal(size=16)
    weights = np.zeros((2, 3, 17))
    weights[:, 0, :16], weights[:, 0, 16] = normal, -normal.sum() / 2
    weights[:, 2, 16] = -50.0

    class Affine(Linear):
        def forward(self, images: Tensor) -> Tensor:
            flat = images.flatten(1)
            logits: Tensor = torch.einsum(
                "klp,np->nkl", self.weights, torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
            )
            return logits

    ensemble = Affine(torch.from_numpy(weights).float())
    pixels = 0.5 + rng.uniform(-0.1, 0.1, size=(200, 16))
    far = np.abs(pixels @ normal - normal.sum() / 2) > 0.05 * np.linalg.norm(normal)
    pixels = pixels[far][:count]
    sides = pixels @ normal - normal.sum() / 2
    labels = torch.from_numpy((sides < 0).astype(np.int64))
    return (
        ensemble,
        torch.from_numpy(pixels).float().reshape(count, 1, 4, 4),
        labels,
        torch.from_numpy(np.abs(sides) / np.linalg.norm(normal)),
    )


def settings(kind: type[MinimumAttack], **changes: Any) -> MinimumAttack:
    return kind(**{"c": 1.0, "confidence": 0.0, "binary_search_steps": 6, "steps": 300, **changes})


def l2(images: Tensor, others: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm((images.double() - others.double()).flatten(1), dim=1)
    return norms


def test_cw_finds_the_way_to_the_plane_within_two_percent() -> None:
    ensemble, images, labels, distances = plane()
    found = perturbed(ensemble, images, labels, settings(CarliniWagner))
    with torch.inference_mode():
        assert Untargeted(labels).succeeded(ensemble(found)).all()
    ratios = (l2(found, images) / distances).numpy()
    assert ratios.min() > 1 - 1e-3
    assert ratios.max() < 1.02


def test_confidence_is_the_margin_that_is_left() -> None:
    ensemble, images, labels, _ = plane()
    found = perturbed(ensemble, images, labels, settings(CarliniWagner, confidence=0.5))
    with torch.inference_mode():
        log_prediction = np.log(mean_prediction(ensemble(found).double().numpy()))
    other = 1 - labels.numpy()
    rows = np.arange(len(images))
    margins = log_prediction[rows, other] - log_prediction[rows, labels.numpy()]
    assert margins.min() >= 0.5 - 1e-4
    assert np.median(margins) < 0.55


def test_ead_without_l1_minimises_what_cw_does() -> None:
    ensemble, images, labels, _ = plane()
    by_shrinking = l2(perturbed(ensemble, images, labels, settings(EAD, beta=0.0)), images)
    by_adam = l2(perturbed(ensemble, images, labels, settings(CarliniWagner)), images)
    assert torch.allclose(by_shrinking, by_adam, rtol=0.02)


def test_ead_changes_fewer_values_and_less_in_l1() -> None:
    ensemble, images, labels, _ = plane()
    changes = [
        (perturbed(ensemble, images, labels, attack) - images).flatten(1)
        for attack in (settings(EAD, beta=0.05), settings(CarliniWagner))
    ]
    sparse, dense = changes
    assert (sparse != 0).double().mean() < 0.7 * (dense != 0).double().mean()
    assert sparse.abs().sum() < dense.abs().sum()


def test_the_rule_chooses_the_candidate() -> None:
    ensemble, images, labels, _ = plane()
    by_net, by_l1 = (
        (perturbed(ensemble, images, labels, settings(EAD, beta=0.05, rule=rule)) - images).flatten(1)
        for rule in (DecisionRule.EN, DecisionRule.L1)
    )
    assert (by_l1.abs().sum(dim=1) <= by_net.abs().sum(dim=1) + 1e-6).all()


@pytest.mark.parametrize("kind", ATTACKS)
def test_where_it_fails_it_returns_the_input_bit_for_bit(kind: type[MinimumAttack]) -> None:
    ensemble, images, labels, _ = plane()
    hopeless = settings(kind, c=1e-4, binary_search_steps=1, steps=30, learning_rate=1e-3)
    assert torch.equal(perturbed(ensemble, images, labels, hopeless), images)


@pytest.mark.parametrize("kind", ATTACKS)
def test_what_is_wrong_already_is_its_own_answer(kind: type[MinimumAttack]) -> None:
    ensemble, images, labels, _ = plane()
    assert torch.equal(perturbed(ensemble, images, 1 - labels, settings(kind, steps=20)), images)


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_larger_constant_is_never_weaker_and_a_search_finds_less(
    run: Run, validation: ImageSet, kind: type[MinimumAttack]
) -> None:
    ensemble, images, labels = on(run, sample(validation, 25))
    fooled, norms = [], []
    for attack in (
        settings(kind, c=0.05, binary_search_steps=1, steps=100),
        settings(kind, c=1.0, binary_search_steps=1, steps=100),
        settings(kind, c=20.0, binary_search_steps=1, steps=100),
        settings(kind, c=20.0, binary_search_steps=5, steps=100),
    ):
        found = perturbed(ensemble, images, labels, attack)
        assert found.min() >= 0
        assert found.max() <= 1
        with torch.inference_mode():
            won = Untargeted(labels).succeeded(ensemble(found))
        fooled.append(int(won.sum()))
        norms.append(l2(found, images))
    assert fooled[:3] == sorted(fooled[:3])
    assert fooled[0] < fooled[2] <= fooled[3]
    assert (norms[3] <= norms[2] + 1e-6).all()
    assert norms[3].mean() < 0.99 * norms[2].mean()


@pytest.mark.parametrize("kind", ATTACKS)
def test_targets_are_reached(run: Run, validation: ImageSet, kind: type[MinimumAttack]) -> None:
    ensemble, images, labels = on(run, sample(validation, 10))
    targets = (labels + 1) % 10
    found = perturbed(ensemble, images, targets, settings(kind, c=20.0, binary_search_steps=1, steps=150), Targeted)
    with torch.inference_mode():
        reached = Targeted(targets).succeeded(ensemble(found))
    assert reached.double().mean() > 0.7
    assert torch.equal(found[~reached], images[~reached])


@pytest.mark.parametrize("kind", ATTACKS)
def test_an_image_is_attacked_alike_in_any_batch(run: Run, validation: ImageSet, kind: type[MinimumAttack]) -> None:
    ensemble, images, labels = on(run, sample(validation, 8))
    attack = settings(kind, c=2.0, binary_search_steps=2, steps=60)
    whole = perturbed(ensemble, images, labels, attack)
    for size in (1, 3):
        parts = [
            perturbed(ensemble, images[start : start + size], labels[start : start + size], attack)
            for start in range(0, len(images), size)
        ]
        assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


def test_images_that_stop_early_cost_nothing_more() -> None:
    """All stop at the first look, since their loss cannot fall."""
    ensemble, images, labels, _ = plane()
    passes: list[int] = []
    ensemble.register_forward_hook(lambda *_: passes.append(1))
    perturbed(ensemble, images, labels, settings(CarliniWagner, learning_rate=1e-12, binary_search_steps=1))
    stopped = len(passes)
    perturbed(
        ensemble, images, labels,
        settings(CarliniWagner, learning_rate=1e-12, binary_search_steps=1, abort_early=False),
    )  # fmt: skip
    assert stopped < 50
    assert len(passes) - stopped >= 300


@pytest.mark.parametrize(("kind", "enough"), [(CarliniWagner, 2.0), (EAD, 20.0)])
def test_a_search_takes_ten_times_as_much_until_something_is_found(kind: type[MinimumAttack], enough: float) -> None:
    ensemble, images, labels = answered(12)
    searched, before, at_last = (
        perturbed(
            ensemble, images, labels, settings(kind, c=c, binary_search_steps=count, steps=30, learning_rate=0.03)
        )
        for c, count in ((enough / 1000, 4), (enough / 10, 1), (enough, 1))
    )
    only_then = (before == images).flatten(1).all(dim=1) & (at_last != images).flatten(1).any(dim=1)
    assert only_then.any()
    assert torch.allclose(searched[only_then], at_last[only_then], atol=1e-4)


@pytest.mark.parametrize("kind", ATTACKS)
def test_images_that_need_no_change_cost_one_pass(kind: type[MinimumAttack]) -> None:
    ensemble, images, labels = answered(12)
    labels[:5] = (labels[:5] + 1) % 5
    seen: list[int] = []
    ensemble.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    found = perturbed(ensemble, images, labels, settings(kind, binary_search_steps=1, steps=8, abort_early=False))
    assert seen[0] == 12
    assert max(seen[1:]) == 7
    assert torch.equal(found[:5], images[:5])


def test_names_say_what_is_not_the_papers() -> None:
    assert CarliniWagner(c=0.1).name == "cw-0.1"
    assert CarliniWagner(c=1.0, binary_search_steps=9, confidence=0.0).name == "cw-1-search9-confidence0"
    assert EAD(c=5.0).name == "ead-5"
    assert EAD(c=5.0, beta=0.1, rule=DecisionRule.L1).name == "ead-5-beta0.1-by-l1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c": 0.0}, "c: expected a number above 0"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"binary_search_steps": 0}, "binary_search_steps: expected at least 1"),
        ({"learning_rate": -1.0}, "learning_rate: expected a number above 0"),
        ({"confidence": -0.1}, "confidence: expected a number of at least 0"),
        ({"beta": -0.1}, "beta: expected a number of at least 0"),
        ({"rule": "l7"}, "rule: expected en or l1, found 'l7'"),
    ],
    ids=["c", "steps", "search", "rate", "confidence", "beta", "rule"],
)
def test_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EAD(**{"c": 1.0, **change})


def on(run: Run, images: ImageSet) -> tuple[Any, Tensor, Tensor]:
    """A run's ensemble, and images with their labels as tensors."""
    ensemble, _ = run.trained()
    ensemble.requires_grad_(requires_grad=False)
    return ensemble, torch.from_numpy(as_floats(images.images)), torch.from_numpy(np.asarray(images.labels))
