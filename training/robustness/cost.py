"""How long the gradients of cells will take: at most so many for each image, times what one takes here.

An image that holds against the first part of AutoAttack takes more; scores, and what is written down, come on top.
"""

import math
import time
from typing import Final

import torch

from detector.imageset import ImageSet, as_floats
from training.attacks import JSMA, PGD, Attack, AutoAttack, DetectorAware, LinfAttack
from training.attacks.gradient import gradient
from training.attacks.loss import ensemble_loss
from training.attacks.minimum import MinimumAttack
from training.execution import reproducible
from training.robustness.measure import Job, Subject
from training.victim import Victim

_BATCH: Final = {"cpu": 16, "cuda": 256}
# Of AutoAttack's first part, which most images do not survive; one that survives everything costs 40 times as much.
_FIRST_PART: Final = 100
# Clean images are looked at once and attacked ones twice at most, each of which takes a third of a gradient.
_LOOKING: Final = 1.0


def gradients(attack: Attack, values: int) -> int:
    """Gradients that an attack takes for each image; of AutoAttack, for an image that falls to its first part.

    Of the attack that knows the detector, for an image that never passes.

    Args:
        attack: The attack.
        values: C * H * W, which JSMA changes one by one.
    """
    match attack:
        case PGD():
            return attack.restarts * attack.iterations
        case LinfAttack():
            return attack.iterations
        case MinimumAttack():
            return attack.steps * attack.binary_search_steps
        case JSMA():
            return math.floor(attack.gamma * values)
        case DetectorAware():
            known = attack.attack
            plain = gradients(known, values)
            return plain + attack.attempts * (known.iterations if isinstance(known, LinfAttack) else plain)
        case AutoAttack():
            return _FIRST_PART
    raise AssertionError(f"an attack of unknown cost, {attack.name}")


def work(subject: Subject, job: Job) -> float:
    """Gradients of the whole ensemble at one image that a cell takes, at most."""
    victim = subject.victim
    each = gradients(job.attack, math.prod(victim.checkpoint.image_shape))
    share = 1 if job.member is None else 1 / victim.run.config.members
    return subject.task(job).images * (each * share + _LOOKING)


def one_gradient(victim: Victim, some: ImageSet, *, threads: int) -> float:
    """Seconds for the gradient of the whole ensemble at one image, the second time, when everything is warm."""
    images = torch.from_numpy(as_floats(some.images[: _BATCH[victim.device.type]])).to(victim.device)
    labels = torch.zeros(len(images), dtype=torch.int64, device=victim.device)
    took = 0.0
    with reproducible(threads, victim.device):
        for _ in range(2):
            started = time.perf_counter()
            found = gradient(victim.folded, images, lambda logits: ensemble_loss(logits, labels))
            found.direction.sum().item()  # waits for a GPU
            took = time.perf_counter() - started
    return took / len(images)
