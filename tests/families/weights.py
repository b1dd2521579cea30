"""Weights by seed, and waveforms: the same for an original and for our reading of its folder, on any machine.

numpy's ``RandomState`` is frozen: its numbers never change.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

Shapes = Mapping[str, Sequence[int]]
SAMPLES = (14000, 9000, 5200)  # of the waveforms, at 16 kHz


def waves() -> list[torch.Tensor]:
    """Noise in bursts, three utterances."""
    numbers = np.random.RandomState(7)
    found = []
    for size in SAMPLES:
        loud = np.repeat(numbers.uniform(0.01, 0.3, size // 800 + 1), 800)[:size]
        found.append(torch.tensor(loud * numbers.standard_normal(size), dtype=torch.float32).clamp(-1, 1))
    return found


def weights(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """A state dict of these shapes: norms near 1, biases near 0, matrices that keep the size of what passes through."""
    found = {}
    for name, shape in shapes.items():
        numbers = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        value = numbers.standard_normal(tuple(shape))
        if name.endswith("running_var"):
            value = 0.5 + value**2
        elif len(shape) > 1:
            value = value * (1.6 / np.prod(shape[1:])) ** 0.5
        elif name.endswith("weight"):
            value = 1.0 + 0.1 * value
        else:
            value = 0.1 * value
        found[name] = torch.tensor(value, dtype=torch.float32)
    return found


def tokens(vocabulary: int, rows: int, length: int) -> torch.Tensor:
    """Random ids (rows, length) above the first two."""
    return torch.tensor(np.random.RandomState(11).randint(2, vocabulary, (rows, length)))
