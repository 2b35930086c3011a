"""Bring your own members: foreign ONNX files made to fit, checked, and bundled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.bundle import Bundle, write_bundle
from detector.errors import MemberError, SettingError
from detector.files import refuse_existing
from detector.member import Member, read_member
from detector.provenance import provenance
from detector.surgery import refuse_squashed, with_names, with_normalisation, without_softmax
from detector.trial import check_same, refuse_probabilities, run_member

Outputs = Literal["logits", "probabilities"]


def bring(
    out: Path,
    files: Sequence[Path],
    *,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: Outputs = "logits",
) -> tuple[Bundle, list[str]]:
    """Makes a bundle from ONNX files.

    Args:
        out: The new folder.
        files: K members, each with one input (N, C, H, W) float32 and one output (N, L).
        labels: L class names; by default 0, 1, 2, ...
        mean: With `std`, what the members expect to be subtracted first, in units of [0, 1].
        std: Likewise, what they expect to be divided by.
        outputs: What the members answer with. A trailing softmax is cut back in either case;
            probabilities without one are refused, since their small entries have underflowed.

    Returns:
        The bundle, and what was done to the members, as sentences.

    Raises:
        MemberError: A member is refused; names it and the reason.
        InputError: K and L without log diversity, or arguments that do not fit.
    """
    refuse_existing(out)
    if not files:
        raise SettingError("members: expected at least 2, found none")
    if (mean is None) != (std is None):
        raise SettingError(f"mean and std: expected both or neither, found {'std' if mean is None else 'mean'} alone")
    notes: list[str] = []
    members: list[Member] = []
    answers: list[NDArray[np.float32]] = []
    for file in files:
        member = read_member(file)
        if mean is not None and std is not None:
            member = with_normalisation(member, mean, std)
            notes.append(f"{file.name}: folded in mean {list(mean)} and std {list(std)}")
        member, answer, cut = _as_logits(with_names(member), outputs)
        if cut:
            notes.append(f"{file.name}: cut the trailing softmax back to its logits")
        members.append(member)
        answers.append(answer)
    classes = [answer.shape[1] for answer in answers]
    check_same(members, classes)
    notes += _same_answers(files, answers)
    names = list(labels) if labels is not None else [str(index) for index in range(classes[0])]
    origin = provenance(members=[file.name for file in files], changes=notes)
    return write_bundle(out, members=members, labels=names, provenance=origin), notes


def _as_logits(member: Member, outputs: Outputs) -> tuple[Member, NDArray[np.float32], bool]:
    """The member without a trailing softmax, its answer in a trial run, and whether one was cut."""
    before = run_member(member)
    bare = without_softmax(member)
    refuse_squashed(bare or member)
    if bare is None:
        if outputs == "probabilities":
            raise MemberError(
                member.name,
                "expected a trailing softmax to cut back to its logits, found none; other probabilities are refused, "
                "since their small entries have underflowed: export the logits",
            )
        refuse_probabilities(member, before)
        return member, before, False
    logits = run_member(bare)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    if not np.allclose(weights / weights.sum(axis=1, keepdims=True), before, atol=1e-5):
        raise MemberError(member.name, "expected the final softmax over the classes, found it over another axis")
    refuse_probabilities(bare, logits)
    return bare, logits, True


def _same_answers(files: Sequence[Path], answers: Sequence[NDArray[np.float32]]) -> list[str]:
    """A warning for members that are the same network: their log diversity is always minus infinity."""
    return [
        f"warning: {files[a].name} and {files[b].name} give identical answers; "
        "log diversity will be minus infinity for every image"
        for a in range(len(files))
        for b in range(a + 1, len(files))
        if np.array_equal(answers[a], answers[b])
    ]
