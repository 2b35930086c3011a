"""One cell: what an attack does to an ensemble, its members and its gate."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from detector.diversity import log_diversity
from detector.imageset import ImageSet
from detector.targets import TargetFpr
from training import Dataset, Run, take
from training.aim import AwayAsInPaper, AwayFromLabel, Batch, Towards
from training.attacks import FGSM, MIM
from training.attacks.carlini_wagner import CarliniWagner
from training.robustness.measure import Job, Subject
from training.trainer import predict

LABEL = AwayFromLabel()


@pytest.fixture(scope="module")
def subject(run: Run, digits: Dataset) -> Subject:
    return Subject(run, digits, device="cpu", threads=1)


def test_a_cell_agrees_with_a_slow_twin(subject: Subject, run: Run, digits: Dataset) -> None:
    cell = subject.measure(Job(attack=FGSM(eps=0.15), aim=LABEL, images=120), progress=False)
    test, (ensemble, _) = take(digits, "test"), run.trained()
    chosen = np.sort(np.random.default_rng([0]).permutation(len(test))[:120])
    labels = np.asarray(test.labels)[chosen]
    counts = dict.fromkeys(("clean", "right", "held", "unnoticed", "clean_flagged"), 0)
    members = [0, 0, 0]
    for row, label in zip(chosen, labels, strict=True):
        image = torch.tensor(test.images[row][None], requires_grad=True)
        logits = ensemble(image)
        mean = torch.softmax(logits.double(), dim=2).mean(dim=1)
        (slope,) = torch.autograd.grad(-mean[0, label].log(), image)
        moved = (image.detach() + 0.15 * slope.sign()).clamp(0, 1)
        after = ensemble(moved).detach()
        was = int(mean.argmax()) == label
        now = int(torch.softmax(after.double(), dim=2).mean(dim=1).argmax()) == label
        counts["clean"] += was
        counts["right"] += now
        counts["held"] += was and now
        counts["unnoticed"] += not now and log_diversity(after.numpy())[0] >= subject.gate.least
        counts["clean_flagged"] += log_diversity(logits.detach().numpy())[0] < subject.gate.least
        for k in range(3):
            members[k] += int(after[0, k].argmax()) == label
    assert {name: getattr(cell, name).count for name in counts} == counts
    assert [share.count for share in cell.members_right] == members
    assert counts["right"] < counts["clean"]
    assert {share.n for share in (cell.clean, *cell.members_right)} == {120}
    assert cell.members_at_target == ()


def test_the_gate_is_chosen_on_clean_calibration_images_alone(subject: Subject, run: Run, digits: Dataset) -> None:
    logits = predict(run.trained()[0], take(digits, "calibration"), batch_size=100)
    assert subject.gate.least == TargetFpr(0.05).threshold(log_diversity(logits), [])
    moved = digits.images.copy()
    rows = take(digits, "test").source_index
    moved[rows] = 1 - moved[rows]
    assert Subject(run, replace(digits, images=moved), device="cpu", threads=1).gate == subject.gate


def test_flagged_is_below_the_threshold_and_never_at_it(subject: Subject, run: Run, digits: Dataset) -> None:
    logits = predict(run.trained()[0], take(digits, "calibration"), batch_size=100)
    scores = log_diversity(logits)
    at = scores == subject.gate.least
    assert at.sum() == 1
    assert np.array_equal(subject.gate.flags(logits), scores < subject.gate.least)


def test_what_cw_leaves_of_the_papers_protocol_is_what_it_leaves_of_the_labels(subject: Subject) -> None:
    settings = CarliniWagner(c=1.0, steps=60)
    paper, label = (
        subject.measure(Job(attack=settings, aim=aim, images=40), progress=False) for aim in (AwayAsInPaper(), LABEL)
    )
    assert paper.held == label.right
    assert 0 < paper.held.count < paper.clean.count < 40  # some held, some fell, some were wrong before


def test_samples_are_nested_and_the_same_for_every_run(subject: Subject, baseline: Run, digits: Dataset) -> None:
    job = Job(attack=FGSM(eps=0.1), aim=LABEL, images=10**6)
    other = Subject(baseline, digits, device="cpu", threads=1)
    assert subject.task(job).images == other.task(job).images == len(take(digits, "test"))
    assert subject.task(job).seed == other.task(job).seed
    assert subject.task(job).run != other.task(job).run


def wanted_of(images: ImageSet, aim: Towards | AwayFromLabel) -> torch.Tensor:
    """The true labels, or the targets."""
    labels = torch.as_tensor(np.asarray(images.labels))
    if not isinstance(aim, Towards):
        return labels
    assert images.source_index is not None
    return aim.objective(Batch(labels=labels, predictions=labels, classes=10, rows=images.source_index)).labels


def crafted(run: Run, images: ImageSet, member: int, aim: Towards | AwayFromLabel, settings: MIM) -> np.ndarray:
    """MIM on one network, written out: (N, K) answers of the members to what was crafted on one of them."""
    ensemble, _ = run.trained()
    labels = wanted_of(images, aim)
    answers = []
    for image, label in zip(images.images, labels, strict=True):
        clean = torch.tensor(image[None])
        now, momentum = clean.clone(), torch.zeros_like(clean)
        for _ in range(settings.steps):
            now.requires_grad_()
            loss = functional.cross_entropy(ensemble.members[member](now), label[None])
            (slope,) = torch.autograd.grad(loss, now)
            momentum = momentum + slope / slope.abs().sum()
            step = momentum.sign() * settings.eps / settings.steps
            now = now.detach() + (-step if isinstance(aim, Towards) else step)
            now = now.clamp(clean - settings.eps, clean + settings.eps).clamp(0, 1)
        answers.append([int(network(now).argmax()) for network in ensemble.members])
    return np.array(answers)


@pytest.mark.parametrize("aim", [LABEL, Towards("random")], ids=["untargeted", "targeted"])
def test_transfer_agrees_with_a_slow_twin(subject: Subject, run: Run, aim: Towards | AwayFromLabel) -> None:
    settings = MIM(eps=0.25)
    images = subject.sample(12)
    cells = [subject.measure(Job(attack=settings, aim=aim, images=12, member=k), progress=False) for k in range(3)]
    wanted = wanted_of(images, aim)
    found = [
        [share.count for share in (cell.members_at_target if isinstance(aim, Towards) else cell.members_right)]
        for cell in cells
    ]
    expected = [
        (crafted(run, images, k, aim, settings) == wanted.numpy()[:, None]).sum(axis=0).tolist() for k in range(3)
    ]
    assert found == expected
    assert len({count for row in found for count in row}) > 1
