"""`ledgate classify`: images through a bundle, or through a server; the answers are the same."""

import argparse
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any, Final

from detector.commands.running import add_running
from detector.errors import InputError, SettingError
from ledgate.connection import add_connection, connect

# How an image is named in the refusal of a call, and of the calls behind the first of an array.
_INDEX: Final = re.compile(r"^(?:images from (\d+) on: )?(?:encoded\.)?images\[(\d+)\]")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add = parser.add_argument
    add("source", metavar="BUNDLE|HOST:PORT", help="a bundle's folder, or a server; several of them with commas")
    add("images", type=Path, nargs="+", metavar="IMAGE|FILE.npz", help="PNG or JPEG files, or one .npz")
    add("--model", default="", metavar="NAME", help="of a server with several; else its default")
    add_running(parser, "a bundle runs")
    add("--timeout-s", type=float, default=30.0, metavar="S", help="for a server's answer, in seconds, tries included")
    add_connection(parser)
    add("--json", action="store_true", help="print one JSON array, an object for each image")


def run(options: argparse.Namespace) -> int:
    """Classifies the images."""
    names, images = _read(options.images)
    verdicts = _embedded(options, names, images) if Path(options.source).is_dir() else _served(options, names, images)
    rows = [_row(name, verdicts, index) for index, name in enumerate(names)]
    if options.json:
        print(json.dumps(rows))
        return 0
    width = max(len("image"), *(len(row["image"]) for row in rows))
    print(f"{'image':{width}}  {'class':12}  probability  confidence  {'score':>10}  verdict")
    for row in rows:
        score = "hidden" if row["score"] is None else f"{float(row['score']):.4g}"
        confidence = "none" if row["confidence"] is None else f"{row['confidence']:.3f}"
        verdict = {True: "FLAGGED", False: "not flagged", None: "not calibrated"}[row["adversarial"]]
        line = f"{row['image']:{width}}  {row['label']:12}  {row['probability']:11.3f}  {confidence:>10}"
        print(f"{line}  {score:>10}  {verdict}")
    return 0


def _read(paths: list[Path]) -> tuple[list[str], Any]:
    """Names, and either the array of one .npz or the bytes of each file."""
    from detector.files import read_file
    from detector.imageset import ImageSet

    if any(path.suffix == ".npz" for path in paths):
        if len(paths) > 1:
            raise SettingError(f"images: expected one .npz or image files, found {len(paths)} files with an .npz")
        images = ImageSet.load(paths[0]).images
        return [f"{paths[0].name}[{index}]" for index in range(len(images))], images
    return [str(path) for path in paths], [read_file(path, partial(_refuse, path)) for path in paths]


def _refuse(path: Path, why: str) -> InputError:
    """The refusal of a file."""
    return InputError(f"{path}: {why}")


def _embedded(options: argparse.Namespace, names: list[str], images: Any) -> Any:
    """Verdicts from a bundle."""
    import numpy as np

    from detector.decoding import decode_image
    from detector.detector import Detector

    detector = Detector.open(options.source, device=options.device, precision=options.precision)
    if isinstance(images, list):
        spec = detector.bundle.input
        images = np.stack([decode_image(image, spec, where=name) for name, image in zip(names, images, strict=True)])
    return detector.classify(images)


def _served(options: argparse.Namespace, names: list[str], images: Any) -> Any:
    """Verdicts from a server."""
    _, colon, port = options.source.rpartition(":")
    if not colon or not port.isdigit():
        raise InputError(f"{options.source}: expected a bundle's folder or HOST:PORT, found neither")
    with connect(options.source, options) as client:
        try:
            return client.classify(images, model=options.model, timeout_s=options.timeout_s)
        except InputError as error:
            raise InputError(_named(str(error), names)) from None


def _named(refusal: str, names: list[str]) -> str:
    """What a server refuses, with the image's name in the place of its index."""
    found = _INDEX.match(refusal)
    if found is None:
        return refusal
    index = int(found[1] or 0) + int(found[2])
    return names[index] + refusal[found.end() :] if index < len(names) else refusal


def _row(name: str, verdicts: Any, index: int) -> dict[str, Any]:
    """One image's answer as JSON; infinity is a string there."""
    label = int(verdicts.labels[index])
    flag = verdicts.adversarial
    p_values = verdicts.p_values
    confidences = verdicts.recalibrated_probabilities
    return {
        "image": name,
        "class": label,
        "label": verdicts.class_names[index],
        "probability": float(verdicts.probabilities[index, label]),
        "confidence": None if confidences is None else float(confidences[index, label]),
        "log_diversity": _number(verdicts.log_diversity, index),
        "score": _number(verdicts.score, index),
        "p_value": None if p_values is None else float(p_values[index]),
        "adversarial": None if flag is None else bool(flag[index]),
    }


def _number(values: Any, index: int) -> float | str | None:
    """A score as JSON."""
    if values is None:
        return None
    value = float(values[index])
    return value if math.isfinite(value) else str(value).replace("inf", "Infinity")
