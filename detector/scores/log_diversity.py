"""Log ensemble diversity, Eq. (3) of the paper, as a score."""

from detector.outputs import Outputs
from detector.prediction import Floats
from detector.scores.score import Score


class LogDiversity(Score):
    """Log diversity as it is: at most 0, minus infinity where two members give the same prediction."""

    name = "log_diversity"
    suspicious = "members whose predictions of the other classes are alike"

    def measure(self, outputs: Outputs) -> Floats:
        """See `detector.diversity`."""
        return outputs.log_diversity
