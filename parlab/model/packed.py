"""Weights laid out once for the processor that uses them: linear layers, and the table of positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

_TYPES = (torch.float32, torch.bfloat16)


class PackedLinear:
    """``x W^T + b`` on a snapshot of the weights, optionally with ReLU after it.

    On CPU oneDNN's packed weights are 10 to 30 % faster than the default product in float32 (measured on AMD EPYC, 18 to
    1440 rows), and in bfloat16 twice as fast again where the processor multiplies that type; they cost a second copy of
    the weights, so that large layers are left as they are.
    """

    MOST_BYTES = 16 * 2**20  # of one layer's weights; all of a LibriSpeech-size decoder, none of OWSM medium's

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight.detach(), bias.detach() if bias is not None else None
        self.packed = _pack(self.weight) if self.weight.nbytes <= self.MOST_BYTES else None

    @staticmethod
    def of(*layers: Any) -> PackedLinear:
        """Several layers on the same input as one, their outputs side by side; one without a bias has zeros there."""
        if len(layers) == 1:
            return PackedLinear(layers[0].weight, layers[0].bias)
        with torch.no_grad():
            weight = torch.cat([x.weight for x in layers])
            if all(x.bias is None for x in layers):
                return PackedLinear(weight, None)
            biases = [x.weight.new_zeros(len(x.weight)) if x.bias is None else x.bias for x in layers]
            return PackedLinear(weight, torch.cat(biases))

    def __call__(self, x: Tensor, relu: bool = False) -> Tensor:
        """(..., in) to (..., out)."""
        if self.packed is not None and x.dtype == self.weight.dtype and not torch.is_autocast_enabled("cpu"):
            after = "relu" if relu else "none"
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, after, [], "")
        out = linear(x, self.weight, self.bias)
        return out.relu_() if relu else out  # in place, because fresh memory costs more than the ReLU


class Fingerprint:
    """Tells whether weights have changed since it was taken.

    By their storage, by the writes that torch counts and, on a CPU, by a few elements of each: a write through ``.data`` is not
    counted. On other devices the elements would have to be waited for.
    """

    def __init__(self, weights: Sequence[Tensor]):
        self.key = self._key(weights)
        on_cpu = [x.detach().view(-1) for x in weights if x.device.type == "cpu" and x.is_contiguous()]
        self.probes = [x[:: max(1, len(x) // 4)] for x in on_cpu]  # views: they see what is written
        self.values = torch.cat(self.probes) if self.probes else None

    @staticmethod
    def _key(weights: Sequence[Tensor]) -> tuple[Any, ...]:
        writes = sum(0 if x.is_inference() else x._version for x in weights)
        return (writes, *(x.data_ptr() for x in weights), *{x.dtype for x in weights})

    def matches(self, weights: Sequence[Tensor]) -> bool:
        """Whether ``weights`` are as they were."""
        return self._key(weights) == self.key and (
            self.values is None or torch.equal(torch.cat(self.probes), self.values)
        )


class PositionTable:
    """The encodings of positions on the device and in the type of ``weight``.

    A toolkit's own table may be no buffer and stay on the host (ESPnet's). It is copied once, and again when it has grown. Tables that
    were outgrown stay in memory: a CUDA graph of a search goes on reading the one that it was captured with.
    """

    def __init__(self, positions: Callable[[int], Tensor], weight: Tensor):
        self.positions, self.weight = positions, weight
        self.tables = [weight.new_zeros(0, weight.size(1))]

    def of(self, size: int) -> Tensor:
        """Encodings (., D) of at least ``size`` positions, or of all that there are."""
        table = before = self.tables[-1]
        if len(table) < size:
            table = self.positions(size).to(self.weight)
            if len(table) > len(before):
                self.tables.append(table)
        return table


def _pack(weight: Tensor) -> Tensor | None:
    """oneDNN's layout of a CPU weight; None where torch was built without it."""
    if weight.device.type != "cpu" or weight.dtype not in _TYPES or not torch.backends.mkldnn.is_available():
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        probe = weight.new_zeros(1, weight.size(1))
        torch.ops.mkldnn._linear_pointwise(probe, packed, None, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):  # not a public function: a later torch may lack it
        return None
    return packed
