"""From a trained run to a bundle: each member as one ONNX file, checked before anything is written.

Logits are exported, never softmax: small probabilities would have underflowed before the score sees
them. The normalisation is inside, so the graph takes images in [0, 1].
"""

import contextlib
import logging
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.bundle import Bundle, write_bundle
from detector.ensemble import Ensemble as ServedEnsemble
from detector.errors import MemberError
from detector.files import refuse_existing
from detector.imageset import as_floats
from detector.provenance import provenance
from training.datasets import load
from training.run import Run
from training.splits import SPLIT_SEED, take

OPSET: Final = 20
# The largest difference between torch and ONNX Runtime that passes, on logits.
TOLERANCE: Final = 1e-5
_BATCHES: Final = (1, 2, 17, 64)


def export(run: Run | Path | str, out: Path | str, *, root: Path | str | None = None) -> Bundle:
    """Exports a finished run as a bundle.

    Args:
        run: The run, or its folder.
        out: The bundle's folder, a new one.
        root: Where the run's data set lies, see `training.datasets.load`: members are checked on real images.

    Returns:
        The bundle, without a calibration.

    Raises:
        RunError: Not a finished run.
        MemberError: A member answers differently in ONNX Runtime than in torch.
        InputError: `out` exists, or no data was found.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    refuse_existing(Path(out))
    ensemble, checkpoint = run.trained()
    dataset = load(run.config.dataset, root=root, image_size=run.config.image_size)
    checkpoint.check_listing(dataset.listing)
    images = as_floats(take(dataset, "validation").images)[: max(_BATCHES)]
    contents = []
    for k, member in enumerate(ensemble.members):
        contents.append(to_onnx(member, checkpoint.image_shape))
        check_same_logits(f"member_{k}", member, contents[k], images)
    made = provenance(
        "torch",
        "onnxscript",
        dataset={
            "name": dataset.name,
            "split_seed": SPLIT_SEED,
            **({"listing": dataset.listing} if dataset.listing else {}),
        },
        seed=run.config.seed,
        config=asdict(run.config),
        commit=commit(),
        epoch=checkpoint.kept_epoch,
        validation=checkpoint.metrics[checkpoint.kept_epoch - 1],
    )
    folder = dataset.name == "folder"  # the server then prepares images as `training.pixels` did
    return write_bundle(
        Path(out),
        members=contents,
        labels=checkpoint.class_names,
        provenance=made,
        resize=folder and run.config.image_size > 0,
        grey_to_rgb=folder and checkpoint.image_shape[0] == 3,
    )


def to_onnx(member: nn.Module, image_shape: tuple[int, int, int]) -> bytes:
    """One member as a self-contained ONNX file, with no trace of the machine it was made on.

    Args:
        member: (N, C, H, W) float32 in [0, 1] to (N, L) logits, in evaluation mode.
        image_shape: C, H, W.

    Returns:
        The file: input `images`, output `logits`, an open first axis `batch`.
    """
    example = torch.zeros(2, *image_shape)
    with _quiet():
        program = torch.onnx.export(
            member,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return bytes(_without_traces(program.model_proto).SerializeToString(deterministic=True))


def check_same_logits(name: str, member: nn.Module, content: bytes, images: NDArray[np.float32]) -> None:
    """Refuses an exported member whose logits are not torch's, on batches of several sizes.

    Args:
        name: How the message calls the member.
        member: In torch, in evaluation mode.
        content: The same as ONNX.
        images: (N, C, H, W) float32, real ones.

    Raises:
        MemberError: A logit differs by more than 1e-5 of the largest one, or of 1.
    """
    served = ServedEnsemble([content], device="cpu")
    for size in _BATCHES:
        batch = images[:size]
        with torch.inference_mode():
            expected = member(torch.from_numpy(batch)).numpy()
        found = served.logits(batch)[:, 0]
        gap = float(np.abs(found - expected).max())
        if not gap <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise MemberError(
                name, f"expected torch's logits from ONNX Runtime, found them off by {gap:.2g} at batch size {size}"
            )


def commit(file: Path = Path(__file__)) -> str | None:
    """The commit of ledgate's own source, with `-dirty` where it was changed; None where it is installed."""
    git = shutil.which("git")
    if git is None:
        return None
    # An installed ledgate may lie inside somebody's repository; only a tracked file tells ours.
    tracked = ["ls-files", "--error-unmatch", file.name]
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = None
    for words in (tracked, describe):
        done = subprocess.run([git, "-C", file.resolve().parent, *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return None
        found = done.stdout.strip()
    return found


def _without_traces(model: Any) -> Any:
    """Drops stack traces, local paths and other notes of the exporter."""
    for holder in _holders(model):
        for note in ("doc_string", "metadata_props"):
            if note in holder.DESCRIPTOR.fields_by_name:
                holder.ClearField(note)
    model.ClearField("producer_version")
    return model


def _holders(model: Any) -> Iterator[Any]:
    """Everything in a model that can carry notes."""
    yield model
    yield from model.functions
    for body in (model.graph, *model.functions):
        yield body
        yield from body.node
        yield from body.value_info
    yield from (*model.graph.input, *model.graph.output, *model.graph.initializer)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's log, and its warnings about its own future, to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category, module=r"(copyreg|torch|onnxscript|onnx_ir)\b")
            yield
    finally:
        logger.setLevel(level)
