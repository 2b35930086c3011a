"""The model that Triton's Python backend loads; it is copied into a model repository."""

import json
import os
import sys
from pathlib import Path
from typing import Any

# The stub does not look at PYTHONPATH.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # noqa: E402

from benchmarks.peers.servers.sessions import Sessions  # noqa: E402


class TritonPythonModel:
    """Members behind Triton's own batching: several requests at once."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the members."""
        config = json.loads(args["model_config"])
        self._members = Sessions(Path(config["parameters"]["bundle"]["string_value"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One run for all requests."""
        parts = [pb_utils.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        logits = self._members.logits(np.concatenate(parts))
        ends = np.cumsum([len(part) for part in parts])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("logits", own)]) for own in np.split(logits, ends)]
