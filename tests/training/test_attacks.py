"""Gradient attacks: what they promise of every image, and whether they climb."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.prediction import mean_prediction
from training import Run, attack, sample
from training.attacks import ATTACKS, BIM, FGSM, PGD, LinfAttack, climb, ensemble_loss

ALL = [
    FGSM(eps=0.1),
    BIM(eps=0.1),
    BIM(eps=0.03, steps=3, step_size=0.02),
    PGD(eps=0.1),
    PGD(eps=0.2, steps=4, step_size=0.125, seed=5),
]
NAMES = ["fgsm-0.1", "bim10-0.1", "bim3-0.03-by-0.02", "pgd10-0.1", "pgd4-0.2-by-0.125"]


class Linear(nn.Module):
    """K linear members, whose gradient can be written down."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights  # (K, L, pixels)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("klp,np->nkl", self.weights, images.flatten(1))


def linear(scale: float = 1.0) -> Linear:
    return Linear(torch.from_numpy(np.random.default_rng(2).normal(size=(3, 5, 16)) * scale).float())


def some_images(count: int = 6) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(1)
    # Black and white pixels too, where [0, 1] is the tighter bound.
    images = np.clip(rng.uniform(-0.2, 1.2, size=(count, 1, 4, 4)), 0, 1).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(rng.integers(5, size=count))


def losses(ensemble: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        return ensemble_loss(ensemble(images), labels).mean().item()


def test_the_table_and_the_names() -> None:
    assert sorted(ATTACKS) == ["bim", "fgsm", "pgd"]
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
    ],
    ids=["eps-0", "eps-nan", "eps-large", "steps", "step-size", "seed"],
)
def test_settings_are_refused(settings: object, message: str) -> None:
    assert callable(settings)
    with pytest.raises(InputError, match=message):
        settings()


def test_loss_is_the_negative_log_of_the_mean_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(7, 3, 10)) * 3
    labels = np.arange(7)
    expected = -np.log(mean_prediction(logits)[np.arange(7), labels])
    found = ensemble_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_loss_has_the_gradient_of_its_values() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 4)))
    labels = torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda z: ensemble_loss(z, labels), logits.requires_grad_())


@pytest.mark.parametrize("margin", [20.0, 45.0, 90.0, 300.0])
def test_loss_does_not_saturate_where_every_member_is_certain(margin: float) -> None:
    """In closed form: d(-log F_y)/dz_y of K alike members is -(1 - p) / K, p within exp(-margin) of 1."""
    logits = torch.zeros(1, 3, 4, dtype=torch.float64)
    logits[:, :, 1] = margin
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(ensemble_loss(logits, torch.tensor([1])).sum(), logits)
    rest = math.exp(-margin)
    assert gradient[0, 0, 1].item() == pytest.approx(-3 * rest / (1 + 3 * rest) / 3, rel=1e-9)
    assert gradient[0, 0, 0].item() == pytest.approx(rest / (1 + 3 * rest) / 3, rel=1e-9)


@pytest.mark.parametrize("margin", [300.0, -300.0])
def test_loss_is_finite_in_float32(margin: float) -> None:
    logits = torch.zeros(1, 3, 4)
    logits[:, :, 1] = margin
    loss = ensemble_loss(logits, torch.tensor([1])).item()
    assert loss == pytest.approx(max(0.0, -margin + math.log(3)), abs=1e-6)


@pytest.mark.parametrize("settings", ALL, ids=NAMES)
def test_every_image_stays_in_the_ball_and_in_range(settings: LinfAttack) -> None:
    images, labels = some_images(64)
    attacked = climb(linear(), images, labels, np.arange(64), settings)
    assert attacked.dtype == torch.float32
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    # As a checker would compute it, in float32 and in float64.
    assert (attacked - images).abs().max().item() <= np.float32(settings.eps)
    assert (attacked.double() - images.double()).abs().max().item() <= settings.eps
    assert not torch.equal(attacked, images)


def test_the_whole_ball_is_used() -> None:
    images, labels = some_images(64)
    attacked = climb(linear(), images, labels, np.arange(64), FGSM(eps=0.1))
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

    rows = np.arange(len(images))
    fgsm = climb(ensemble, images, labels, rows, FGSM(eps=0.1))
    assert torch.equal(fgsm, climb(ensemble, images, labels, rows, BIM(eps=0.1, steps=1)))
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
    attacked = climb(one, images, labels, np.arange(64), FGSM(eps=0.1))
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


@pytest.mark.parametrize("settings", [FGSM(eps=0.1), PGD(eps=0.1)], ids=["fgsm", "pgd"])
def test_an_image_is_attacked_alike_in_any_batch(run: Run, validation: ImageSet, settings: LinfAttack) -> None:
    some = sample(validation, 20)
    whole = attack(run, some, settings, batch_size=1000, progress=False)
    for size in (1, 7):
        assert np.array_equal(whole.images, attack(run, some, settings, batch_size=size, progress=False).images)


def test_more_radius_fools_more(run: Run, validation: ImageSet) -> None:
    fooled = []
    for eps in (0.05, 0.1, 0.2, 0.3):
        success = attack(run, validation, PGD(eps=eps), progress=False).success
        assert success is not None
        fooled.append(int(success.sum()))
    assert fooled == sorted(set(fooled))


def test_more_steps_climb_higher(run: Run, validation: ImageSet) -> None:
    ensemble, _ = run.trained()
    images, labels = torch.from_numpy(as_floats(validation.images)), torch.from_numpy(np.asarray(validation.labels))
    rows = np.arange(len(images))
    reached = [losses(ensemble, images, labels)]
    for steps in (1, 3, 10):
        settings = PGD(eps=0.2, steps=steps, step_size=0.04)
        reached.append(losses(ensemble, climb(ensemble, images, labels, rows, settings), labels))
    assert reached == sorted(set(reached))


def test_no_random_search_beats_pgd(run: Run, validation: ImageSet) -> None:
    ensemble, _ = run.trained()
    images, labels = torch.from_numpy(as_floats(validation.images)), torch.from_numpy(np.asarray(validation.labels))
    attacked = climb(ensemble, images, labels, np.arange(len(images)), PGD(eps=0.2))
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        best = ensemble_loss(ensemble(images), labels)
        for _ in range(50):
            noise = torch.from_numpy(rng.uniform(-0.2, 0.2, size=images.shape)).float()
            best = torch.maximum(best, ensemble_loss(ensemble((images + noise).clamp(0, 1)), labels))
        assert (ensemble_loss(ensemble(attacked), labels) >= best).all()


def test_what_is_known_about_the_attacked_images(run: Run, validation: ImageSet) -> None:
    attacked = attack(run, validation, PGD(eps=0.2, seed=3), progress=False)
    ensemble, _ = run.trained()
    with torch.inference_mode():
        before = mean_prediction(ensemble(torch.from_numpy(validation.images)).numpy()).argmax(axis=1)
        after = mean_prediction(ensemble(torch.from_numpy(attacked.images)).numpy()).argmax(axis=1)
    assert attacked.images.dtype == np.float32
    assert np.array_equal(np.asarray(attacked.clean), validation.images)
    assert np.array_equal(np.asarray(attacked.labels), np.asarray(validation.labels))
    assert np.array_equal(np.asarray(attacked.source_index), np.asarray(validation.source_index))
    assert np.array_equal(np.asarray(attacked.clean_correct), before == validation.labels)
    assert np.array_equal(np.asarray(attacked.success), (before == validation.labels) & (after != validation.labels))
    assert np.asarray(attacked.success).sum() > 0
    assert attacked.info == {
        "dataset": "digits",
        "split": "validation",
        "attack": {"name": "pgd10-0.2", "method": "pgd", "eps": 0.2, "steps": 10, "step_size": 0.02, "seed": 3},
    }


def test_bytes_are_attacked_as_floats(run: Run, validation: ImageSet) -> None:
    as_bytes = ImageSet(images=(validation.images * 255).astype(np.uint8), labels=validation.labels)
    attacked = attack(run, as_bytes, FGSM(eps=0.05), progress=False)
    assert attacked.images.dtype == np.float32
    assert np.array_equal(np.asarray(attacked.clean), as_floats(as_bytes.images))
    assert np.abs(attacked.images - np.asarray(attacked.clean)).max() <= np.float32(0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "labels: expected the true label of each image, found none"),
        ({"labels": np.full(90, 10)}, "labels: expected 0 to 9, found 10 at image 0"),
        (
            {"images": np.zeros((90, 3, 8, 8), np.uint8)},
            r"images: expected shape \(N, 1, 8, 8\), found \(90, 3, 8, 8\)",
        ),
        ({"source_index": np.full(90, -2)}, "source_index: expected rows of a data set, found -2"),
    ],
    ids=["no-labels", "labels", "shape", "source-index"],
)
def test_images_that_do_not_fit_are_refused(
    run: Run, validation: ImageSet, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        attack(run, replace(validation, **change), FGSM(eps=0.1), progress=False)  # type: ignore[arg-type]
