"""One CUDA graph for all steps of a search, kept for later searches of the same sizes."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from threading import local
from typing import Any, Protocol, TypeVar
from weakref import ref

import torch
from torch import Tensor

from parlab.capture import capture, rounding
from parlab.decode.scorers import Scorer

SWITCH = "PARLAB_CUDA_GRAPHS"  # 0 in the environment turns graphs off
MOST_GRAPHS = 16
MOST_BYTES = 2 * 2**30  # a graph reads buffers of its own: larger searches run without one
MOST_KEPT = 2 * MOST_BYTES  # bytes of the buffers of all graphs of a thread


State = TypeVar("State")


class Search(Protocol):
    """A search in fixed shapes: ``step`` makes the next state, of the same shapes, and changes nothing else."""

    def step(self, state: Any) -> Any: ...


def tensors_of(x: Any) -> Iterator[Tensor]:
    """The tensors of a search or its state, always in the same order; the weights of models are none of them."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (list, tuple)):
        for part in x:
            yield from tensors_of(part)
    elif parts := _parts(x):
        for part in parts.values():
            yield from tensors_of(part)


def with_tensors(x: Any, made: Callable[[Tensor], Tensor]) -> Any:
    """The same search or state with other tensors."""
    if isinstance(x, Tensor):
        return made(x)
    if isinstance(x, (list, tuple)):
        return type(x)(with_tensors(part, made) for part in x)
    if parts := _parts(x):
        copy = object.__new__(type(x))
        copy.__dict__.update(x.__dict__)
        copy.__dict__.update({name: with_tensors(part, made) for name, part in parts.items()})
        return copy
    return x


def signature(x: Any) -> tuple[Any, ...]:
    """What two searches must share to be run by the same graph: types, shapes, options, and the models themselves."""
    if isinstance(x, Tensor):
        return (tuple(x.shape), x.dtype, x.device)
    if isinstance(x, (list, tuple)):
        return tuple(signature(part) for part in x)
    if parts := _parts(x):
        return (type(x), *(signature(part) for part in parts.values()))
    return (x,) if isinstance(x, (int, float, str, bool, type(None))) else (type(x), id(x))


def _parts(x: Any) -> dict[str, Any]:
    """The parts of dataclasses and of scorers; nothing of models."""
    if is_dataclass(x) and not isinstance(x, type):
        return {field.name: getattr(x, field.name) for field in fields(x)}
    return dict(vars(x)) if isinstance(x, Scorer) else {}


@dataclass(frozen=True)
class Captured:
    """A graph of one step, and the buffers that it reads and writes.

    ``search`` keeps the models alive, so that no id of a signature is given twice.
    """

    graph: Any
    search: Search
    state: Any

    @staticmethod
    def of(search: Search, state: Any) -> Captured:
        """Capture a step of a search on CUDA."""
        with torch.inference_mode(False), torch.no_grad():  # the buffers are written in either mode
            search, state = (with_tensors(x, _copied) for x in (search, state))
        device = next(tensors_of(state)).device
        graph, _ = capture(lambda: search.step(state), lambda: write(state, search.step(state)), device)
        return Captured(graph, search, state)


class _Kept(local):
    """The graphs of a thread, the newest used last, and the search that the newest one runs: buffers serve one search at a time."""

    def __init__(self) -> None:
        self.graphs: OrderedDict[tuple[Any, ...], Captured] = OrderedDict()
        self.running: Callable[[], Search | None] = lambda: None


_kept = _Kept()


def run_captured(search: Search, state: State) -> State:
    """One step, by a graph where the search is small enough; the state is the graph's own, which the next step changes."""
    newest = next(reversed(_kept.graphs.values()), None)
    if newest is None or search is not _kept.running() or state is not newest.state:
        if os.environ.get(SWITCH) == "0" or _bytes((search, state)) > MOST_BYTES:
            return search.step(state)
        newest = _loaded(search, state)
    newest.graph.replay()
    return newest.state


def _loaded(search: Search, state: Any) -> Captured:
    """The graph of searches like this one, with its numbers in the graph's buffers."""
    key = (rounding("cuda"), *signature((search, state)))
    found = _kept.graphs.pop(key, None)
    if found is None:
        found = Captured.of(search, state)
    else:
        write((found.search, found.state), (search, state))
    _kept.graphs[key], _kept.running = found, ref(search)
    sizes = [_bytes((kept.search, kept.state)) for kept in _kept.graphs.values()]
    while len(sizes) > 1 and (len(sizes) > MOST_GRAPHS or sum(sizes) > MOST_KEPT):
        _kept.graphs.popitem(last=False)
        sizes.pop(0)
    return found


def _bytes(x: Any) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors_of(x))


def write(buffers: Any, values: Any) -> None:
    """Copy the tensors of one search or state into those of another."""
    for buffer, value in zip(tensors_of(buffers), tensors_of(values), strict=True):
        buffer.copy_(value)


def _copied(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)
