"""Clones of an encoder's top blocks, which branch off below them and belong to a draft head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from parlab.model.decoder_spec import BlockSpec


@dataclass(frozen=True)
class CloneSizes:
    """Sizes of the encoder's blocks that are cloned: attention heads, and the width of the feed-forward layer."""

    heads: int
    inner: int


class CloneBlock(nn.Module):
    """Self-attention and a feed-forward layer of width D, each with its norm before it, as a block of Whisper's encoder.

    Frames past the utterance's end are not attended to, while the encoder's own blocks see the silence of the window.
    """

    def __init__(self, size: int, sizes: CloneSizes, dropout: float):
        super().__init__()
        self.heads = sizes.heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.attended = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.wide, self.narrow = nn.Linear(size, sizes.inner), nn.Linear(sizes.inner, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, T, D) to the same; ``padding`` (B, T) is True past the end of an utterance."""
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None, None, :])
        x = x + self.dropout(self.attended(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.narrow(gelu(self.wide(self.feed_norm(x)))))

    @torch.no_grad()
    def copy_from(self, block: BlockSpec) -> None:
        """Take the weights of an encoder's block over; a missing bias is 0."""
        attention = block.attention
        parts = (attention.query, attention.key, attention.value)
        self.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        biases: list[Tensor] = [
            part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts
        ]
        self.qkv.bias.copy_(torch.cat(biases))
        pairs: list[tuple[Any, Any]] = [
            (self.attended, attention.output),
            (self.wide, block.wide),
            (self.narrow, block.narrow),
            (self.attention_norm, block.attention_norm),
            (self.feed_norm, block.feed_norm),
        ]
        for own, given in pairs:
            own.weight.copy_(given.weight)
            own.bias.copy_(given.bias)
