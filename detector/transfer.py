"""Attacked images made on one model, and what another makes of them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from detector.attacked import BATCH_SIZE, judged
from detector.ball import FloatImages
from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.oracle import Oracle
from detector.prediction import Ints
from detector.shares import Shares


def transfer(
    oracle: Oracle,
    made: ImageSet,
    *,
    made_on: Mapping[str, str],
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
) -> ImageSet:
    """Asks about attacked images, and about those they were made from: two queries for each.

    Args:
        oracle: Whom to ask.
        made: Attacked images with `clean`, labels and `info["attack"]`.
        made_on: What they were made on, as JSON, for instance the digest of a run.
        batch_size: Images of a call.
        progress: Whether to show a bar on standard error, if that is a terminal.

    Returns:
        The same images, `clean_correct`, `success` and `info["attack"]["found"]` being the oracle's. What they are
        of the model they were made on is kept under `info["attack"]["substitute"]`.

    Raises:
        InputError: Images or labels that do not fit the oracle, or that no attack has made.
    """
    labels, attack = oracle.labels_of(made), made.info.get("attack")
    if made.clean is None or not isinstance(attack, Mapping):
        raise InputError("images: expected what an attack has written, found no 'clean' or no settings of an attack")
    attacked, clean = as_floats(made.images), as_floats(made.clean)
    with Shares(2 * len(made), "asking", shown=progress) as shares:
        before, after = (_classes(oracle, images, batch_size, shares) for images in (clean, attacked))
    result, found = judged(replace(made, images=clean, labels=labels), attacked, before, after)
    settings = {name: value for name, value in attack.items() if name != "found"}
    return replace(result, info={**made.info, "attack": {
        **settings, "name": f"{attack['name']}-transferred", "asked": dict(oracle.known_as),
        "substitute": {**made_on, "found": attack["found"]}, "found": found,
    }})  # fmt: skip


def _classes(oracle: Oracle, images: FloatImages, batch_size: int, shares: Shares) -> Ints:
    """The predicted class of each image."""
    parts = []
    for start in range(0, len(images), batch_size):
        parts.append(oracle(images[start : start + batch_size]).argmax(axis=1))
        shares.finish(len(parts[-1]))
    return np.concatenate(parts)
