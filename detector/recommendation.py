"""Which score to calibrate, as the evidence has it, and why."""

from dataclasses import dataclass

from detector.calibration import Calibration
from detector.evidence import ScoreEvidence
from detector.scores import SCORES


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A score, and the reason in plain sentences."""

    score: str
    reason: str


def recommend(calibration: Calibration) -> Recommendation | None:
    """The score whose weakest attack it tells best from clean images; None without attacks.

    The calibrated score stays unless another one's weakest AUC is beyond the interval of its own: what
    chance could have brought about is no reason to change.
    """
    if not calibration.comparison:
        return None
    by_name = {evidence.score: evidence for evidence in calibration.comparison}
    current = by_name[calibration.score]
    best = max(calibration.comparison, key=lambda evidence: evidence.weakest.every.auc.value)
    kept = best.weakest.every.auc.value <= current.weakest.every.auc.high
    chosen = current if kept else best
    count = len(calibration.attacks)
    attacks = "the one attack here" if count == 1 else f"the {count} attacks here"
    sentences = [f"Of {attacks} {_weakest(chosen)}."]
    if not kept:
        sentences.append(f"The calibrated score is weaker: {_weakest(current)}.")
    elif best is not current:
        sentences.append(f"{best.score} has {best.weakest.every.auc.value:.3f}, within what chance does.")
    if chosen.weakest.every.auc.low <= 0.5:
        sentences.append("That is no better than chance: no score here detects every attack.")
    seen = f"{chosen.score} is fitted on clean images only" if SCORES[chosen.score].needs_fit else "Nothing is fitted"
    sentences.append(f"{seen}: no attack was seen in fitting.")
    if SCORES[chosen.score].needs_fit:
        sentences.append("Harmless changes, such as noise or blur, may look unusual to it too: measure them.")
    if not kept:
        sentences.append("Chosen on these images, its figures flatter: calibrate it on others, or with another --seed.")
    return Recommendation(score=chosen.score, reason=" ".join(sentences))


def undetected(calibration: Calibration) -> str:
    """A warning of the attacks that are not told from clean images better than chance; nothing if none."""
    lost = [attack for attack in calibration.attacks if attack.undetected]
    if not lost:
        return ""
    names = ", ".join(f"{attack.name} (AUC {attack.auc.value:.3f})" for attack in lost)
    which = "NO ATTACK IS DETECTED" if len(lost) == len(calibration.attacks) else "not detected"
    return (
        f"{which} better than chance by {calibration.score}: {names}. Below an AUC of 0.5 attacked images look more "
        "honest than honest ones, and no threshold on this score helps"
    )


def _weakest(evidence: ScoreEvidence) -> str:
    """How a score fares on the attack it detects worst."""
    row = evidence.weakest
    return f"{evidence.score} detects {row.name} worst, with an AUC of {row.every.auc}"
