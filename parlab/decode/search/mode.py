"""How beams are searched: in fixed shapes or not, by the device unless a caller or the environment says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from parlab.decode.search.graphs import run_captured

Step = Callable[[Any, Any], Any]  # a search in fixed shapes and its state, to the next state


@dataclass(frozen=True)
class SearchMode:
    """How beams are searched.

    Attributes:
        fixed: in fixed shapes; None: on every device but the CPU, where dropping rows is faster.
        step: runs one step of a search in fixed shapes; None: by CUDA graphs where there are some, else as it stands.
    """

    fixed: bool | None = None
    step: Step | None = None

    def is_fixed(self, device: torch.device) -> bool:
        """Whether searches on the device have fixed shapes."""
        return device.type != "cpu" if self.fixed is None else self.fixed

    def stepper(self, device: torch.device) -> Step | None:
        """What runs a step on the device."""
        return run_captured if self.step is None and device.type == "cuda" else self.step


_DEFAULT = SearchMode()
_MODE: ContextVar[SearchMode | None] = ContextVar("mode", default=None)


def mode() -> SearchMode:
    """The mode of this thread."""
    return _MODE.get() or _DEFAULT


@contextmanager
def search_mode(fixed: bool | None = None, step: Step | None = None) -> Iterator[None]:
    """Search in another mode within the block, as tests and measurements do."""
    token = _MODE.set(SearchMode(fixed, step))
    try:
        yield
    finally:
        _MODE.reset(token)
