"""Both forms of the saliency map attack, each against a slow twin that follows one image's steps."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.errors import InputError
from detector.prediction import mean_prediction
from tests.training.attacks.models import Linear, linear, perturbed, some_images
from training.attacks import JSMA, AsInPaper, JSMAPairs, Objective, Targeted, Untargeted


def certain() -> tuple[Linear, Tensor, Tensor]:
    """An ensemble, images, and what it says of them, so that there is something to leave."""
    ensemble, (images, _) = linear(), some_images(24)
    return ensemble, images, predicted(ensemble, images)


def predicted(ensemble: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.from_numpy(mean_prediction(ensemble(images).double().numpy()).argmax(axis=1))


def log_prediction(ensemble: nn.Module, image: Tensor) -> Tensor:
    chances: Tensor = ensemble(image[None]).double().softmax(dim=2).mean(dim=1)
    return chances.log()[0]


def greedy_twin(ensemble: nn.Module, image: Tensor, label: int, *, attack: JSMA, stalls: bool) -> Tensor:
    """One image, one step after another, as the authors' code has it: dt^2 among those of dt >= 0."""
    current = image.clone()
    for step in range(math.floor(attack.gamma * image.numel()) + 1):
        if int(predicted(ensemble, current[None])) != label:
            return current
        if step == math.floor(attack.gamma * image.numel()):
            break
        at = current.clone().requires_grad_()
        (slope,) = torch.autograd.grad(log_prediction(ensemble, at)[label].exp(), at)
        best, place = -math.inf, 0
        for index, (value, dt) in enumerate(zip(current.flatten().tolist(), slope.flatten().tolist(), strict=True)):
            if (value < 1 if stalls else value > 0) and dt >= 0 and dt * dt > best:
                best, place = dt * dt, index
        flat = current.flatten()
        flat[place] = max(0.0, flat[place].item() - float(np.float32(attack.theta)))
    return image


def pairs_twin(ensemble: nn.Module, image: Tensor, target: int, *, attack: JSMAPairs) -> Tensor:
    """One image and all pairs, one after another, as in Papernot et al."""
    current = image.clone()
    sign = math.copysign(1, attack.theta)
    for step in range(math.floor(attack.gamma * image.numel() / 2) + 1):
        if int(predicted(ensemble, current[None])) == target:
            return current
        if step == math.floor(attack.gamma * image.numel() / 2):
            break
        jacobian = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
            lambda x: log_prediction(ensemble, x), current
        )
        a = sign * jacobian[target].flatten()
        b = sign * (jacobian.sum(dim=0) - jacobian[target]).flatten()
        flat = current.flatten()
        free = [i for i, value in enumerate(flat.tolist()) if (value < 1 if sign > 0 else value > 0)]
        best, chosen = 0.0, None
        for p in free:
            for q in free:
                one, other = (a[p] + a[q]).item(), (b[p] + b[q]).item()
                if p < q and one > 0 and other < 0 and -one * other > best:
                    best, chosen = -one * other, (p, q)
        if chosen is None:
            break
        for place in chosen:
            flat[place] = min(1.0, max(0.0, flat[place].item() + float(np.float32(attack.theta))))
    return image


@pytest.mark.parametrize("objective", [Untargeted, AsInPaper])
def test_the_greedy_form_is_its_slow_twin(objective: type[Objective]) -> None:
    ensemble, images, labels = certain()
    attack = JSMA(theta=0.2, gamma=0.5)
    found = perturbed(ensemble, images, labels, attack, objective)
    twins = [
        greedy_twin(ensemble, image, int(label), attack=attack, stalls=objective is AsInPaper)
        for image, label in zip(images, labels, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), torch.stack(twins).numpy(), atol=1e-6)
    changed = (found != images).flatten(1).any(dim=1)
    assert 0 < changed.sum() < len(images)


@pytest.mark.parametrize("theta", [1.0, 0.3, -0.4])
def test_the_pairwise_form_is_its_slow_twin(theta: float) -> None:
    ensemble, images, labels = certain()
    attack, targets = JSMAPairs(theta=theta, gamma=0.7), (labels + 1) % 5
    found = perturbed(ensemble, images[:8], targets[:8], attack, Targeted)
    twins = [
        pairs_twin(ensemble, image, int(target), attack=attack)
        for image, target in zip(images[:8], targets[:8], strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), torch.stack(twins).numpy(), atol=1e-6)
    assert (found != images[:8]).any()


def test_pairs_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, images, labels = certain()
    attack, targets = JSMAPairs(gamma=0.7), (labels + 1) % 5
    whole = perturbed(ensemble, images, targets, attack, Targeted)
    monkeypatch.setattr("training.attacks.jsma_pairs._PAIRS", 24 * 16 * 5)
    assert torch.equal(whole, perturbed(ensemble, images, targets, attack, Targeted))


@pytest.mark.parametrize(
    ("attack", "objective"),
    [(JSMA(theta=0.2, gamma=0.5), Untargeted), (JSMAPairs(gamma=0.5), Targeted), (JSMAPairs(gamma=0.5), Untargeted)],
    ids=["greedy", "pairs to a target", "pairs away"],
)
def test_success_or_the_input_in_any_batch(attack: JSMA | JSMAPairs, objective: type[Objective]) -> None:
    ensemble, images, labels = certain()
    wanted = (labels + 2) % 5 if objective is Targeted else labels
    found = perturbed(ensemble, images, wanted, attack, objective)
    with torch.inference_mode():
        reached = objective(wanted).succeeded(ensemble(found))
    assert reached.any()
    assert torch.equal(found[~reached], images[~reached])
    assert found.min() >= 0
    assert found.max() <= 1
    share = (found != images).flatten(1).double().mean(dim=1).max()
    assert share <= attack.gamma
    for row in range(len(images)):
        alone = perturbed(ensemble, images[row : row + 1], wanted[row : row + 1], attack, objective)
        assert torch.equal(alone, found[row : row + 1])


def test_as_in_the_paper_a_black_value_is_chosen_for_ever() -> None:
    """The first value weighs most and is 0 already: the paper's form stalls there, the other goes on."""
    weights = torch.zeros(2, 3, 16)
    weights[:, 0, 0], weights[:, 0, 1] = 9.0, 3.0
    images = torch.zeros(1, 1, 4, 4)
    images[0, 0, 0, 1] = 0.9
    weights[:, 1, 2] = 2.0
    images[0, 0, 0, 2] = 1.0
    labels = torch.tensor([0])
    attack = JSMA(theta=0.3, gamma=0.5)
    assert torch.equal(perturbed(Linear(weights), images, labels, attack, AsInPaper), images)
    found = perturbed(Linear(weights), images, labels, attack, Untargeted)
    assert predicted(Linear(weights), found).tolist() != [0]
    assert (found != images).flatten().nonzero().flatten().tolist() == [1]


def test_more_steps_fool_no_fewer() -> None:
    ensemble, images, labels = certain()
    fooled = []
    for gamma in (0.1, 0.3, 0.6):
        found = perturbed(ensemble, images, labels, JSMA(theta=0.3, gamma=gamma))
        fooled.append(int((predicted(ensemble, found) != labels).sum()))
    assert fooled == sorted(fooled)
    assert fooled[0] < fooled[-1]


def test_the_greedy_form_has_no_target() -> None:
    images, labels = some_images()
    with pytest.raises(InputError, match="jsma: expected to leave a class, found one to reach"):
        perturbed(linear(), images, labels, JSMA(theta=0.1, gamma=0.1), Targeted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: JSMA(theta=0.0, gamma=0.1), "theta: expected a number above 0"),
        (lambda: JSMA(theta=0.1, gamma=1.5), "gamma: expected a share above 0 and at most 1, found 1.5"),
        (lambda: JSMAPairs(theta=0.0), "theta: expected a number other than 0"),
        (lambda: JSMAPairs(gamma=0.0), "gamma: expected a share above 0"),
    ],
    ids=["theta", "gamma", "no change", "no share"],
)
def test_settings_are_refused(settings: object, message: str) -> None:
    assert callable(settings)
    with pytest.raises(InputError, match=message):
        settings()


def test_names() -> None:
    assert JSMA(theta=0.1, gamma=0.05).name == "jsma-0.05-by-0.1"
    assert JSMAPairs().name == "jsma-pairs-0.1"
    assert JSMAPairs(theta=-0.5).name == "jsma-pairs-0.1-by--0.5"
