"""Timing: warm, medians, all candidates of a case in turn, so that a slow moment falls on none of them alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parlab.metrics.speed import synchronize
from parlab.model.hybrid import HybridModel


def time_in_turn(
    tasks: Mapping[str, Callable[[], Any]], repeats: Mapping[str, int], device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each task, ``repeats`` of them after one warm-up, in rounds of all tasks."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for round_ in range(max(repeats.values()) + 1):
        for name, task in tasks.items():
            if round_ > repeats[name]:
                continue
            synchronize(device)
            start = time.perf_counter()
            task()
            synchronize(device)
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median(values: list[float]) -> float:
    """The median, 0 for nothing."""
    return statistics.median(values) if values else 0.0


@dataclass(frozen=True)
class SearchShape:
    """Sizes of a PAR search of one utterance.

    Attributes:
        prefix: tokens of the draft with its prompt.
        frames: encoder frames.
        segments: rows of the first step, which the pass over the draft gives.
        rows: rows of each later step, segments x beam.
        steps: later steps.
    """

    prefix: int
    frames: int
    segments: int
    rows: int
    steps: int


def bare_products(model: HybridModel, shape: SearchShape) -> Callable[[], None]:
    """The matrix products that a PAR search cannot do without, and nothing else.

    One pass over the draft (its tokens, and the projection of the frames), the first step's vocabulary projection, and the
    later steps of all rows through every layer and the vocabulary.
    """
    # 1. Random weights and inputs of the decoder's shapes.
    decoder: Any = model.decoder
    layer = decoder.decoders[0]
    width, units, blocks = layer.size, layer.feed_forward.w_1.out_features, len(decoder.decoders)
    shapes = [(width, 3 * width), (width, width), (width, width), (width, width), (width, units), (units, width)]
    weights = [[torch.randn(b, a) for a, b in shapes] for _ in range(blocks)]
    cross = [torch.randn(2 * width, width) for _ in range(blocks)]
    output = torch.randn(model.vocab_size, width)

    def stack(x: Tensor, wide: Tensor) -> None:
        for block in weights:
            for weight in block:
                torch.nn.functional.linear(wide if weight.size(1) == units else x, weight)

    inputs = {n: (torch.randn(n, width), torch.randn(n, units)) for n in {shape.prefix, shape.rows, shape.segments}}
    memory = torch.randn(shape.frames, width)

    # 2. The products in the order of a search.
    def run() -> None:
        for weight in cross:
            torch.nn.functional.linear(memory, weight)
        stack(*inputs[shape.prefix])
        torch.nn.functional.linear(inputs[shape.segments][0], output)
        for _ in range(shape.steps):
            stack(*inputs[shape.rows])
            torch.nn.functional.linear(inputs[shape.rows][0], output)

    return run


def bare_attention(model: HybridModel, shape: SearchShape) -> Callable[[], None]:
    """The matrix products of attention in the same search, without softmax: queries with keys, weights with values.

    One pass of the draft's tokens over themselves and over the frames; the later steps of all rows over both.
    """
    decoder: Any = model.decoder
    blocks, heads = len(decoder.decoders), decoder.decoders[0].self_attn.h
    size = decoder.decoders[0].size // heads
    keys = {n: torch.randn(heads, n, size) for n in {shape.prefix, shape.frames}}
    queries = {n: torch.randn(heads, n, size) for n in {shape.prefix, shape.rows}}

    def attend(count: int) -> None:
        for seen in (shape.prefix, shape.frames):
            torch.bmm(torch.bmm(queries[count], keys[seen].transpose(1, 2)), keys[seen])

    def run() -> None:
        for count in (shape.prefix, *[shape.rows] * shape.steps):
            for _ in range(blocks):
                attend(count)

    return run
