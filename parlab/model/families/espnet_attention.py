"""Self-attention of ESPnet's encoders through torch's scaled-dot-product attention, where nothing is trained.

ESPnet makes the scores (B, H, T, T) three times over, in as many kernels; here the relative positions (Dai et al. 2019, section 3.3)
are an additive mask of one fused kernel. The weights and their names stay as they are. While training, ESPnet's own code runs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def diagonals(scores: Tensor, offset: int) -> Tensor:
    """Read ``scores`` (B, H, T, W), a product's output, with rows of W - 1 numbers from ``offset`` on: (B, H, T, T), no copy.

    So row i starts ``offset`` - i columns after its own start, which turns columns of distances into columns of keys.
    """
    scores = scores.contiguous()  # which a product's output is already
    batch, heads, frames, width = scores.shape
    strides = (heads * frames * width, frames * width, width - 1, 1)
    return scores.as_strided((batch, heads, frames, frames), strides, offset)


class FastAttention:
    """What stands for a module's ``forward``: the fused form in evaluation mode, ESPnet's own while training.

    Args:
        module: ESPnet's multi-headed attention, which keeps its parameters.
    """

    def __init__(self, module: Any):
        self.module = module

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:
        if self.module.training or options:
            return type(self.module).forward(self.module, query, key, value, *rest, **options)
        return self.attend(query, key, value, *rest)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of ``query`` (B, T, D) to ``key`` and ``value`` (B, S, D); ``mask`` (B, 1 or T, S) is true at what is seen."""
        q, k, v = self.module.forward_qkv(query, key, value)
        return self.output(scaled_dot_product_attention(q, k, v, None if mask is None else mask.bool().unsqueeze(1)))

    def output(self, context: Tensor) -> Tensor:
        """The output layer on ``context`` (B, H, T, D / H)."""
        batch, heads, frames, size = context.shape
        return self.module.linear_out(context.transpose(1, 2).reshape(batch, frames, heads * size))


class RelativeAttention(FastAttention):
    """Relative positions, ESPnet's ``latest``: columns of distances T - 1 ... 1 - T."""

    # 6 parameters: those of ESPnet's forward
    def attend(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, positions: Tensor, mask: Tensor | None
    ) -> Tensor:
        """As ``FastAttention.attend``, self-attention with ``positions`` (1, 2 T - 1, D)."""
        module = self.module
        q, k, v = module.forward_qkv(query, key, value)
        scaled = (q + module.pos_bias_v.unsqueeze(1)) / math.sqrt(module.d_k)
        bias = self.position_scores(scaled, self.projected(positions), mask)
        if mask is not None:  # the lowest number, not -inf: no row becomes NaN
            bias = bias.masked_fill(~mask.bool().unsqueeze(1), torch.finfo(bias.dtype).min)
        context = scaled_dot_product_attention(q + module.pos_bias_u.unsqueeze(1), k, v, bias.to(q.dtype))
        return self.output(context)

    def projected(self, positions: Tensor) -> Tensor:
        """``positions`` (1, P, D) to (1, H, P, D / H)."""
        module = self.module
        return module.linear_pos(positions).view(1, -1, module.h, module.d_k).transpose(1, 2)

    def position_scores(self, q: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Scores (B, H, T, T) of the distances between frames, for scaled queries ``q`` (B, H, T, D / H)."""
        scores = torch.matmul(q, positions.transpose(-2, -1))  # (B, H, T, 2 T - 1)
        return diagonals(scores, q.size(2) - 1)


class LegacyRelativeAttention(RelativeAttention):
    """Relative positions, ESPnet's ``legacy``: T columns, so that a frame sees positions which depend on the utterance's length n.

    ESPnet's shift gives frame i the column n - 1 - i + j for a key j up to i, 0 for the next, and the next frame's column
    j - i - 2 after it. Each utterance gets its own n here, where ESPnet takes that of the padded batch.
    """

    def position_scores(self, q: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        frames = q.size(2)
        after = diagonals(torch.matmul(q, positions.transpose(-2, -1)), max(frames - 2, 0))
        if mask is not None:  # move the columns so that those of an utterance end where the batch's do
            columns = torch.arange(frames, device=q.device) - frames + mask.sum(-1).view(-1, 1)  # (B, T)
            positions = positions[0, :, columns.clamp(min=0)].transpose(0, 1)  # (B, H, T, D / H)
        before = diagonals(torch.matmul(q, positions.transpose(-2, -1)), frames - 1)
        i = torch.arange(frames, device=q.device)
        distance = i.unsqueeze(0) - i.unsqueeze(1)  # from frame to key
        return torch.where(distance <= 0, before, after.masked_fill(distance == 1, 0.0))


FAST = {
    "MultiHeadedAttention": FastAttention,
    "RelPositionMultiHeadedAttention": RelativeAttention,
    "LegacyRelPositionMultiHeadedAttention": LegacyRelativeAttention,
}


def use_fast_attention(encoder: nn.Module) -> None:
    """Let the attention of an ESPnet encoder run in the fused form; options that it does not have keep ESPnet's."""
    for module in encoder.modules():
        kind = FAST.get(type(module).__name__)
        if kind is not None and not getattr(module, "zero_triu", False):
            module.forward = kind(module)  # type: ignore[assignment]


def is_fast(module: nn.Module) -> bool:
    """Whether ``use_fast_attention`` took hold of a module."""
    return isinstance(module.__dict__.get("forward"), FastAttention)
