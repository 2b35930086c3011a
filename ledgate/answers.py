"""What a server answered for test images, clean and attacked: figures, and a table of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from detector.imageset import ImageSet
from detector.prediction import Floats
from detector.rates import Auc, Rate
from detector.verdicts import Verdicts

_CLEAN: Final = "clean"
_CHANCE: Final = 0.5
_PATIENCE_S: Final = 120.0  # for one row; a busy machine takes seconds


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers, in rows of as many images each.

    Attributes:
        rows: By name, `clean` and then each attack, images with labels and the verdicts on them.
    """

    rows: Mapping[str, tuple[ImageSet, Verdicts]]

    @classmethod
    def ask(cls, address: str, clean: ImageSet, attacked: Mapping[str, ImageSet]) -> Self:
        """Asks a server whose model is calibrated and whose scores are not hidden."""
        from serving.client import Client

        with Client(address, timeout_s=_PATIENCE_S) as client:
            named = {_CLEAN: clean, **attacked}
            return cls(rows={name: (images, client.classify(images.images)) for name, images in named.items()})

    def __len__(self) -> int:
        return len(self.rows[_CLEAN][0])

    def summary(self, target_fpr: float) -> dict[str, Any]:
        """The figures as JSON, with the share of clean images that may be flagged."""
        images, clean = self.rows[_CLEAN]
        attacks = {name: answer for name, (_, answer) in self.rows.items() if name != _CLEAN}
        return {
            "accuracy": float((clean.labels == images.labels).mean()),
            "false_positive_rate": float(_flags(clean).mean()),
            "target_fpr": target_fpr,
            "auc": {name: Auc.of(_known(clean.score), _known(answer.score)).value for name, answer in attacks.items()},
            "flagged": {name: float(_flags(answer).mean()) for name, answer in attacks.items()},
        }

    def table(self, summary: Mapping[str, Any]) -> str:
        """One line for each row, and a headline."""
        width = max(9, *map(len, self.rows))
        lines = [f"{'images':{width}}  classified wrong  flagged as adversarial (95 % interval)  AUC"]
        for name, (images, answer) in self.rows.items():
            wrong = f"{(answer.labels != images.labels).mean():.1%}"
            auc = f"{summary['auc'][name]:.3f}" if name in summary["auc"] else ""
            lines.append(f"{name:{width}}  {wrong:>16}  {Rate.of(_flags(answer))!s:38}  {auc}".rstrip())
        return "\n".join(lines)

    def undetected(self, summary: Mapping[str, Any]) -> str:
        """Which attacks the score tells from honest images no better than chance, in a paragraph; nothing if none."""
        names = [name for name, auc in summary["auc"].items() if auc <= _CHANCE]
        if not names:
            return ""
        return (
            f"\nNOT DETECTED: {', '.join(names)}. An AUC of 0.5 is chance; below it, these attacked images look more"
            "\nhonest than honest ones, and no threshold on this score helps.\n"
        )

    def meaning(self, target_fpr: float) -> str:
        """How to read the table."""
        return (
            f"The threshold promises to flag at most {100 * target_fpr:g} % of honest images, with 95 % confidence; on"
            f"\n{len(self)} images chance alone moves the share within the interval. AUC: the chance that an attacked"
            "\nimage looks more suspicious than a clean one."
        )


def _flags(answer: Verdicts) -> NDArray[np.bool_]:
    """Which images are flagged; only a server without a calibration does not say."""
    assert answer.adversarial is not None
    return answer.adversarial


def _known(score: Floats | None) -> Floats:
    """Scores that the server did not hide."""
    assert score is not None
    return score
