"""Limits of length by ESPnet's options ``maxlenratio`` and ``minlenratio``."""

from __future__ import annotations

from collections.abc import Sequence

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


def longest_texts(ratio: float, frames: Tensor, prompts: Sequence[Sequence[int]], positions: int | None) -> Tensor:
    """Most tokens (B,) of texts after their prompts, at least 1.

    Args:
        ratio: as of ``length_limit``; 0 stands for all ``frames`` (B,), on the host.
        positions: of the decoder, which prompt and text share; None: any number.
    """
    longest = length_limit(ratio, frames, at_zero=frames)
    if positions is not None:
        longest = torch.minimum(longest, positions - torch.tensor([len(prompt) for prompt in prompts]))
    return longest.clamp(min=1)
