"""Page-locked memory: what is held there is what was given, nobody shares a place, and all of it is given back.

The driver is a twin that hands out ordinary memory; with CUDA's own see `tests/test_gpu.py`.
"""

import ctypes
import threading
from typing import Any

import numpy as np
import pytest

from detector.device import CPU, Device
from detector.ensemble import Ensemble
from detector.errors import DeviceError
from detector.pinned import Pinned
from detector.tuning import Tuning
from tests.conftest import at_once, make_images, make_members

HERE = Device(provider=CPU)
SIZES = [1, 2, 3, 4, 5, 9]


class Driver:
    """What `detector.pinned` asks of CUDA's driver, with ordinary memory; one function may fail."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.blocks: dict[int, Any] = {}
        self.allocated = 0
        self.retained = 0
        self.pushed: list[int] = []
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        plain = getattr(type(self), f"on_{name}")
        return lambda *arguments: 999 if name == self.failing else plain(self, *arguments) or 0

    def on_cuInit(self, flags: int) -> None:  # noqa: N802
        assert flags == 0

    def on_cuDeviceGet(self, number: Any, index: int) -> None:  # noqa: N802
        number._obj.value = index

    def on_cuDevicePrimaryCtxRetain(self, context: Any, number: Any) -> None:  # noqa: N802
        context._obj.value = 77 + number.value
        self.retained += 1

    def on_cuDevicePrimaryCtxRelease(self, number: Any) -> None:  # noqa: N802
        assert number.value == 0
        self.retained -= 1

    def on_cuCtxPushCurrent_v2(self, context: Any) -> None:  # noqa: N802
        self.pushed.append(context.value)

    def on_cuCtxPopCurrent_v2(self, context: Any) -> None:  # noqa: N802
        context._obj.value = self.pushed.pop()

    def on_cuMemHostAlloc(self, address: Any, size: Any, flags: int) -> None:  # noqa: N802
        assert self.pushed  # it is allocated in a context
        assert flags == 1
        block = ctypes.create_string_buffer(b"\xff" * size.value, size.value)  # NaN
        with self.lock:
            self.allocated += 1
            address._obj.value = ctypes.addressof(block)
            self.blocks[address._obj.value] = block

    def on_cuMemFreeHost(self, address: Any) -> None:  # noqa: N802
        assert self.pushed
        del self.blocks[address.value]


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_images_are_held_in_memory_of_the_driver(count: int) -> None:
    driver = Driver()
    images = make_images(count)
    with Pinned(HERE, 4, driver).hold(images) as held:
        (address,) = driver.blocks
        assert held.ctypes.data == address
        assert held.flags.c_contiguous
        np.testing.assert_array_equal(held, images)


def test_more_than_there_is_room_for_stay_where_they_are() -> None:
    driver = Driver()
    images = make_images(5)
    with Pinned(HERE, 4, driver).hold(images) as held:
        assert held is images
    assert driver.allocated == 0


def test_a_place_is_used_again_and_never_by_two() -> None:
    driver = Driver()
    pinned = Pinned(HERE, 4, driver)
    first, second = make_images(3, seed=1), make_images(4, seed=2)
    for _ in range(3):
        with pinned.hold(first) as one, pinned.hold(second) as other:
            assert not np.shares_memory(one, other)
            np.testing.assert_array_equal(one, first)
            np.testing.assert_array_equal(other, second)
    assert driver.allocated == 2


def test_a_place_is_free_again_after_a_failed_run() -> None:
    driver = Driver()
    pinned = Pinned(HERE, 4, driver)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), pinned.hold(make_images(1)):
            raise ZeroDivisionError
    assert driver.allocated == 1


def test_all_of_it_is_given_back() -> None:
    driver = Driver()
    pinned = Pinned(HERE, 4, driver)
    with pinned.hold(make_images(1)), pinned.hold(make_images(2)):
        assert len(driver.blocks) == 2
    assert driver.retained == 1
    del pinned
    assert not driver.blocks
    assert driver.retained == 0
    assert driver.pushed == []


@pytest.mark.parametrize("name", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"])
def test_a_driver_that_fails_is_named_when_the_bundle_is_opened(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"^pinned_memory on cpu: CUDA's {name} failed with code 999$"):
        Pinned(HERE, 4, Driver(name))


@pytest.mark.parametrize("name", ["cuCtxPushCurrent_v2", "cuMemHostAlloc"])
def test_memory_that_is_not_there_is_an_error(name: str) -> None:
    driver = Driver(name)
    pinned = Pinned(HERE, 4, driver)
    with pytest.raises(DeviceError, match=name), pinned.hold(make_images(1)):
        pass
    assert driver.pushed == []


def test_no_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceError, match=r"^pinned_memory: expected CUDA's driver, found no libcuda\.so\.1$"):
        Pinned(HERE, 4)


def test_callers_at_once_have_their_own_logits() -> None:
    members = make_members()
    plain, ensemble = Ensemble(members, device="cpu"), Ensemble(members, device="cpu")
    ensemble._pinned = Pinned(HERE, 4, Driver())
    inputs = [make_images(count, seed=count) for count in SIZES]
    for images, answers in zip(inputs, at_once(ensemble.logits, inputs, 50), strict=True):
        expected = plain.logits(images)
        assert all((answer == expected).all() for answer in answers)


def test_pinned_memory_without_a_gpu_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"^pinned_memory: expected device cuda or tensorrt, found cpu$"):
        Ensemble(make_members(), device="cpu", tuning=Tuning(pinned_memory=True))
