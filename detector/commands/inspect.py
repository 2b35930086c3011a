"""`ledgate inspect`: what a bundle is, and whether it is whole."""

import argparse
import json
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="print manifest and calibration as JSON")


def run(options: argparse.Namespace) -> int:
    """Describes the bundle."""
    from detector.bundle import Bundle
    from detector.report import confidence, promise, table

    bundle = Bundle.open(options.bundle)
    calibration = bundle.calibration
    if options.json:
        found = None if calibration is None else json.loads(calibration.model_dump_json())
        print(json.dumps({"manifest": json.loads(bundle.manifest.model_dump_json()), "calibration": found}))
        return 0
    channels, height, width = bundle.input.shape
    labels = ", ".join(bundle.labels[:10]) + (", ..." if bundle.class_count > 10 else "")
    print(f"{options.bundle}: every digest matches")
    print(f"members      {bundle.member_count}")
    print(f"classes      {bundle.class_count}: {labels}")
    print(f"images       {channels} x {height} x {width}, uint8 or float32 in [0, 1]")
    print(f"digest       {bundle.digest}")
    print(f"made by      {bundle.manifest.provenance.get('command', 'unknown')}")
    if calibration is None:
        print("calibration  none: images are scored, and never flagged; ledgate calibrate makes one")
        return 0
    print(f"calibration  {calibration.digest}")
    print(f"threshold    {calibration.limit} on {calibration.score}, as {calibration.target}")
    print(f"measured on  {calibration.execution_path}")
    print(f"confidence   {confidence(calibration)}")
    if "assumed" in calibration.provenance:
        print(f"assumed      {calibration.provenance['assumed']}")
    print(f"promise      {promise(calibration)}\n\n{table(calibration)}")
    return 0
