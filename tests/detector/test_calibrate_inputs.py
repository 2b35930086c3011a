"""Calibrating on files and folders that are read a batch at a time; long work resumed; images nobody attacked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.detector import Detector
from detector.errors import InputError
from detector.imageset import Images, ImageSet
from detector.inputs import open_images
from detector.rates import Rate
from detector.shifts import SHIFTS
from detector.targets import TargetFpr
from tests.conftest import make_images

TARGET = TargetFpr(0.2)
BYTES = np.random.default_rng(0).integers(0, 256, size=(200, 1, 8, 8), dtype=np.uint8)


def run(bundle: Bundle, clean: Any, **options: Any) -> Calibration:
    return calibrate(bundle.path, clean=clean, target=TARGET, device="cpu", **options)


def facts(calibration: Calibration) -> dict[str, Any]:
    """All but when, and by which command."""
    return calibration.model_dump(exclude={"provenance", "digest"})


def save_folder(folder: Path, images: Images, names: list[str]) -> Path:
    for name, image in zip(names, images, strict=True):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)
    return folder


def test_a_file_a_folder_and_an_array_are_the_same(bundle: Bundle, tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 20)
    names = [f"class {label}/{number:03d}" for number, label in enumerate(labels.tolist())]
    whole = ImageSet(images=BYTES, labels=labels)
    whole.save(tmp_path / "clean.npz")
    save_folder(tmp_path / "clean", BYTES, names)
    first = run(bundle, whole)
    assert first.accuracy is not None
    for name in ("clean.npz", "clean"):
        assert facts(run(bundle, open_images(tmp_path / name, bundle))) == facts(first)


def test_attacked_images_in_a_folder_go_by_their_names(bundle: Bundle, tmp_path: Path) -> None:
    names = [f"{number:03d}" for number in range(200)]
    clean = open_images(save_folder(tmp_path / "clean", BYTES, names), bundle)
    attacked = open_images(save_folder(tmp_path / "dark", BYTES // 8, names), bundle)
    found = run(bundle, clean, adversarial={"dark": attacked})
    indexed = [ImageSet(images=images, source_index=np.arange(200)) for images in (BYTES, BYTES // 8)]
    expected = run(bundle, indexed[0], adversarial={"dark": indexed[1]})
    assert found.attacks[0].flagged.n == expected.attacks[0].flagged.n == 100
    whole = ImageSet(images=BYTES)
    with pytest.raises(InputError, match=r"^dark: expected the array 'clean', .* or give folders only"):
        run(bundle, whole, adversarial={"dark": attacked})


def test_an_attacked_file_goes_by_its_origins(bundle: Bundle, tmp_path: Path) -> None:
    ImageSet(images=BYTES).save(tmp_path / "clean.npz")
    attacked = ImageSet(images=BYTES // 8, clean=BYTES, success=np.arange(200) % 2 == 0)
    attacked.save(tmp_path / "dark.npz")
    clean, read = open_images(tmp_path / "clean.npz", bundle), open_images(tmp_path / "dark.npz", bundle)
    found = run(bundle, clean, adversarial={"dark": read})
    assert facts(found) == facts(run(bundle, ImageSet(images=BYTES), adversarial={"dark": attacked}))
    assert found.attacks[0].flagged.n == 100


class Breaking(ImageSet):
    """Images that come to an end before they should."""

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        for number, batch in enumerate(super().batches(size, start)):
            if number == 65:
                raise KeyboardInterrupt
            yield batch


class Rest(ImageSet):
    """Images of which the first part must not be read again."""

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        assert start == 4096
        return super().batches(size, start)


def test_long_work_goes_on_where_it_was(bundle: Bundle) -> None:
    images = make_images(4500)
    folder = bundle.path / "calibration.json.unfinished"
    with pytest.raises(KeyboardInterrupt):
        run(bundle, Breaking(images=images), resume={"clean": "a"})
    assert folder.is_dir()
    found = run(bundle, Rest(images=images), resume={"clean": "a"})
    assert not folder.exists()
    assert Bundle.open(bundle.path).calibration == found
    assert facts(found) == facts(run(bundle, ImageSet(images=images)))


def test_other_work_leaves_what_is_unfinished(bundle: Bundle) -> None:
    """Of a few images, and of as many others: neither takes the parts for its own, nor away."""
    images = make_images(4500)
    with pytest.raises(KeyboardInterrupt):
        run(bundle, Breaking(images=images), resume={"clean": "a"})
    run(bundle, ImageSet(images=images[:300]), resume={"clean": "b"})
    others = run(bundle, ImageSet(images=images[::-1]), resume={"clean": "c"})
    assert facts(others) == facts(run(bundle, ImageSet(images=images[::-1])))
    found = run(bundle, Rest(images=images), resume={"clean": "a"})
    assert facts(found) == facts(run(bundle, ImageSet(images=images)))


@pytest.mark.parametrize("change", ["an attack", "a score", "a target", "a seed"])
def test_what_else_is_asked_does_not_matter_to_what_is_unfinished(bundle: Bundle, change: str) -> None:
    images, index = make_images(4500), np.arange(4500)
    choices: dict[str, dict[str, Any]] = {
        "an attack": {"adversarial": {"dark": ImageSet(images=images[:300] ** 2, source_index=index[:300])}},
        "a score": {"score": "mahalanobis"},
        "a target": {"changed_fpr": 0.5},
        "a seed": {"seed": 1},
    }
    options = choices[change]
    with pytest.raises(KeyboardInterrupt):
        run(bundle, Breaking(images=images, source_index=index), resume={"clean": "a"})
    found = run(bundle, Rest(images=images, source_index=index), resume={"clean": "a", "attack dark": "b"}, **options)
    assert facts(found) == facts(run(bundle, ImageSet(images=images, source_index=index), **options))
    assert not (bundle.path / "calibration.json.unfinished").exists()


def test_images_nobody_attacked(bundle: Bundle, tmp_path: Path) -> None:
    """Of the report part, judged by the very threshold; and they move nothing."""
    clean = ImageSet(images=make_images(200), source_index=np.arange(200))
    foreign = {"dark": ImageSet(images=make_images(50, 3) * np.float32(0.05))}
    plain = run(bundle, clean)
    found = run(bundle, clean, foreign=foreign, shifts=True, report=tmp_path)
    assert (found.threshold, found.clean_scores) == (plain.threshold, plain.clean_scores)
    assert [seen.name for seen in found.changed] == [shift.name for shift in SHIFTS]
    assert [seen.flagged.n for seen in found.changed] == [100] * len(SHIFTS)
    report = (tmp_path / "report.md").read_text("utf-8")
    rows = [line.split(" | ")[:2] for line in report.splitlines() if line.startswith(("| clean, ch", "| other k"))]
    assert [name.strip() for _, name in rows] == [*(seen.name for seen in found.changed), "dark"]
    opened = Bundle.open(bundle.path)
    assert opened.calibration == found
    flags = Detector(opened, device="cpu").classify(foreign["dark"].images).adversarial
    assert flags is not None
    assert found.foreign[0].name == "dark"
    assert found.foreign[0].flagged == Rate.of(flags)
    assert found.foreign[0].auc is not None


def test_a_folder_with_a_broken_image_names_it_and_leaves_the_calibration(calibrated: Bundle, tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "clean", BYTES[:20], [f"{number:02d}" for number in range(20)])
    (folder / "07.png").write_bytes(b"no image")
    before = (calibrated.path / "calibration.json").read_bytes()
    with pytest.raises(InputError, match=f"^{folder / '07.png'}: expected a PNG or JPEG"):
        run(calibrated, open_images(folder, calibrated))
    assert (calibrated.path / "calibration.json").read_bytes() == before
