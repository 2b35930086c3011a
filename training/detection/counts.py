"""On how many images detection is measured: as many as in the paper, or as a CPU can bear."""

from dataclasses import fields
from typing import Final

import torch

from training.robustness.counts import Counts

# Fig. 4: "1,000 test and 1,000 adversarial examples". `strong` is the attacker who aims at a score.
PAPER: Final = Counts(linf=1_000, minimum=1_000, jsma=1_000, strong=1_000)
QUICK: Final = Counts(linf=1_000, minimum=30, jsma=50, strong=30)
# Validation images that strengths are chosen on; never more than are attacked in the end.
CHOOSING: Final = Counts(linf=100, minimum=20, jsma=20, strong=1)
CHOOSING_ON_GPU: Final = Counts(linf=1_000, minimum=200, jsma=200, strong=1)
CLEAN: Final = 1_000
# Of the clean images those that are mildly changed; a share of 5 % is known to 2 or 3 points then.
CHANGED: Final = 300


def counts_on(device: torch.device) -> Counts:
    """Test images to attack: the paper's numbers on a GPU; on a CPU what takes about half an hour a run."""
    return PAPER if device.type == "cuda" else QUICK


def choosing_on(device: torch.device, counts: Counts) -> Counts:
    """Validation images to choose strengths on."""
    usual = CHOOSING_ON_GPU if device.type == "cuda" else CHOOSING
    names = [field.name for field in fields(Counts)]
    return Counts(**{name: min(getattr(usual, name), getattr(counts, name)) for name in names})
