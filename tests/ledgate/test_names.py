"""The public Python names: complete, sorted, and each the very object of the room it comes from."""

import importlib

import pytest

import detector.errors
import ledgate
from tests.naming import told_homes

# What users may rely on; a name leaves this list only with a major version.
PROMISED = {
    *("Bundle", "Calibration", "Client", "Detector", "Explicit", "ImageSet", "TargetFpr", "TargetTpr", "Verdicts"),
    *("MeanFpr", "PerClass", "Youden", "AsyncClient", "QueueFull", "Retry", "ServedVerdicts"),
    *("BundleError", "CalibrationError", "DeviceError", "InputError", "LedgateError", "MemberError", "RunError"),
    *("Cancelled", "DeadlineExceeded", "Internal", "NotFound", "PermissionDenied", "ResourceExhausted", "ServiceError"),
    "SettingError",
    *("Tls", "Unauthenticated", "Unavailable", "__version__", "calibrate", "check", "log_diversity", "mean_prediction"),
}


def test_the_names_are_those_promised_and_sorted() -> None:
    assert ledgate.__all__ == sorted(PROMISED)
    assert dir(ledgate) == sorted(PROMISED)


def test_every_error_is_public() -> None:
    errors = [name for name, value in vars(detector.errors).items() if isinstance(value, type)]
    assert set(errors) <= set(ledgate.__all__)


@pytest.mark.parametrize("name", sorted(PROMISED - {"__version__"}))
def test_a_name_is_what_type_checkers_are_told(name: str) -> None:
    homes = told_homes(ledgate)
    assert set(homes) == set(ledgate.__all__) - {"__version__"}
    home = homes[name]
    assert home is not None
    assert getattr(ledgate, name) is getattr(importlib.import_module(home), name)


def test_star_import_gives_the_names() -> None:
    space: dict[str, object] = {}
    exec("from ledgate import *", space)
    assert set(space) >= PROMISED


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ledgate' has no attribute 'Detektor'"):
        getattr(ledgate, "Detektor")  # noqa: B009  a type checker knows that it is not there
