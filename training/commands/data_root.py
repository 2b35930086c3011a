"""The option that says where data sets lie, for the commands that read them."""

import argparse
from pathlib import Path

from training.datasets import ROOT_VARIABLE


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Adds `--data-root`."""
    parser.add_argument("--data-root", type=Path, metavar="DIR",
                        help="where data sets lie, as torchvision lays them out; for folder, a folder of images for "
                             "each class, or such folders in train and test; "
                             f"by default ${ROOT_VARIABLE}, or data")  # fmt: skip
