"""How much attacked images differ from those they were made from."""

import numpy as np
from numpy.typing import NDArray


def norms(attacked: NDArray[np.float32], clean: NDArray[np.float32]) -> dict[str, float]:
    """Means over images of the norms of the changes, L0 as the share of values changed; none for no image."""
    if not len(attacked):
        return {}
    change = (attacked.astype(np.float64) - clean).reshape(len(clean), -1)
    return {
        "l0": float((change != 0).mean()),
        "l1": float(np.abs(change).sum(axis=1).mean()),
        "l2": float(np.linalg.norm(change, axis=1).mean()),
        "linf": float(np.abs(change).max(axis=1).mean()),
    }
