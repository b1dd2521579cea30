"""Clocks and percentiles."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from parlab.metrics import speed
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


def test_the_device_is_waited_for_before_and_after_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(speed, "synchronize", lambda device: calls.append("wait"))
    with Stopwatch(torch.device("cpu")).phase("search"):
        calls.append("work")
    assert calls == ["wait", "work", "wait"]


def test_peak_memory_is_of_this_process() -> None:
    before = peak_memory(torch.device("cpu"))
    block = np.ones(200 * 2**20 // 8)
    assert peak_memory(torch.device("cpu")) >= max(before, block.nbytes)
