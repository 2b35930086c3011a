"""The three settings of the paper's experiments, Section 4.2, as weights (alpha, beta) of the regulariser."""

from typing import Final

Weights = tuple[float, float]

BASELINE: Final[Weights] = (0.0, 0.0)
ADP_2_0: Final[Weights] = (2.0, 0.0)
ADP_2_05: Final[Weights] = (2.0, 0.5)
