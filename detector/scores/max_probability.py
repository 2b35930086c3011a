"""The probability of the predicted class, as a score."""

from detector.outputs import Outputs
from detector.prediction import Floats
from detector.scores.score import Score


class MaxProbability(Score):
    """log(p / (1 - p)) of the largest entry p of the mean prediction.

    It has p's order, and does not round: images that the ensemble is certain of are not all tied
    at 1.
    """

    name = "max_probability"
    suspicious = "a class that is not certain"
    of_prediction = True

    def measure(self, outputs: Outputs) -> Floats:
        """See `Outputs.log_odds`."""
        return outputs.log_odds
