"""Random draws that depend on a purpose and nothing else.

Every draw of a run is keyed by the run's seed and by what it is for (a member's weights, an epoch's
shuffle, an image's starting point), never by what was drawn before it. So a resumed run draws what
an unbroken one would, and an image is attacked alike in a batch of any size.
"""

import numpy as np


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Returns the generator of a purpose.

    Args:
        seed: Of the run or the attack, at least 0.
        purpose: Its name; two purposes never share draws.
        key: What further tells draws apart, each at least 0: an epoch, a row.
    """
    return np.random.default_rng([seed, *purpose.encode(), *key])


def torch_seed(seed: int, purpose: str, *key: int) -> int:
    """Returns a seed for torch's own random state; see `generator`."""
    return int(generator(seed, purpose, *key).integers(2**63))
