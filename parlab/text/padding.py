"""Rows of token ids as one padded tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_tokens(
    rows: Sequence[Sequence[int]], device: torch.device | None = None, padding: int = 0
) -> tuple[Tensor, Tensor]:
    """Token rows to (B, L), padded at the right, and their lengths (B,)."""
    lengths = [len(row) for row in rows]
    width = max(lengths, default=0)
    padded = [[*row, *[padding] * (width - len(row))] for row in rows]
    tokens = torch.tensor(padded, dtype=torch.long, device=device).view(len(rows), width)
    return tokens, torch.tensor(lengths, dtype=torch.long, device=device)
