"""The detector as a library: scores, bundles, an ensemble on ONNX Runtime, calibration. No torch, no gRPC."""

import os

# From version 1.29 on, ONNX Runtime reports its sessions to its maker unless this is set before it is imported.
# What a server sees stays with its owner; whoever wants the reports sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
