"""Mutual information of class and member, as a score."""

from detector.outputs import Outputs
from detector.prediction import Floats
from detector.scores.score import Score


class MutualInformation(Score):
    """Minus H(mean prediction) - mean of H(member's prediction), in nats: -log K to 0.

    This is minus the Jensen-Shannon divergence of the members, Eq. (9) in B.1 of the paper: the two
    names mean one quantity. It is large where members are certain of different classes, which
    honest images rarely bring about; so it is negated. Log diversity leaves the predicted class out
    and is low where members AGREE; here the predicted class counts, and those that DISAGREE are
    suspicious.
    """

    name = "mutual_information"
    suspicious = "members that disagree, each certain of its answer"

    def measure(self, outputs: Outputs) -> Floats:
        """See `Outputs.disagreement`."""
        return -outputs.disagreement
