"""Limits of length, as ESPnet's options state them."""

from __future__ import annotations

import torch
from torch import Tensor


def length_limit(ratio: float, frames: Tensor, at_zero: Tensor) -> Tensor:
    """ESPnet's length ratios as tokens (B,): a share of the ``frames`` (B,), or below 0 a number."""
    if ratio == 0:
        return at_zero
    if ratio < 0:
        return torch.full_like(frames, int(-ratio))
    return (frames.double() * ratio).long()
