"""Page-locked memory: images that a GPU fetches by itself.

From memory that the system may move, CUDA's driver first copies images to a place of its own, once for each member,
while the run waits. From page-locked memory the GPU reads them directly.
"""

import ctypes
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.device import Device
from detector.errors import DeviceError

# CU_MEMHOSTALLOC_PORTABLE of cuda.h: page-locked for every context.
_PORTABLE: Final = 1


class Pinned:
    """Places for images in page-locked memory, as many as are held at a time; any number of threads may hold one.

    Args:
        device: The GPU.
        most: Images of a place.
        driver: CUDA's driver as a library; by default the one of this machine.

    Raises:
        DeviceError: There is no driver, or it has no such memory.
    """

    def __init__(self, device: Device, most: int, driver: Any = None) -> None:
        self._most = most
        self._memory = _Memory(device, driver)
        self._free: list[NDArray[np.float32]] = []

    @contextmanager
    def hold(self, floats: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Copies images (n, C, H, W) to a place, and yields them there; more than there is room for as they are.

        All images are of one shape. What is yielded is the caller's until the context ends.

        Raises:
            DeviceError: There is no memory for one more place.
        """
        if len(floats) > self._most:
            yield floats
            return
        try:
            place = self._free.pop()
        except IndexError:
            place = self._memory.allocate((self._most, *floats.shape[1:]))
        try:
            held = place[: len(floats)]
            held[...] = floats
            yield held
        finally:
            self._free.append(place)


class _Memory:
    """Page-locked memory in the context that ONNX Runtime uses too, the primary one; freed with this object."""

    def __init__(self, device: Device, driver: Any) -> None:
        self._device = device
        try:
            self._driver = driver or ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise DeviceError("pinned_memory: expected CUDA's driver, found no libcuda.so.1") from None
        number, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._ask("cuInit", 0)
        self._ask("cuDeviceGet", ctypes.byref(number), device.index)
        self._ask("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), number)
        self._addresses: list[int] = []
        weakref.finalize(self, _free, self._driver, self._context, number, self._addresses)

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array of that shape, of any content."""
        count = math.prod(shape)
        address = ctypes.c_void_p()
        self._ask("cuCtxPushCurrent_v2", self._context)
        try:
            self._ask("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(4 * count), _PORTABLE)
        finally:
            self._ask("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        assert address.value is not None
        self._addresses.append(address.value)
        numbers = (ctypes.c_float * count).from_address(address.value)
        return np.ctypeslib.as_array(numbers).reshape(shape)

    def _ask(self, name: str, *arguments: Any) -> None:
        """Calls the driver."""
        if (code := getattr(self._driver, name)(*arguments)) != 0:
            raise DeviceError(f"pinned_memory on {self._device}: CUDA's {name} failed with code {code}")


def _free(driver: Any, context: ctypes.c_void_p, number: ctypes.c_int, addresses: list[int]) -> None:
    """Gives everything back; there is nobody left to tell that it failed."""
    if driver.cuCtxPushCurrent_v2(context) == 0:
        for address in addresses:
            driver.cuMemFreeHost(ctypes.c_void_p(address))
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    driver.cuDevicePrimaryCtxRelease(number)
