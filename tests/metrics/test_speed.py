"""Clocks and percentiles."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from parlab.metrics.speed import Stopwatch, peak_memory, percentile, rtf, rtfx


def test_real_time_factors() -> None:
    assert rtf(10.0, 2.0) == pytest.approx(0.2)
    assert rtfx(10.0, 2.0) == pytest.approx(5.0)
    assert rtf(0.0, 1.0) == rtfx(1.0, 0.0) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 0.99, 1.0])
def test_percentile_is_numpys(share: float) -> None:
    for values in ([3.0], [4.0, 1.0], [5.0, 1.0, 4.0, 2.0], list(range(101))):
        assert percentile(values, share) == pytest.approx(np.quantile(values, share))
    assert percentile([], share) == 0.0


def test_phases_add_up_and_survive_exceptions() -> None:
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch.phase("search"):
            time.sleep(0.02)
    with pytest.raises(ValueError, match="negative"), watch.phase("ctc"):
        time.sleep(-1)
    assert 0.04 <= watch.seconds["search"] < 0.5
    assert 0 <= watch.seconds["ctc"] < 0.5


def test_phases_of_a_cuda_device_are_timed_by_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is waited for once, when the seconds are read, however many phases there were."""
    clock, waits = [0.0], []

    class Event:
        """An event that the device reaches at once."""

        def __init__(self, enable_timing: bool):
            assert enable_timing

        def record(self, stream: str) -> None:
            assert stream == "stream of cuda:1"
            self.at = clock[0]

        def synchronize(self) -> None:
            waits.append(self.at)

        def elapsed_time(self, end: Event) -> float:
            assert waits, "the device has not come so far"
            return end.at - self.at

    def work(milliseconds: float) -> None:
        clock[0] += milliseconds

    def fail() -> None:
        work(7.0)
        raise RuntimeError("no memory")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    watch = Stopwatch(torch.device("cuda:1"))
    for name, milliseconds in (("encode", 20.0), ("search", 50.0), ("encode", 3.0)):
        with watch.phase(name):
            work(milliseconds)
        work(100.0)  # outside of the phases
    with pytest.raises(RuntimeError, match="memory"), watch.phase("search"):
        fail()
    assert not waits
    assert watch.seconds == {"encode": pytest.approx(0.023), "search": pytest.approx(0.057)}
    with watch.phase("ctc"):
        work(1.0)
    assert watch.seconds["ctc"] == pytest.approx(0.001) and watch.seconds["encode"] == pytest.approx(0.023)
    assert len(waits) == 2


def test_peak_memory_is_of_this_process() -> None:
    before = peak_memory(torch.device("cpu"))
    block = np.ones(200 * 2**20 // 8)
    assert peak_memory(torch.device("cpu")) >= max(before, block.nbytes)
