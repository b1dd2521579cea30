"""Sinusoidal positions (Vaswani et al. 2017, section 3.5), sines and cosines in turns."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """``positions`` (P,), which may be negative, to (P, D) in float32."""
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float().unsqueeze(1) * torch.exp(steps * -(math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)


def forward_table(size: int, like: Tensor) -> Tensor:
    """Positions from 0 to ``size`` - 1: (size, D) for ``like`` (..., D)."""
    return sinusoids(torch.arange(size, device=like.device), like.size(-1)).to(like.dtype)


def distance_table(size: int, like: Tensor) -> Tensor:
    """Distances from ``size`` - 1 down to 1 - ``size``: (2 size - 1, D) for ``like`` (..., D)."""
    return sinusoids(torch.arange(size - 1, -size, -1, device=like.device), like.size(-1)).to(like.dtype)


def span_table(size: int, like: Tensor) -> Tensor:
    """Distances as ``distance_table``, without their sign: (2 size - 1, D)."""
    return sinusoids(torch.arange(size - 1, -size, -1, device=like.device).abs(), like.size(-1)).to(like.dtype)
