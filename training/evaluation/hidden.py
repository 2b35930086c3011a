"""The members' last hidden features: what their last linear layer is given."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.imageset import ImageSet, as_floats
from training.ensemble import Ensemble

_BATCH: Final = 512


def hidden_features(ensemble: Ensemble, images: ImageSet, member: int) -> NDArray[np.float32] | None:
    """A member's last hidden features.

    Args:
        ensemble: In evaluation mode.
        images: N of them.
        member: Its index, from 0.

    Returns:
        (N, F) float32, the input of the linear layer that ran last; None where none ran, as in networks
        that end in a convolution.
    """
    network = ensemble.members[member]
    device = next(ensemble.parameters()).device
    given: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        given[:] = [inputs[0]]

    hooks = [layer.register_forward_pre_hook(note) for layer in network.modules() if isinstance(layer, nn.Linear)]
    batches = []
    try:
        with torch.inference_mode():
            for batch in torch.split(torch.from_numpy(as_floats(images.images)), _BATCH):
                network(batch.to(device))
                batches += [features.flatten(1).float().cpu() for features in given]
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(batches).numpy() if batches else None
