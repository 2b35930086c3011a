"""What is typical of an ensemble's answer to a clean image: statistics of the logits."""

from typing import Final

import numpy as np

from detector.outputs import Outputs
from detector.prediction import Floats

STATISTICS: Final = (
    "log of minus log diversity",
    "log odds of the class",
    "log of mutual information",
    "mean margin",
    "spread of the margin",
    "mean energy",
    "spread of the energy",
    "mean energy of the rest",
    "spread of the energy of the rest",
    "mean entropy of the rest",
    "spread of the entropy of the rest",
)

# Logarithms of quantities that may be 0 or infinite are kept within what float64 tells apart.
_DIVERSITY: Final = (1e-12, 1e3)
_LEAST_INFORMATION: Final = 1e-300
_LEAST_GAP: Final = -1e3  # whose exponential is 0


def statistics(outputs: Outputs) -> Floats:
    """The statistics of each image, (N, 11), finite.

    Means and spreads (standard deviations) are over the members, the rest is all classes but the
    ensemble's, and a margin is that class's logit less the largest of the rest.
    """
    rest = outputs.rest_exponentials
    margin = outputs.label_logits - rest.tops
    # The class left out has weight 0, and minus infinity times 0 is no number.
    gaps = np.maximum(rest.gaps, _LEAST_GAP)
    entropy = np.log(rest.sums) - np.einsum("nkl,nkl->nk", rest.values, gaps) / rest.sums
    columns = [
        np.log(np.clip(-outputs.log_diversity, *_DIVERSITY)),
        outputs.log_odds,
        np.log(np.maximum(outputs.disagreement, _LEAST_INFORMATION)),
    ]
    # The members first, since short axes are slow to go along: (K, 4, N).
    each = np.stack([margin.T, outputs.free_energies.T, outputs.rest_energies.T, entropy.T], axis=1)
    for mean, spread in zip(each.mean(axis=0), each.std(axis=0), strict=True):
        columns += [mean, spread]
    return np.stack(columns, axis=1)
