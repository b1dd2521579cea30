"""The capture of graphs with stand-ins for CUDA: its stream, its device, and what autocast would keep."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from parlab.capture import _streams, capture

SECOND = torch.device("cuda:1")


class Stream:
    """A stream of a device that notes what it waits for."""

    def __init__(self, device: torch.device):
        self.device = device
        self.waited_for: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited_for.append(other)


class Cuda:
    """What ``capture`` asks of ``torch.cuda``, with a current device and stream."""

    def __init__(self) -> None:
        self.now: list[Any] = [torch.device("cuda:0")]
        self.compute = Stream(SECOND)

    def current_stream(self, device: torch.device) -> Stream:
        assert device == SECOND
        return self.compute

    @contextmanager
    def within(self, what: Any, **options: Any) -> Iterator[None]:
        self.now.append(options.get("stream", what))
        yield
        self.now.pop()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    made = Cuda()
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, made.within)
    monkeypatch.setattr(torch.cuda, "current_stream", made.current_stream)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    _streams.kept.clear()
    yield made
    _streams.kept.clear()


def test_a_capture_runs_on_the_tensors_device_and_on_a_stream_of_its_own(cuda: Cuda) -> None:
    """The first device is the current one, where the operations of the second would not be captured."""

    def where() -> tuple[torch.device, Stream]:
        return cuda.now[-2], cuda.now[-1]

    runs: list[tuple[torch.device, Stream]] = []
    _, output = capture(lambda: runs.append(where()), where, SECOND)
    device, stream = output
    assert runs == [(SECOND, stream)]
    assert (device, stream.device) == (SECOND, SECOND)
    # It reads what the computing stream wrote, and that one goes on after the run.
    assert stream.waited_for == [cuda.compute]
    assert cuda.compute.waited_for == [stream]


def test_a_thread_has_one_stream_for_captures(cuda: Cuda) -> None:
    def stream(_: int) -> Stream:
        return capture(lambda: None, lambda: cuda.now[-1], SECOND)[1]

    assert stream(0) is stream(1)
    with ThreadPoolExecutor(1) as pool:
        assert next(iter(pool.map(stream, range(1)))) is not stream(2)


def test_autocast_keeps_no_weights_for_a_graph(cuda: Cuda) -> None:
    """It frees them at its end; afterwards it keeps them again, even if a capture fails."""
    assert torch.is_autocast_cache_enabled()
    seen: list[bool] = []

    def fail() -> None:
        seen.append(torch.is_autocast_cache_enabled())
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        capture(lambda: seen.append(torch.is_autocast_cache_enabled()), fail, SECOND)
    assert seen == [False, False]
    assert torch.is_autocast_cache_enabled()
