"""What the paper printed, for ours to stand beside, and the recipe behind it.

Pang et al., "Improving Adversarial Robustness via Promoting Ensemble Diversity", ICML 2019. These
figures are copied from there and nowhere else in the repository; nothing is computed from them but
differences.
"""

from training.paper.accuracies import TABLES, Accuracies, Row, accuracies_of
from training.paper.errors import TABLE1, Errors
from training.paper.recipe import TITLES, deviations, settings_of
from training.paper.weights import ADP_2_0, ADP_2_05, BASELINE, Weights

__all__ = [
    "ADP_2_0",
    "ADP_2_05",
    "BASELINE",
    "TABLE1",
    "TABLES",
    "TITLES",
    "Accuracies",
    "Errors",
    "Row",
    "Weights",
    "accuracies_of",
    "deviations",
    "settings_of",
]
