"""CUDA graphs of an encoder, one for each size of batch and bucket of frames, kept for later batches of the same sizes.

A graph was never captured on a device: this is off unless it is asked for (``predict --encoder_graphs true``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from parlab.capture import capture, rounding
from parlab.model.invariance import encoder_frames, subsamples

BUCKET = 64  # features; those that fill a bucket are padding, which changes no output
MOST_GRAPHS = 16
MOST_FEATURES = 2**16  # of a batch, padding among them: larger ones keep the device busy without a graph

Run = Callable[[Tensor, Tensor], Any]
Capture = Callable[[Run, Tensor, Tensor], Run]


def captured(run: Run, x: Tensor, frames: Tensor) -> Run:
    """``run`` on inputs of these shapes as one graph, which reads and writes buffers of its own."""
    x, frames = x.clone(), frames.clone()
    graph, output = capture(lambda: run(x, frames), lambda: run(x, frames), x.device)

    def replay(new: Tensor, count: Tensor) -> Any:
        x.copy_(new)
        frames.copy_(count)
        graph.replay()
        return tree_map_only(Tensor, Tensor.clone, output)  # the next batch writes over it

    return replay


class EncoderGraphs:
    """What stands for an encoder's run: its graphs where they are possible, else the run itself.

    Args:
        encoder: its subsampling says how many frames a batch has without the padding of its bucket.
        run: features (B, F, M) and their counts (B,) to ESPnet's output.
        capture: makes a graph.
        device: type of device that has graphs.
    """

    def __init__(self, encoder: nn.Module, run: Run, capture: Capture = captured, device: str = "cuda"):
        self.encoder, self.run, self.capture, self.device = encoder, run, capture, device
        self.kept: OrderedDict[tuple[Any, ...], tuple[Run, list[Tensor]]] = (
            OrderedDict()
        )  # with the tables that a graph reads
        self.positions = [module for module in encoder.modules() if isinstance(vars(module).get("pe"), Tensor)]

    def __call__(self, x: Tensor, frames: Tensor) -> Any:
        size = x.size(1)
        padded = -(-size // BUCKET) * BUCKET
        if x.device.type != self.device or not subsamples(self.encoder) or len(x) * padded > MOST_FEATURES:
            return self.run(x, frames)
        # 1. The graph of the bucket.
        x = torch.nn.functional.pad(x, (0, 0, 0, padded - size))
        weights = next(self.encoder.parameters())
        key = (tuple(x.shape), x.dtype, x.device, weights.data_ptr(), weights.dtype, rounding(x.device.type))
        graph, tables = self.kept.pop(key, (None, []))
        # ESPnet puts a longer table of positions in the place of one that is too short.
        if graph is None or any(a is not b for a, b in zip(tables, self._tables(), strict=True)):
            graph = self.capture(self.run, x, frames)
        self.kept[key] = graph, self._tables()
        while len(self.kept) > MOST_GRAPHS:
            self.kept.popitem(last=False)
        # 2. Its output, without the frames of the padding.
        output = graph(x, frames)
        count = encoder_frames(self.encoder, size)
        return (tree_map_only(Tensor, lambda states: states[:, :count], output[0]), *output[1:])

    def _tables(self) -> list[Tensor]:
        """The tables of positions as they are now, which are neither parameters nor buffers."""
        return [vars(module)["pe"] for module in self.positions]
