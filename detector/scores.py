"""The scores a calibration may threshold, by name.

Each takes logits and the label to leave out, and is oriented so that LOWER IS MORE SUSPICIOUS.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.diversity import log_diversity
from detector.prediction import Floats, Ints

Score = Callable[[NDArray[np.floating[Any]], Ints], Floats]

DEFAULT_SCORE: Final = "log_diversity"
SCORES: Final[Mapping[str, Score]] = {"log_diversity": log_diversity}
