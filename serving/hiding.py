"""Whether flag-only replies keep what they are to keep."""

from detector.bundle import Bundle
from detector.errors import CalibrationError
from detector.scores import SCORES
from serving.config import Reply


def check_hidden(bundle: Bundle, reply: Reply) -> None:
    """Raises where a reply leaves the score out, and anybody can compute it from the probabilities that it holds.

    Raises:
        CalibrationError: It is calibrated with such a score, and replies are flag-only.
    """
    calibration = bundle.calibration
    if reply is Reply.FLAG_ONLY and calibration is not None and SCORES[calibration.score].of_prediction:
        hidden = ", ".join(name for name, score in SCORES.items() if not score.of_prediction)
        raise CalibrationError(
            f"{bundle.path}: expected a score that flag-only replies hide, found {calibration.score}, which anybody "
            f"can compute from a reply's probabilities; calibrate with one of {hidden}, or serve with --reply full"
        )
