"""Speed: phases timed by the device's own clock, real-time factors, percentiles."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

PHASES = ("load", "encode", "ctc", "search")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, so that a clock counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds of named phases.

    On CUDA events stand in the stream at both ends of a phase, so that it pays for its own work, and for the host's where the device waits
    for it; nobody waits for the device before the seconds are read.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to the phase ``name``."""
        event, start = self._event(), time.perf_counter()
        try:
            yield
        finally:
            after = self._event()
            if event is None or after is None:
                self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start
            else:
                self._events.append((name, event, after))

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far; the device is waited for."""
        if self._events:
            self._events[-1][2].synchronize()
        for name, start, end in self._events:
            self._seconds[name] = self._seconds.get(name, 0.0) + start.elapsed_time(end) / 1000
        self._events.clear()
        return self._seconds

    def _event(self) -> torch.cuda.Event | None:
        """An event in the stream that computes; None where the host's clock suffices."""
        if self.device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


@dataclass(frozen=True)
class Timing:
    """An utterance's share of the seconds that its batch spent in each phase.

    Attributes:
        load: reading and decoding audio.
        encode: padding, copies to the device, front end and encoder.
        ctc: the CTC head.
        search: the decoder.
        latency: seconds from a loaded batch to its results, which all of its utterances wait for.
    """

    load: float = 0.0
    encode: float = 0.0
    ctc: float = 0.0
    search: float = 0.0
    latency: float = 0.0

    @property
    def decoding(self) -> float:
        """All phases but loading."""
        return self.encode + self.ctc + self.search


def share_phases(phases: Mapping[str, float], durations: Sequence[float]) -> list[Timing]:
    """Divide a batch's ``phases`` (seconds by name) among its utterances, in proportion to their ``durations`` (s)."""
    latency = sum(seconds for name, seconds in phases.items() if name != "load")
    whole = sum(durations)
    return [
        Timing(**{name: seconds * d / whole for name, seconds in phases.items()}, latency=latency) for d in durations
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """Percentile with linear interpolation; ``share`` from 0 to 1; 0 for no values at all."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def rtf(audio_seconds: float, seconds: float) -> float:
    """Real-time factor: seconds of decoding per second of audio."""
    return seconds / audio_seconds if audio_seconds > 0 else 0.0


def rtfx(audio_seconds: float, seconds: float) -> float:
    """Inverse real-time factor: seconds of audio decoded per second (Open ASR Leaderboard)."""
    return audio_seconds / seconds if seconds > 0 else 0.0


def peak_memory(device: torch.device) -> int:
    """Peak bytes since the start: of the device's allocator on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # Linux; getrusage there also counts what the parent held before exec
        found = [line.split() for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")]
        if found:
            return int(found[0][1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
