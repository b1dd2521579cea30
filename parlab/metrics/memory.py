"""Peak memory of a block of work: on CUDA the allocator's, elsewhere the tensors that torch's operations make.

The peak of a process says little on a CPU: its allocator keeps what was freed, so that the first work pays for the next.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory:
    """Peak bytes above those in use before the block, in ``bytes`` after it.

    Outside CUDA every operation is looked at, which takes time: time the work in another run. Scratch that an operation
    frees itself is not seen there.
    """

    def __init__(self, device: torch.device):
        self.device, self.bytes = device, 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.start = torch.cuda.memory_allocated(self.device)
        else:
            self.live = _LiveTensors()
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self.start
        else:
            self.live.__exit__(*error)
            self.bytes = self.live.peak


class _LiveTensors(TorchDispatchMode):
    """Bytes of the storages that operations made and that are still in use, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for x in tree_leaves((args, kwargs)):
            self._note(x, made=False)  # what was there before, or is counted already
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            self._note(x, made=True)
        self.peak = max(self.peak, self.now)
        return out

    def _note(self, x: Any, made: bool) -> None:
        if not isinstance(x, Tensor) or x.is_mkldnn:  # packed weights have no storage of torch's
            return
        storage = x.untyped_storage()
        key = storage._cdata
        if key not in self.known:
            self.known[key] = storage.nbytes() if made else 0
            self.now += self.known[key]
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.known.pop(key)
