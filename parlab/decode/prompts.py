"""Prompts: what stands before the first decoded token, one for all utterances or one each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parlab.model.hybrid import HybridModel

Prompt = tuple[int, ...] | Sequence[tuple[int, ...]] | None


def prompts_for(model: HybridModel, prompt: Prompt, batch: int) -> list[tuple[int, ...]]:
    """One prompt per utterance; the model's default where None is given.

    Raises:
        ValueError: another number of prompts than utterances, or an empty one.
    """
    if prompt is None:
        prompt = model.prompt
    prompts: list[tuple[int, ...]] = []
    if not prompt or isinstance(prompt[0], int):
        prompts = [tuple(prompt)] * batch  # type: ignore[arg-type]
    else:
        prompts = [tuple(p) for p in prompt]  # type: ignore[arg-type]
    if len(prompts) != batch or not all(prompts):
        raise ValueError(f"got {len(prompts)} prompts for {batch} utterances, expected one non-empty prompt each")
    return prompts


def pad_tokens(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token rows to (B, L), padded with 0 at the right, and lengths (B,)."""
    lengths = [len(row) for row in rows]
    width = max(lengths, default=0)
    padded = [list(row) + [0] * (width - len(row)) for row in rows]
    shape = (len(rows), width)
    return torch.tensor(padded, dtype=torch.long, device=device).view(shape), torch.tensor(lengths, device=device)
