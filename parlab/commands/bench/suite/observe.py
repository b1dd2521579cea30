"""What a device tells of a piece of work: peak memory; on CUDA host synchronisations by line, kernels by name."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from parlab.commands.bench.suite.plan import Fields
from parlab.metrics.memory import PeakMemory
from parlab.metrics.tables import Cell


def host_syncs(task: Callable[[], Any], device: torch.device) -> Counter[str] | None:
    """How often each line of Python made the host wait for the device; None where the device is no CUDA device."""
    if device.type != "cuda":
        return None
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return Counter(
        f"{w.filename.rpartition('/parlab/')[2]}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)
    )


def memory_and_syncs(name: str, task: Callable[[], Any], device: torch.device) -> Fields:
    """The cells ``<name>_peak_bytes`` and, on CUDA, ``<name>_syncs`` and ``<name>_sync_lines``, of two runs that are not timed."""
    with PeakMemory(device) as peak:
        task()
    cells: dict[str, Cell] = {f"{name}_peak_bytes": peak.bytes}
    syncs = host_syncs(task, device)
    if syncs is not None:
        cells[f"{name}_syncs"] = sum(syncs.values())
        cells[f"{name}_sync_lines"] = "; ".join(f"{line} x{count}" for line, count in syncs.most_common(20))
    return cells


@dataclass(frozen=True)
class Kernels:
    """The profile of a piece of work; operations of torch stand for kernels where the device is the CPU.

    Attributes:
        count: launches.
        milliseconds: their time on the device, summed.
        top: (name, launches, milliseconds) of those that took longest.
        table: the profiler's own table, for people.
    """

    count: int
    milliseconds: float
    top: list[tuple[str, int, float]]
    table: str


def kernel_profile(task: Callable[[], Any], device: torch.device, top: int = 12) -> Kernels:
    """Run a task under torch's profiler."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as found:
        task()
        if cuda:
            torch.cuda.synchronize(device)
    averages = found.key_averages()
    kind = torch.autograd.DeviceType.CUDA if cuda else torch.autograd.DeviceType.CPU  # type: ignore[attr-defined]

    def milliseconds(event: Any) -> float:
        return (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000

    own = sorted((event for event in averages if event.device_type == kind), key=milliseconds, reverse=True)
    table = averages.table(sort_by="self_cuda_time_total" if cuda else "self_cpu_time_total", row_limit=40)
    return Kernels(
        count=sum(event.count for event in own),
        milliseconds=sum(map(milliseconds, own)),
        top=[(event.key, event.count, milliseconds(event)) for event in own[:top]],
        table=table,
    )
