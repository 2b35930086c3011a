"""The public Python names of ledgate, gathered from the rooms where they live.

    import ledgate

    detector = ledgate.Detector.open("BUNDLE")
    verdicts = detector.classify(images)

A name is imported when it is first used (PEP 562), so that `import ledgate` loads neither ONNX
Runtime nor gRPC, and nothing here ever loads torch. Before that, `check_rooms` makes sure that the
room it comes from is ours.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Final

from ledgate.rooms import check_rooms

if TYPE_CHECKING:  # the same table, for type checkers and editors; a test holds the two together
    from detector.bundle import Bundle
    from detector.calibrate import calibrate
    from detector.calibration import Calibration
    from detector.check import check
    from detector.detector import Detector
    from detector.diversity import log_diversity
    from detector.errors import (
        BundleError,
        CalibrationError,
        Cancelled,
        DeadlineExceeded,
        DeviceError,
        InputError,
        Internal,
        LedgateError,
        MemberError,
        NotFound,
        PermissionDenied,
        QueueFull,
        ResourceExhausted,
        RunError,
        ServiceError,
        SettingError,
        Unauthenticated,
        Unavailable,
    )
    from detector.imageset import ImageSet
    from detector.prediction import mean_prediction
    from detector.targets import Explicit, MeanFpr, PerClass, TargetFpr, TargetTpr, Youden
    from detector.verdicts import Verdicts
    from serving.answer import ServedVerdicts
    from serving.asyncclient import AsyncClient
    from serving.client import Client
    from serving.retry import Retry
    from serving.tls import Tls

    __version__: str

__all__ = [
    "AsyncClient",
    "Bundle",
    "BundleError",
    "Calibration",
    "CalibrationError",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Detector",
    "DeviceError",
    "Explicit",
    "ImageSet",
    "InputError",
    "Internal",
    "LedgateError",
    "MeanFpr",
    "MemberError",
    "NotFound",
    "PerClass",
    "PermissionDenied",
    "QueueFull",
    "ResourceExhausted",
    "Retry",
    "RunError",
    "ServedVerdicts",
    "ServiceError",
    "SettingError",
    "TargetFpr",
    "TargetTpr",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Verdicts",
    "Youden",
    "__version__",
    "calibrate",
    "check",
    "log_diversity",
    "mean_prediction",
]

# name -> the module it is defined in
_HOMES: Final = {
    "AsyncClient": "serving.asyncclient",
    "Bundle": "detector.bundle",
    "BundleError": "detector.errors",
    "Calibration": "detector.calibration",
    "CalibrationError": "detector.errors",
    "Cancelled": "detector.errors",
    "Client": "serving.client",
    "DeadlineExceeded": "detector.errors",
    "Detector": "detector.detector",
    "DeviceError": "detector.errors",
    "Explicit": "detector.targets",
    "ImageSet": "detector.imageset",
    "InputError": "detector.errors",
    "Internal": "detector.errors",
    "LedgateError": "detector.errors",
    "MeanFpr": "detector.targets",
    "MemberError": "detector.errors",
    "NotFound": "detector.errors",
    "PerClass": "detector.targets",
    "PermissionDenied": "detector.errors",
    "QueueFull": "detector.errors",
    "ResourceExhausted": "detector.errors",
    "Retry": "serving.retry",
    "RunError": "detector.errors",
    "ServedVerdicts": "serving.answer",
    "ServiceError": "detector.errors",
    "SettingError": "detector.errors",
    "TargetFpr": "detector.targets",
    "TargetTpr": "detector.targets",
    "Tls": "serving.tls",
    "Unauthenticated": "detector.errors",
    "Unavailable": "detector.errors",
    "Verdicts": "detector.verdicts",
    "Youden": "detector.targets",
    "calibrate": "detector.calibrate",
    "check": "detector.check",
    "log_diversity": "detector.diversity",
    "mean_prediction": "detector.prediction",
}

if not TYPE_CHECKING:  # a type checker would take this for a promise that every name exists

    def __getattr__(name: str) -> object:
        """Imports a public name at its first use and keeps it."""
        if name == "__version__":
            value = importlib.metadata.version("ledgate")
        elif name in _HOMES:
            check_rooms()
            value = getattr(importlib.import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'ledgate' has no attribute '{name}'")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
