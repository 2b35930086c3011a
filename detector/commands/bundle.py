"""`ledgate bundle`: a bundle from your own ONNX members, checked at once."""

import argparse
import json
from pathlib import Path

from detector.errors import InputError, SettingError


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--member", type=Path, action="append", required=True, metavar="FILE.onnx",
                        help="a member; repeat it for each: two or more, fewer than there are classes")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="the new folder")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="class names, one a line; by default 0, 1, 2, ...")
    parser.add_argument("--mean", type=numbers, metavar="M[,M,M]",
                        help="for members that expect (image - mean) / std: the mean, in units of [0, 1], "
                        "one number or one for each channel; folded into the graph")  # fmt: skip
    parser.add_argument("--std", type=numbers, metavar="S[,S,S]", help="the standard deviation, likewise")
    parser.add_argument("--outputs", choices=("logits", "probabilities"), default="logits",
                        help="what the members answer with; a trailing softmax is cut back to its logits, "
                        "other probabilities are refused")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the bundle's manifest as JSON")


def numbers(text: str) -> list[float]:
    """Reads `0.485,0.456,0.406`."""
    return [float(part) for part in text.split(",")]


def _labels(path: Path) -> list[str]:
    """Reads class names, one a line."""
    from detector.files import read_file

    try:
        return read_file(path, lambda found: InputError(f"{path}: {found}")).decode().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8, found {error.reason} at byte {error.start}") from None


def run(options: argparse.Namespace) -> int:
    """Makes the bundle."""
    from detector.bring import bring

    if (options.mean is None) != (options.std is None):
        found = "--std" if options.mean is None else "--mean"
        raise SettingError(f"--mean and --std: expected both or neither, found {found} alone")
    bundle, notes = bring(
        options.out,
        options.member,
        labels=None if options.labels is None else _labels(options.labels),
        mean=options.mean,
        std=options.std,
        outputs=options.outputs,
    )
    if options.json:
        print(json.dumps({"path": str(options.out), **json.loads(bundle.manifest.model_dump_json())}))
        return 0
    for note in notes:
        print(note)
    print(f"{options.out}: {bundle.member_count} members, {bundle.class_count} classes, images {bundle.input.shape}")
    print(f"next: ledgate calibrate {options.out} --clean clean.npz --adversarial adversarial.npz --target-fpr 0.05")
    return 0
