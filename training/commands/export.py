"""`ledgate export`: a finished run as a bundle."""

import argparse
import json
import shlex
from pathlib import Path

from training.commands.data_root import add_data_root
from training.exporter import export


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a finished run of 'ledgate train'")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="the new folder")
    add_data_root(parser)
    parser.add_argument("--json", action="store_true", help="print the bundle's manifest as JSON")


def run(options: argparse.Namespace) -> int:
    """Exports."""
    bundle = export(options.run_folder, options.out, root=options.data_root)
    if options.json:
        print(json.dumps({"path": str(options.out), **json.loads(bundle.manifest.model_dump_json())}))
        return 0
    print(f"{options.out}: {bundle.member_count} members, {bundle.class_count} classes, images {bundle.input.shape}; "
          "each answers as in torch")  # fmt: skip
    calibrate = ["ledgate", "calibrate", str(options.out), "--clean", "clean.npz", "--adversarial", "adversarial.npz"]
    print(f"next: {shlex.join([*calibrate, '--target-fpr', '0.05'])}")
    return 0
