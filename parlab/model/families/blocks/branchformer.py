"""E-Branchformer's block (Kim et al. 2022): attention beside a convolutional gate, merged by a convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad

from parlab.model.families.blocks.attention import Attention
from parlab.model.families.blocks.decoder import FeedForward, activation
from parlab.model.families.blocks.encoder import EncoderOptions


@dataclass(frozen=True)
class BranchOptions:
    """What a block has beside ``EncoderOptions``.

    Attributes:
        units: of the gating branch, two halves of it.
        kernel: frames that the gate reads; ``merge_kernel`` those that the merging convolution reads.
        causal: both read no later frame; what stands before the first one is padded before the gate's norm (Dolphin).
    """

    units: int
    kernel: int
    merge_kernel: int
    causal: bool = False


class _Gate(nn.Module):
    def __init__(self, options: BranchOptions, eps: float, dropped: float):
        super().__init__()
        channels, self.dropped = options.units // 2, dropped
        self.before = options.kernel - 1 if options.causal else 0
        self.norm = nn.LayerNorm(channels, eps=eps)
        padding = 0 if options.causal else (options.kernel - 1) // 2
        self.conv = nn.Conv1d(channels, channels, options.kernel, padding=padding, groups=channels)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, T, units) to (B, T, units / 2)."""
        kept, gate = x.chunk(2, dim=-1)
        gate = self.norm(pad(gate, (0, 0, self.before, 0))).transpose(1, 2)
        # An utterance alone ends in zeros of the convolution.
        gate = self.conv(gate.masked_fill(pad(padding, (self.before, 0)), 0.0)).transpose(1, 2)
        return dropout(kept * gate, self.dropped, self.training)


class _Gating(nn.Module):
    def __init__(self, width: int, options: BranchOptions, eps: float, dropped: float):
        super().__init__()
        self.channel_proj1 = nn.Sequential(nn.Linear(width, options.units), nn.GELU())
        self.csgu = _Gate(options, eps, dropped)
        self.channel_proj2 = nn.Linear(options.units // 2, width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.channel_proj2(self.csgu(self.channel_proj1(x), padding))


class EBranchformerBlock(nn.Module):
    """Half a feed-forward layer, the two branches and their merge, half a feed-forward layer, a norm."""

    def __init__(self, options: EncoderOptions, branch: BranchOptions):
        super().__init__()
        width, eps = options.attention.width, options.eps
        self.norm_ff_macaron, self.norm_ff, self.norm_final = (nn.LayerNorm(width, eps=eps) for _ in range(3))
        self.norm_mha, self.norm_mlp = (nn.LayerNorm(width, eps=eps) for _ in range(2))
        self.dropout = drop = options.dropout
        feeds = (FeedForward(width, options.hidden, activation(options.activation), drop.inner) for _ in range(2))
        self.feed_forward_macaron, self.feed_forward = feeds
        self.attn = Attention(options.attention)
        self.cgmlp = _Gating(width, branch, eps, drop.inner)
        self.before = branch.merge_kernel - 1 if branch.causal else 0
        padding = 0 if branch.causal else (branch.merge_kernel - 1) // 2
        self.depthwise_conv_fusion = nn.Conv1d(
            2 * width, 2 * width, branch.merge_kernel, padding=padding, groups=2 * width
        )
        self.merge_proj = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, padding: Tensor, positions: Tensor | None) -> Tensor:
        """(B, T, D) to the same; ``padding`` (B, 1, T) is true after an utterance."""
        drop = self.dropout
        x = x + 0.5 * dropout(self.feed_forward_macaron(self.norm_ff_macaron(x)), drop.feed, self.training)
        attended = self.attn(self.norm_mha(x), ~padding.unsqueeze(1), positions)
        attended = dropout(attended, drop.attention, self.training)
        gated = dropout(self.cgmlp(self.norm_mlp(x), padding), drop.convolution, self.training)
        both = torch.cat([attended, gated], dim=-1)
        merged = both.transpose(1, 2).masked_fill(padding, 0.0)
        merged = self.depthwise_conv_fusion(pad(merged, (self.before, 0))).transpose(1, 2)
        x = x + dropout(self.merge_proj(both + merged), drop.convolution, self.training)
        x = x + 0.5 * dropout(self.feed_forward(self.norm_ff(x)), drop.feed, self.training)
        return self.norm_final(x)
