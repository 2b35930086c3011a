"""`ledgate inspect`: what a bundle is, and whether it is whole."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.commands.running import add_running
from detector.errors import CalibrationError

if TYPE_CHECKING:
    from detector.bundle import Bundle
    from detector.detector import Detector


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("--probes", action="store_true",
                        help="run the calibration's probes too, and say how far their scores move here")  # fmt: skip
    add_running(parser, "the probes run")
    parser.add_argument("--json", action="store_true", help="print manifest and calibration as JSON")


def run(options: argparse.Namespace) -> int:
    """Describes the bundle."""
    from detector.bundle import Bundle
    from detector.report import confidence, promise, table

    bundle = Bundle.open(options.bundle)
    calibration = bundle.calibration
    probed = _probed(bundle, options) if options.probes else None
    if options.json:
        found = None if calibration is None else json.loads(calibration.model_dump_json())
        shown = {"manifest": json.loads(bundle.manifest.model_dump_json()), "calibration": found}
        print(json.dumps(shown if probed is None else {**shown, "probes": _facts(probed)}))
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
    if probed is not None:
        print(f"holds on     {probed.execution_path}: {probed.deviation or 'the same, and without probes'}")
    print(f"confidence   {confidence(calibration)}")
    if "assumed" in calibration.provenance:
        print(f"assumed      {calibration.provenance['assumed']}")
    print(f"promise      {promise(calibration)}\n\n{table(calibration)}")
    return 0


def _probed(bundle: "Bundle", options: argparse.Namespace) -> "Detector":
    """The bundle, opened where the options say: its probes have been run."""
    from detector.detector import Detector

    if bundle.calibration is None:
        raise CalibrationError(f"{options.bundle}: expected a calibration, whose probes are run, found none")
    return Detector(bundle, device=options.device, precision=options.precision)


def _facts(probed: "Detector") -> dict[str, Any]:
    """Where the probes ran, and how far they moved, for another program."""
    moved = {} if probed.deviation is None else asdict(probed.deviation)
    return {"execution_path": probed.execution_path.model_dump(), **moved}
