"""Masks: which draft tokens are not trusted."""

from __future__ import annotations

import torch
from torch import Tensor

from parlab.decode.draft import Draft


def mask_below(draft: Draft, threshold: float) -> Tensor:
    """True (B, U) where a token's confidence is below ``threshold``."""
    inside = torch.arange(draft.tokens.size(1), device=draft.tokens.device) < draft.lengths.unsqueeze(1)
    return (draft.confidence < threshold) & inside
