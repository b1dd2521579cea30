"""CUDA graphs: many kernels by one launch of the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch


def capture(warm_up: Callable[[], Any], run: Callable[[], Any], device: torch.device) -> tuple[Any, Any]:
    """What ``run`` does on a CUDA device as a graph, and what it returned while it was captured, which each replay writes anew.

    A replay reads and writes the memory that the capture saw. Whoever keeps the graph must keep alive what the run only read.

    Args:
        warm_up: is run before, outside of the graph: libraries make their workspaces, and tables grow.
        device: of all tensors; it need not be the current one.
    """
    stream = _streams.of(device)
    before = torch.cuda.current_stream(device)
    stream.wait_stream(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), _no_autocast_cache():
        with torch.cuda.stream(stream):
            warm_up()
        before.wait_stream(stream)
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = run()
    return graph, output


def rounding(device_type: str) -> tuple[Any, ...]:
    """What operations round to, beside the types of their tensors: a graph goes on as it was when it was captured."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):  # newer than allow_tf32, which cannot be read any more once this was set
        tf32 = matmul.fp32_precision, cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    else:
        tf32 = matmul.allow_tf32, cudnn.allow_tf32
    return (torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type), *tf32)


class _Streams(local):
    """A thread's streams for captures, one a device: the libraries' workspace of a stream is kept for good."""

    def __init__(self) -> None:
        self.kept: dict[torch.device, Any] = {}

    def of(self, device: torch.device) -> Any:
        """The stream of a device."""
        if device not in self.kept:
            self.kept[device] = torch.cuda.Stream(device)
        return self.kept[device]


_streams = _Streams()


@contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Weights that autocast has converted are freed at its end; a graph that had read them would read other memory."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
