"""L-infinity attacks: what they promise of every image, and whether they climb."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from tests.training.attacks.models import Linear, linear, perturbed, some_images
from training import Run
from training.attacks import BIM, FGSM, MIM, PGD, AsInPaper, LinfAttack, Targeted, Untargeted
from training.attacks.loss import ensemble_loss

ALL = [
    FGSM(eps=0.1),
    BIM(eps=0.1),
    BIM(eps=0.03, steps=3, step_size=0.02),
    PGD(eps=0.1),
    PGD(eps=0.2, steps=4, step_size=0.125, seed=5),
    PGD(eps=0.1, restarts=3),
    MIM(eps=0.1),
    MIM(eps=0.1, decay=0.5),
]
NAMES = [
    "fgsm-0.1",
    "bim10-0.1",
    "bim3-0.03-by-0.02",
    "pgd10-0.1",
    "pgd4-0.2-by-0.125",
    "pgd10x3-0.1",
    "mim10-0.1",
    "mim10-0.1-decay0.5",
]


def losses(ensemble: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        return ensemble_loss(ensemble(images), labels).mean().item()


def test_names_say_method_and_strength() -> None:
    assert [settings.name for settings in ALL] == NAMES


def test_default_steps_are_the_papers() -> None:
    assert BIM(eps=0.2).stride == PGD(eps=0.2).stride == pytest.approx(0.02)
    assert BIM(eps=0.2).iterations == PGD(eps=0.2).iterations == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: FGSM(eps=0.0), "eps: expected a number above 0 and at most 1, .* found 0.0"),
        (lambda: FGSM(eps=float("nan")), "eps: .* found nan"),
        (lambda: BIM(eps=1.5), "eps: .* found 1.5"),
        (lambda: BIM(eps=0.1, steps=0), "steps: expected at least 1, found 0"),
        (lambda: PGD(eps=0.1, step_size=-0.1), "step_size: expected a number above 0 .* found -0.1"),
        (lambda: PGD(eps=0.1, seed=-1), "seed: expected at least 0, found -1"),
        (lambda: PGD(eps=0.1, restarts=0), "restarts: expected at least 1, found 0"),
        (lambda: MIM(eps=0.1, decay=-1.0), "decay: expected a number of at least 0, found -1.0"),
    ],
    ids=["eps-0", "eps-nan", "eps-large", "steps", "step-size", "seed", "restarts", "decay"],
)
def test_settings_are_refused(settings: object, message: str) -> None:
    assert callable(settings)
    with pytest.raises(InputError, match=message):
        settings()


@pytest.mark.parametrize("settings", ALL, ids=NAMES)
def test_every_image_stays_in_the_ball_and_in_range(settings: LinfAttack) -> None:
    images, labels = some_images(64)
    attacked = perturbed(linear(), images, labels, settings)
    assert attacked.dtype == torch.float32
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    # As a checker would compute it, in float32 and in float64.
    assert (attacked - images).abs().max().item() <= np.float32(settings.eps)
    assert (attacked.double() - images.double()).abs().max().item() <= settings.eps
    assert not torch.equal(attacked, images)


def test_the_whole_ball_is_used() -> None:
    images, labels = some_images(64)
    attacked = perturbed(linear(), images, labels, FGSM(eps=0.1))
    inner = (images >= 0.1) & (images <= 0.9)
    assert (attacked - images)[inner].abs().min() >= 0.1 - 1e-7


def test_fgsm_is_one_step_of_bim_is_the_computation_by_hand() -> None:
    ensemble, (images, labels) = linear(), some_images()
    weights, pixels = ensemble.weights.double(), images.flatten(1).double()
    members = torch.softmax(torch.einsum("klp,np->nkl", weights, pixels), dim=2)
    own = members[torch.arange(len(labels)), :, labels]  # (N, K)
    # -d log(mean p_y)/dx = sum over k of p_y^k / sum(p_y) * (sum over j of p_j^k w_j^k - w_y^k)
    slopes = torch.einsum("nkl,klp->nkp", members, weights) - weights[:, labels].transpose(0, 1)
    gradient = torch.einsum("nk,nkp->np", own / own.sum(dim=1, keepdim=True), slopes)
    expected = (pixels + 0.1 * gradient.sign()).clamp(0, 1).reshape(images.shape)

    fgsm = perturbed(ensemble, images, labels, FGSM(eps=0.1))
    assert torch.equal(fgsm, perturbed(ensemble, images, labels, BIM(eps=0.1, steps=1)))
    np.testing.assert_allclose(fgsm.numpy(), expected.numpy(), atol=1e-7)


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_an_attack_climbs_where_members_are_certain(scale: float) -> None:
    """Margins of hundreds, and still the sign that exact arithmetic gives: towards the closest other class."""
    ensemble, (images, _) = linear(scale=scale), some_images(64)
    one = Linear(ensemble.weights[:1].repeat(3, 1, 1))
    margins = one(images)[:, 0]
    labels = margins.argmax(dim=1)
    second = margins.topk(2).indices[:, 1]
    clear = (margins.topk(3).values.diff().abs() > 20).all(dim=1)  # then one class alone decides the sign
    assert clear.any()
    attacked = perturbed(one, images, labels, FGSM(eps=0.1))
    sign = (one.weights[0, second] - one.weights[0, labels]).sign().reshape(images.shape)
    expected = (images + 0.1 * sign).clamp(0, 1)
    assert torch.allclose(attacked[clear], expected[clear], atol=1e-7)


def test_starting_points_depend_on_the_seed_and_the_row_alone() -> None:
    images, _ = some_images(3)
    start = PGD(eps=0.1, seed=1).start(images, np.array([7, 8, 7]))
    offsets = start - images
    assert torch.allclose(offsets[0], offsets[2], atol=1e-7)
    assert not torch.allclose(offsets[0], offsets[1], atol=1e-3)
    assert torch.equal(start[1:2], PGD(eps=0.1, seed=1).start(images[1:2], np.array([8])))
    assert not torch.equal(start, PGD(eps=0.1, seed=2).start(images, np.array([7, 8, 7])))
    assert 0.05 < offsets.abs().max() <= 0.1 + 1e-6


def test_more_steps_climb_higher(run: Run, validation: ImageSet) -> None:
    ensemble, _ = run.trained()
    images, labels = torch.from_numpy(as_floats(validation.images)), torch.from_numpy(np.asarray(validation.labels))
    reached = [losses(ensemble, images, labels)]
    for steps in (1, 3, 10):
        settings = PGD(eps=0.2, steps=steps, step_size=0.04)
        reached.append(losses(ensemble, perturbed(ensemble, images, labels, settings), labels))
    assert reached == sorted(set(reached))


def test_no_random_search_beats_pgd(run: Run, validation: ImageSet) -> None:
    ensemble, _ = run.trained()
    images, labels = torch.from_numpy(as_floats(validation.images)), torch.from_numpy(np.asarray(validation.labels))
    attacked = perturbed(ensemble, images, labels, PGD(eps=0.2))
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        best = ensemble_loss(ensemble(images), labels)
        for _ in range(50):
            noise = torch.from_numpy(rng.uniform(-0.2, 0.2, size=images.shape)).float()
            best = torch.maximum(best, ensemble_loss(ensemble((images + noise).clamp(0, 1)), labels))
        assert (ensemble_loss(ensemble(attacked), labels) >= best).all()


def test_mim_is_the_computation_by_hand() -> None:
    """Two members alike: the gradient of -log F_y is theirs, sum over j of p_j w_j - w_y."""
    images, labels = some_images()
    one = linear().weights[:1]
    ensemble = Linear(one.repeat(2, 1, 1))
    weights, clean = one[0].double().numpy(), images.flatten(1).double().numpy()
    current, momentum = clean.copy(), np.zeros_like(clean)
    for _ in range(3):
        logits = current @ weights.T
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        slope = chances @ weights - weights[labels.numpy()]
        momentum = 0.5 * momentum + slope / np.abs(slope).sum(axis=1, keepdims=True)
        stepped = current + 0.04 * np.sign(momentum)
        current = np.clip(np.clip(stepped, clean - 0.1, clean + 0.1), 0, 1)
    found = perturbed(ensemble, images, labels, MIM(eps=0.1, steps=3, step_size=0.04, decay=0.5))
    np.testing.assert_allclose(found.flatten(1).numpy(), current, atol=1e-6)


def test_mim_without_momentum_is_bim() -> None:
    ensemble, (images, labels) = linear(), some_images()
    mim = perturbed(ensemble, images, labels, MIM(eps=0.1, decay=0.0))
    assert torch.equal(mim, perturbed(ensemble, images, labels, BIM(eps=0.1)))


def test_a_targeted_attack_climbs_towards_its_target() -> None:
    ensemble, (images, labels) = linear(), some_images(64)
    targets = (labels + 1) % 5
    attacked = perturbed(ensemble, images, targets, BIM(eps=1.0), Targeted)
    assert losses(ensemble, attacked, targets) < losses(ensemble, images, targets) / 2
    with torch.inference_mode():
        reached = Targeted(targets).succeeded(ensemble(attacked))
    assert reached.all()


def test_the_papers_loss_is_weaker_than_the_right_one(run: Run, validation: ImageSet) -> None:
    """As on trained networks, whose probabilities a second softmax makes flat."""
    ensemble, _ = run.trained()
    images, labels = torch.from_numpy(as_floats(validation.images)), torch.from_numpy(np.asarray(validation.labels))
    right = losses(ensemble, perturbed(ensemble, images, labels, PGD(eps=0.2)), labels)
    weak = losses(ensemble, perturbed(ensemble, images, labels, PGD(eps=0.2), AsInPaper), labels)
    assert losses(ensemble, images, labels) < weak < right


def test_each_restart_fools_those_that_earlier_ones_did_not(run: Run, validation: ImageSet) -> None:
    ensemble, _ = run.trained()
    images, labels = torch.from_numpy(as_floats(validation.images)), torch.from_numpy(np.asarray(validation.labels))

    def fooled(attack: PGD) -> Tensor:
        attacked = perturbed(ensemble, images, labels, attack)
        with torch.inference_mode():
            return Untargeted(labels).succeeded(ensemble(attacked))

    each = torch.stack([fooled(PGD(eps=0.1, steps=1, step_size=0.05, seed=seed)) for seed in range(4)])
    together = fooled(PGD(eps=0.1, steps=1, step_size=0.05, restarts=4))
    assert torch.equal(together, each.any(dim=0))
    assert together.sum() > each[0].sum()


def test_of_failed_restarts_the_highest_is_returned() -> None:
    ensemble, (images, labels) = linear(), some_images(16)
    single = [perturbed(ensemble, images, labels, PGD(eps=0.01, steps=1, step_size=0.001, seed=s)) for s in range(3)]
    with torch.inference_mode():
        reached = torch.stack([ensemble_loss(ensemble(found), labels) for found in single])
        failed = torch.stack([~Untargeted(labels).succeeded(ensemble(found)) for found in single]).all(dim=0)
    assert failed.any()
    best = torch.stack(single)[reached.argmax(dim=0), torch.arange(len(images))]
    attack = PGD(eps=0.01, steps=1, step_size=0.001, restarts=3)
    assert torch.equal(perturbed(ensemble, images, labels, attack)[failed], best[failed])


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    images, labels = some_images(64)
    for attack in (FGSM(eps=0.1), PGD(eps=0.01, restarts=3)):
        attack.perturb(linear(), images, Untargeted(labels), np.arange(64), progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        shares.clear()
