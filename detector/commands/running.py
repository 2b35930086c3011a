"""Options that say where, and in what arithmetic, members run."""

import argparse


def add_running(parser: argparse.ArgumentParser, what: str = "the members run") -> None:
    """Adds `--device` and `--precision`."""
    from detector.precision import Precision

    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]|tensorrt[:i]",
                        help=f"where {what}; cuda:0,1 and cuda:all name several GPUs, "
                        "each of which serves batches of its own")  # fmt: skip
    parser.add_argument("--precision", default=Precision.FLOAT32.value, choices=[one.value for one in Precision],
                        help="what the members compute in; one that the calibration was not made in has to be "
                        "calibrated for, float16 gains on GPUs only, and bfloat16 is TensorRT's alone")  # fmt: skip
