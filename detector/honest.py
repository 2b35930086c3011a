"""Images that nobody attacked, beside clean ones: mildly changed, and of other kinds. How many are flagged?"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detector.detector import Detector
from detector.evidence import Seen
from detector.prediction import Floats
from detector.rates import Auc, Rate
from detector.scan import judged, scan
from detector.shifts import shift_evidence
from detector.source import ImageSource, Selection


@dataclass(frozen=True, kw_only=True)
class Honest:
    """Images that nobody attacked, beside clean ones.

    Attributes:
        detector: A calibrated one.
        clean: (n,) scores of the clean images of the report part.
    """

    detector: Detector
    clean: Floats

    def changed(self, images: Selection) -> tuple[Seen, ...]:
        """Clean images after each mild change."""
        found = shift_evidence(self.detector, images)
        return tuple(self._seen(name, scores, flags) for name, (scores, flags) in found.items())

    def foreign(self, sets: Mapping[str, ImageSource]) -> tuple[Seen, ...]:
        """Images of other kinds."""
        keep = partial(judged, self.detector)
        kept = {name: scan(self.detector, images, keep, name=name) for name, images in sets.items()}
        return tuple(self._seen(name, one["scores"], one["flags"]) for name, one in kept.items())

    def _seen(self, name: str, scores: Floats, flags: NDArray[np.bool_]) -> Seen:
        return Seen(name=name, flagged=Rate.of(flags), auc=Auc.of(self.clean, scores))
