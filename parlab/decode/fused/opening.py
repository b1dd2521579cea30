"""Sure draft tokens that are searched again because a phrase may begin there."""

from __future__ import annotations

import torch
from torch import Tensor

from parlab.decode.filling.drafting import Drafting
from parlab.decode.fused.phrases import Phrases
from parlab.transfer import to_device, to_host


def open_places(drafting: Drafting, phrases: Phrases, margin: float) -> Tensor:
    """True (B, U) from each place on where another token, with which a phrase begins, is nearly as probable as CTC's best one,
    for as many draft tokens as the longest such phrase has; on the host.

    Args:
        drafting: in the decoder's tokens.
        margin: nats that the posterior of the phrase's first token may lie below the best in a frame of the draft token's run.
    """
    # 1. The number of the draft token whose run each frame (B, T) belongs to; U where there is none.
    draft, log_probs = drafting.draft, drafting.log_probs
    width, size = draft.tokens.size(1), log_probs.size(1)
    frame = torch.arange(size).view(1, -1, 1)
    inside = torch.arange(width) < draft.lengths.unsqueeze(1)
    in_run = (frame >= draft.first.unsqueeze(1)) & (frame <= draft.last.unsqueeze(1)) & inside.unsqueeze(1)  # (B, T, U)
    index = torch.where(in_run.any(2), in_run.long().argmax(2) if width else 0, width)
    padded = torch.cat([draft.tokens, torch.full_like(draft.lengths.unsqueeze(1), -1)], 1)
    # 2. Where a phrase's first token, another than the draft's, is near the best one; phrases of one length together.
    lengths = sorted(set(phrases.openings.values()))
    [own] = to_device(log_probs.device, padded.gather(1, index))
    best = log_probs.amax(2)
    near = []
    for length in lengths:
        ids = torch.tensor([token for token, n in phrases.openings.items() if n == length])
        [ids] = to_device(log_probs.device, ids)
        scores = log_probs[:, :, ids].masked_fill(own.unsqueeze(2) == ids, float("-inf"))
        near.append(scores.amax(2) >= best - margin)
    # 3. Opened from there on.
    opened = torch.zeros(len(own), width + max(lengths) + 1, dtype=torch.bool)
    for length, found in zip(lengths, to_host(*near), strict=True):
        places = torch.zeros(len(own), width + 1, dtype=torch.bool).scatter_reduce_(1, index, found, "amax")[:, :width]
        for i in range(length):
            opened[:, i : i + width] |= places
    return opened[:, :width] & inside
