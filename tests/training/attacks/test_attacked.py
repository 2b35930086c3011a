"""Attacked images of a run: what is known about each, and a stop that costs nothing."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from detector import goal
from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.prediction import mean_prediction
from training import Run, attack, export, sample
from training.aim import Aim, AwayAsInPaper, AwayFromLabel, Batch, Towards
from training.attacks import BIM, FGSM, MIM, PGD, AsInPaper, Attack, CarliniWagner, JSMAPairs, Targeted, Untargeted
from training.ensemble import Ensemble


@pytest.mark.parametrize("settings", [FGSM(eps=0.1), PGD(eps=0.1)], ids=["fgsm", "pgd"])
def test_an_image_is_attacked_alike_in_any_batch(run: Run, validation: ImageSet, settings: Attack) -> None:
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
    found = attacked.info["attack"].pop("found")
    assert attacked.info == {
        "dataset": "digits",
        "split": "validation",
        "attack": {
            "name": "pgd10-0.2",
            "method": "pgd",
            "eps": 0.2,
            "steps": 10,
            "step_size": 0.02,
            "restarts": 1,
            "seed": 3,
            "loss": "label",
        },
    }
    with torch.inference_mode():
        members = ensemble(torch.from_numpy(attacked.images)).argmax(dim=2).numpy()
    won = np.asarray(attacked.success)
    change = (attacked.images.astype(np.float64) - validation.images)[won].reshape(won.sum(), -1)
    assert found["clean_correct"] == np.asarray(attacked.clean_correct).sum()
    assert found["success"] == won.sum()
    assert found["wrong_after"]["ensemble"] == (after != validation.labels).sum()
    assert found["wrong_after"]["members"] == (validation.labels != members.T).sum(axis=1).tolist()
    assert found["norms_of_successes"] == pytest.approx(
        {
            "l0": (change != 0).mean(),
            "l1": np.abs(change).sum(axis=1).mean(),
            "l2": np.sqrt((change**2).sum(axis=1)).mean(),
            "linf": np.abs(change).max(axis=1).mean(),
        }
    )


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


def test_one_member_is_attacked_and_the_ensemble_judges(run: Run, validation: ImageSet) -> None:
    """A member falls most often where it is the one attacked."""
    some = sample(validation, 60)
    found = [
        attack(run, some, PGD(eps=0.05), member=member, progress=False).info["attack"]["found"]["wrong_after"]
        for member in range(3)
    ]
    fallen = np.array([each["members"] for each in found])
    assert fallen.argmax(axis=0).tolist() == [0, 1, 2]
    whole = attack(run, some, PGD(eps=0.05), progress=False).info["attack"]["found"]["wrong_after"]
    assert whole["ensemble"] >= max(each["ensemble"] for each in found)


def test_members_that_are_not_there_are_refused(run: Run, validation: ImageSet) -> None:
    with pytest.raises(InputError, match="member: expected 0 to 2, found 3"):
        attack(run, validation, FGSM(eps=0.1), member=3, progress=False)


@pytest.fixture(scope="module")
def sessions(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[onnxruntime.InferenceSession]:
    """The members as they are exported."""
    bundle = export(run, tmp_path_factory.mktemp("exported") / "bundle")
    return [onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]) for each in bundle.members]


@pytest.mark.parametrize(
    "settings",
    [PGD(eps=0.1), CarliniWagner(c=10.0, steps=60), JSMAPairs(gamma=0.1)],
    ids=lambda settings: settings.method,
)
def test_success_is_what_the_exported_ensemble_says(
    run: Run, validation: ImageSet, sessions: list[onnxruntime.InferenceSession], settings: Attack
) -> None:
    some = sample(validation, 40)
    found = attack(run, some, settings, progress=False)
    before, after = (
        np.stack([each.run(["logits"], {"images": images})[0] for each in sessions], axis=1)
        for images in (some.images, found.images)
    )
    right, wrong = (mean_prediction(logits).argmax(axis=1) for logits in (before, after))
    expected = (right == some.labels) & (wrong != some.labels)
    assert expected.any()
    assert np.array_equal(np.asarray(found.success), expected)


def test_where_the_folded_copy_is_mistaken_the_networks_decide(
    run: Run, validation: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy with other answers: what fools it alone is no success, and is attacked again until it is one."""
    some, settings = sample(validation, 40), CarliniWagner(c=10.0, steps=60, confidence=0.0)
    alone = attack(run, some, settings, progress=False)
    network, _ = run.trained()
    spoilt = deepcopy(network).requires_grad_(requires_grad=False)
    with torch.no_grad():
        for weights in spoilt.parameters():
            weights.mul_(1 + 0.05 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)))
    monkeypatch.setattr("training.victim.folded", lambda *_: spoilt)
    found = attack(run, some, settings, progress=False)
    changed = (found.images != some.images).any(axis=(1, 2, 3))
    with torch.no_grad():
        answers = mean_prediction(network(torch.from_numpy(found.images)).numpy()).argmax(axis=1)
    assert (answers != some.labels)[changed].all()
    assert np.asarray(found.success).sum() > 0.9 * np.asarray(alone.success).sum() > 0


def test_the_networks_are_judged_by_in_full_float32(
    run: Run, validation: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a CPU has anyway: what is looked at is what a GPU would be told."""
    short: dict[bool, set[bool]] = {True: set(), False: set()}
    forward = Ensemble.forward

    def looking(self: Ensemble, images: torch.Tensor) -> torch.Tensor:
        is_folded = not any(isinstance(module, torch.nn.BatchNorm2d) for module in self.modules())
        short[is_folded].add(torch.backends.cudnn.allow_tf32)
        return forward(self, images)

    monkeypatch.setattr(Ensemble, "forward", looking)
    attack(run, sample(validation, 5), FGSM(eps=0.1), progress=False)
    assert short[False] == {False}
    assert True in short[True]
    assert torch.backends.cudnn.allow_tf32


class Interrupted(Exception):
    """What stops an attack in a test."""


def test_a_stopped_attack_goes_on_where_it_was(
    run: Run, validation: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, whole = sample(validation, 30), PGD(eps=0.1)
    expected = attack(run, some, whole, batch_size=8, progress=False)
    batches: list[int] = []
    perturb = PGD.perturb

    def counting(self, ensemble, images, *rest, **named):  # type: ignore[no-untyped-def]
        if len(batches) == 2:
            raise Interrupted
        batches.append(len(images))
        return perturb(self, ensemble, images, *rest, **named)

    monkeypatch.setattr(PGD, "perturb", counting)
    with pytest.raises(Interrupted):
        attack(run, some, whole, batch_size=8, progress=False, unfinished=tmp_path / "kept")
    batches.clear()
    found = attack(run, some, whole, batch_size=8, progress=False, unfinished=tmp_path / "kept")
    assert batches == [8, 6]
    assert np.array_equal(found.images, expected.images)
    assert found.info == expected.info


@pytest.mark.parametrize(
    ("settings", "change"),
    [(PGD(eps=0.2), {}), (PGD(eps=0.1), {"batch_size": 7}), (PGD(eps=0.1), {"member": 0})],
    ids=["eps", "batch size", "member"],
)
def test_another_attacks_unfinished_work_is_refused(
    run: Run, validation: ImageSet, tmp_path: Path, settings: Attack, change: dict[str, int]
) -> None:
    some = sample(validation, 5)
    attack(run, some, PGD(eps=0.1), progress=False, unfinished=tmp_path / "kept")
    with pytest.raises(InputError, match="expected what the same command left unfinished, found that of another"):
        attack(run, some, settings, progress=False, unfinished=tmp_path / "kept", **change)  # type: ignore[arg-type]


def batch(labels: list[int], predictions: list[int], rows: list[int]) -> Batch:
    return Batch(labels=torch.tensor(labels), predictions=torch.tensor(predictions), classes=10, rows=np.array(rows))


def test_aims_name_the_class_to_leave_or_to_reach() -> None:
    some = batch([1, 9], [2, 9], [0, 5])
    away, paper, after = (aim.objective(some) for aim in (AwayFromLabel(), AwayAsInPaper(), Towards("next")))
    assert type(away) is Untargeted
    assert away.labels.tolist() == [1, 9]
    assert type(paper) is AsInPaper
    assert paper.labels.tolist() == [2, 9]
    assert type(after) is Targeted
    assert after.labels.tolist() == [2, 0]
    assert Towards(3).objective(some).labels.tolist() == [3, 3]


def test_random_targets_are_other_classes_and_an_images_own() -> None:
    labels, rows = [4] * 200, list(range(200))
    targets = Towards("random", seed=1).objective(batch(labels, labels, rows)).labels
    assert sorted(set(targets.tolist())) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    some = Towards("random", seed=1).objective(batch(labels[:2], labels[:2], [7, 3])).labels
    assert some.tolist() == targets[[7, 3]].tolist()
    assert targets.tolist() != Towards("random", seed=2).objective(batch(labels, labels, rows)).labels.tolist()


@pytest.mark.parametrize("choice", ["nearest", -1], ids=str)
def test_other_targets_are_refused(choice: str | int) -> None:
    with pytest.raises(InputError, match="target: expected random, next or the number of a class"):
        Towards(choice)


@pytest.mark.parametrize(
    ("aim", "member", "name"),
    [
        (AwayFromLabel(), None, "fgsm-0.1"),
        (AwayAsInPaper(), None, "fgsm-0.1-as-in-paper"),
        (Towards("next"), None, "fgsm-0.1-towards-next"),
        (Towards(3), 0, "fgsm-0.1-towards-3-on-member0"),
        (AwayFromLabel(), 1, "fgsm-0.1-on-member1"),
    ],
    ids=["usual", "paper", "next", "class", "member"],
)
def test_a_name_tells_loss_target_and_member(
    run: Run, validation: ImageSet, aim: Aim, member: int | None, name: str
) -> None:
    found = attack(run, sample(validation, 5), FGSM(eps=0.1), aim=aim, member=member, progress=False)
    assert found.attack == name


@pytest.mark.parametrize("choice", ["random", "next", 3], ids=str)
def test_it_is_counted_how_many_images_are_taken_for_their_target(
    run: Run, validation: ImageSet, choice: str | int
) -> None:
    attacked = attack(run, validation, PGD(eps=0.3), aim=Towards(choice, seed=2), progress=False)
    ensemble, _ = run.trained()
    with torch.inference_mode():
        after = mean_prediction(ensemble(torch.from_numpy(attacked.images)).numpy()).argmax(axis=1)
    targets = goal.Towards(choice, 2).targets(np.asarray(validation.labels), validation.rows, 10)
    reached = attacked.info["attack"]["found"]["target_reached"]
    assert reached == (after == targets).sum()
    assert 0 < reached < len(validation)


def test_a_target_beyond_the_classes_is_refused(run: Run, validation: ImageSet) -> None:
    with pytest.raises(InputError, match="target: expected 0 to 9, found 10"):
        attack(run, validation, MIM(eps=0.1), aim=Towards(10), progress=False)


def test_several_steps_fool_no_fewer_than_one(run: Run, validation: ImageSet) -> None:
    """Where gradients are masked, they may: one step jumps over what hides the way."""
    for eps in (0.1, 0.2):
        one, several = (
            np.asarray(attack(run, validation, settings, progress=False).success).sum()
            for settings in (FGSM(eps=eps), PGD(eps=eps, steps=20, step_size=eps / 8))
        )
        assert several > one > 0


def test_an_unbounded_attack_always_succeeds(run: Run, validation: ImageSet) -> None:
    """Where gradients are masked, it does not."""
    attacked = attack(run, validation, BIM(eps=1.0, steps=20, step_size=0.1), progress=False)
    assert np.array_equal(np.asarray(attacked.success), np.asarray(attacked.clean_correct))
