"""Which images are for what."""

from pathlib import Path

import numpy as np

from training import Dataset
from training.attacks import FGSM
from training.detection.kept import Kept
from training.detection.subject import AIM, Subject
from training.splits import split_rows


def test_fitting_and_thresholds_share_the_calibration_part(subject: Subject, digits: Dataset) -> None:
    fit, behind = (set(images.rows.tolist()) for images in (subject.fit, subject.behind))
    assert not fit & behind
    assert fit | behind == set(split_rows(digits)["calibration"].tolist())
    assert abs(len(fit) - len(behind)) <= 1


def test_a_smaller_sample_is_part_of_a_larger_one(subject: Subject) -> None:
    small, large = (set(subject.images("test", count).rows.tolist()) for count in (10, 50))
    assert (len(small), len(large)) == (10, 50)
    assert small < large
    assert len(subject.images("validation", 10_000)) == len(split_rows(subject.dataset)["validation"])


def test_thresholds_flag_few_clean_images(subject: Subject) -> None:
    logits = subject.logits(subject.behind)
    for name, score in subject.scores.items():
        flags = subject.thresholds[name].flags(score.of(logits), np.zeros(len(logits), dtype=np.int64))
        assert flags.mean() <= 0.05, name


def test_attacked_images_are_made_once(subject: Subject, tmp_path: Path) -> None:
    kept, attack = Kept(tmp_path), FGSM(eps=0.1)
    images = subject.images("test", 5)
    file = kept.file(subject.run, attack, subject.task(attack, "test", 5), "test")
    first = kept.attacked(file, subject.run, images, attack, aim=AIM, progress=False)
    again = kept.attacked(file, subject.run, images, FGSM(eps=0.9), aim=AIM, progress=False)  # not looked at
    np.testing.assert_array_equal(first.images, again.images)
    assert {each.name for each in kept.folder.iterdir()} == {file, ".gitignore"}


def test_a_file_is_of_one_attack_on_one_part_of_so_many_images(subject: Subject, tmp_path: Path) -> None:
    kept, attack = Kept(tmp_path), FGSM(eps=0.1)
    files = {
        kept.file(subject.run, each, subject.task(each, split, count), split)
        for each in (attack, FGSM(eps=0.2)) for split in ("test", "validation") for count in (5, 6)
    }  # fmt: skip
    assert len(files) == 8
