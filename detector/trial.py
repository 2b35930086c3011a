"""A trial run of members, before anybody relies on them."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.ensemble import Ensemble
from detector.errors import InputError, MemberError, one_line
from detector.member import Member
from detector.prediction import check_member_count

_IMAGES: Final = 3
_TOLERANCE: Final = 1e-4


def trial_images(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A few images of uniform noise: (3, C, H, W) float32, the same each time."""
    return np.random.default_rng(0).random((_IMAGES, *shape), dtype=np.float32)


def run_member(member: Member) -> NDArray[np.float32]:
    """Runs one member on the CPU: (3, L) logits.

    Raises:
        MemberError: It cannot run, its answer is not (N, L) float32 and finite, or an image's
            answer depends on the other images of its batch.
    """
    images = trial_images(member.shape)
    try:
        ensemble = Ensemble([member.content], device="cpu")
        together = _run(ensemble, images)
        alone = np.concatenate([_run(ensemble, images[n : n + 1]) for n in range(_IMAGES)])
    except MemberError as error:
        raise MemberError(member.name, error.reason) from None
    except Exception as error:  # noqa: BLE001  ONNX Runtime's C++ errors have no common class
        text = one_line(error)[:300]
        raise MemberError(member.name, f"expected to run on batches of 1 and {_IMAGES}, found: {text}") from None
    if together.ndim != 2 or len(together) != _IMAGES:
        raise MemberError(member.name, f"expected an output (N, L), found {together.shape} for {_IMAGES} images")
    if not np.isfinite(together).all():
        raise MemberError(member.name, "expected finite logits for images of noise, found NaN or infinity")
    scale = max(1.0, float(np.abs(together).max()))
    gap = float(np.abs(together - alone).max()) if alone.shape == together.shape else np.inf
    if not gap <= _TOLERANCE * scale:  # an image alone may answer with NaN
        raise MemberError(
            member.name, f"expected each image's answer to depend on that image only, found it moved by {gap:.2g}"
        )
    return together


def _run(ensemble: Ensemble, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """One member's answer, the member axis dropped."""
    return ensemble.logits(images)[:, 0]


def refuse_probabilities(member: Member, logits: NDArray[np.float32]) -> None:
    """Raises where rows called logits are in fact probabilities.

    The range of values alone would prove nothing; that every row of every member sums to one does.
    """
    if (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1.0, atol=1e-4):
        raise MemberError(
            member.name,
            "expected logits, found probabilities: every row sums to 1, and there is no trailing softmax to cut; "
            "small probabilities have underflowed, so export the logits",
        )


def check_same(members: Sequence[Member], classes: Sequence[int]) -> None:
    """Raises where members do not take the same images or know the same classes, or K does not fit L."""
    first = members[0]
    for member, count in zip(members, classes, strict=True):
        if member.shape != first.shape:
            raise MemberError(member.name, f"expected input {first.shape} as of {first.name}, found {member.shape}")
        if count != classes[0]:
            raise MemberError(member.name, f"expected {classes[0]} classes as of {first.name}, found {count}")
    check_member_count(len(members), classes[0])


def check_names(labels: Sequence[Any], classes: int) -> None:
    """Raises where there is not one name for each class."""
    if len(labels) != classes:
        raise InputError(f"labels: expected {classes} names, one for each class, found {len(labels)}")
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"labels: expected a name, found {label!r} for class {index}")
