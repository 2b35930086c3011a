"""Energy, as a score."""

import numpy as np

from detector.outputs import Outputs
from detector.prediction import Floats
from detector.scores.score import Score


class Energy(Score):
    """Minus the members' mean energy: the mean over members of log sum_j exp(logit_j).

    Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020, define it for one
    network. The mean of the members' values is taken, not the value of their mean: softmax leaves
    each member's logits free by a constant, which here moves all images alike; in a mean of
    exponentials the member with the largest constant would decide alone.
    """

    name = "energy"
    suspicious = "small logits"

    def measure(self, outputs: Outputs) -> Floats:
        """See `Outputs.free_energies`."""
        return np.asarray(outputs.free_energies.mean(axis=1))
