"""Energy that a GPU used, as its driver counts it (NVML, which every NVIDIA driver brings)."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch

from parlab.metrics.speed import synchronize

LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")


class EnergyMeter:
    """Joules that a card has used since ``start``.

    The driver's counter is of the whole card: of all processes on it, idle time included. It moves about ten times a second,
    so that seconds of work are needed.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._start: int | None = None

    def start(self) -> None:
        """Count from here."""
        self._start = self._millijoules()

    def joules(self) -> float | None:
        """What was used since ``start``; None where that was not called or the card has no counter.

        No NVIDIA GPU, no driver, a card older than Volta and a part of a card (MIG) have none.
        """
        end = self._millijoules()
        return None if self._start is None or end is None or end < self._start else (end - self._start) / 1000

    def _millijoules(self) -> int | None:
        library = _library() if self.device.type == "cuda" else None
        if library is None:
            return None
        synchronize(self.device)
        # NVML numbers cards in an order of its own and sees hidden ones: a card is found by its UUID.
        uuid = str(getattr(torch.cuda.get_device_properties(self.device), "uuid", "")).removeprefix("GPU-")
        card, energy = ctypes.c_void_p(), ctypes.c_ulonglong()
        if library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(card)):  # 0 is success
            return None
        return None if library.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(energy)) else energy.value


@cache
def _library() -> Any:
    """NVML, started; None where there is none."""
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if library.nvmlInit_v2() == 0:
            return library
    return None
