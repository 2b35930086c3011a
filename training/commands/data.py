"""`ledgate data`: images of one part of a data set, in a file."""

import argparse
import json
from pathlib import Path

from detector.sample import sample
from training.commands.data_root import add_data_root
from training.datasets import DATASETS, load
from training.splits import SPLITS, take


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--dataset", choices=sorted(DATASETS), required=True, help="the data set")
    add_data_root(parser)
    parser.add_argument("--download", action="store_true", help="fetch the data set there first, where it is missing")
    parser.add_argument("--image-size", type=int, default=0, metavar="N",
                        help="of folder: stretch every image to N x N; by default all are of one size")  # fmt: skip
    parser.add_argument("--split", choices=SPLITS, required=True,
                        help="its part; the parts are disjoint, and test is for reporting only")  # fmt: skip
    parser.add_argument("--n", type=int, metavar="IMAGES", help="so many of them at random; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of that choice; the parts themselves never change")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="the file to write")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(options: argparse.Namespace) -> int:
    """Writes the images."""
    dataset = load(options.dataset, root=options.data_root, download=options.download, image_size=options.image_size)
    images = sample(take(dataset, options.split), options.n, seed=options.seed)
    images.save(options.out)
    if options.json:
        print(json.dumps({"path": str(options.out), "images": len(images), **images.info}))
    else:
        print(f"{options.out}: {len(images)} images of {options.dataset}, {options.split}")
    return 0
