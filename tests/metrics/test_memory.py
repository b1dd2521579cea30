"""Peak memory counts what operations make, while it is in use."""

from __future__ import annotations

import torch

from parlab.metrics.memory import PeakMemory

CPU = torch.device("cpu")


def test_freed_tensors_views_and_work_in_place_cost_nothing() -> None:
    before = torch.zeros(1000)
    with PeakMemory(CPU) as peak:
        first = before + 1  # 4000 bytes
        second = first.view(10, 100).t().mul_(2)  # the same storage
        third = second.sum(1)  # 400 more at the most
        del first, second, third
        _ = before + 2  # after all is freed
    assert 4000 <= peak.bytes <= 4400


def test_the_second_block_starts_at_nothing() -> None:
    """What a CPU's allocator keeps does not count."""
    with PeakMemory(CPU) as first:
        block = torch.ones(2**20) * 2
        del block
    with PeakMemory(CPU) as second:
        _ = torch.ones(2**10) * 2
    assert first.bytes == 2 * 4 * 2**20
    assert second.bytes == 2 * 4 * 2**10
