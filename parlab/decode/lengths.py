"""Limits of length by ESPnet's options ``maxlenratio`` and ``minlenratio``."""

from __future__ import annotations

import torch
from torch import Tensor


def length_limit(ratio: float, frames: Tensor, at_zero: Tensor) -> Tensor:
    """A length ratio as tokens (B,).

    Args:
        ratio: a share of the frames; below 0 a number of tokens, its sign turned; 0 stands for ``at_zero`` (B,).
        frames: (B,) encoder frames.
    """
    if ratio == 0:
        return at_zero
    if ratio < 0:
        return torch.full_like(frames, int(-ratio))
    return (frames.double() * ratio).long()
