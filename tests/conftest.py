"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real speech beside the repository; skips where it is absent, unless CI requires it."""
    if not SHARED.exists():
        if os.environ.get("PARLAB_REQUIRE_SHARED"):
            pytest.fail(f"the real speech in {SHARED} is absent")
        pytest.skip(f"no real speech: {SHARED} does not exist")
    return SHARED


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads here as a process of several devices has: sums of floats depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that uses the real speech gets the marker ``shared`` (``pytest -m shared``)."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)
