"""Multi-head attention through torch's scaled-dot-product attention: plain, and with positions of keys or of distances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from parlab.model.decoder_spec import AttentionSpec
from parlab.model.families.espnet_attention import diagonals

PLAIN, BY_KEY, BY_DISTANCE, BY_SPAN = "plain", "key", "distance", "span"


@dataclass(frozen=True)
class AttentionOptions:
    """One attention block.

    Attributes:
        width: D.
        heads: H.
        positions: ``plain`` (none), ``distance`` (Dai et al. 2019, section 3.3), ``span`` (SpeechBrain: distances without their sign) or
            ``key`` (WeNet: without the shift, so that a score depends on the key's own position).
        biases: of query, key, value and output.
        scale: of the scores; None is 1 / sqrt(D / H).
        norms: norms of width D before query, key and value, each its own (FireRed).
        dropout: share of the attention weights that is dropped in training.
    """

    width: int
    heads: int
    positions: str = PLAIN
    biases: tuple[bool, bool, bool, bool] = (True, True, True, True)
    scale: float | None = None
    norms: bool = False
    dropout: float = 0.0


class Attention(nn.Module):
    """Attention of a sequence to itself or to another one."""

    def __init__(self, options: AttentionOptions):
        super().__init__()
        width = options.width
        self.heads, self.positions, self.dropout = options.heads, options.positions, options.dropout
        self.scale = options.scale or 1.0 / math.sqrt(width // options.heads)
        names = ("linear_q", "linear_k", "linear_v", "linear_out")
        for name, bias in zip(names, options.biases, strict=True):
            self.add_module(name, nn.Linear(width, width, bias=bias))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3)) if options.norms else None
        if options.positions != PLAIN:
            self.linear_pos = nn.Linear(width, width, bias=False)
            for name in ("pos_bias_u", "pos_bias_v"):
                self.register_parameter(name, nn.Parameter(torch.zeros(options.heads, width // options.heads)))

    linear_q: nn.Linear
    linear_k: nn.Linear
    linear_v: nn.Linear
    linear_out: nn.Linear
    pos_bias_u: nn.Parameter
    pos_bias_v: nn.Parameter

    def forward(self, x: Tensor, seen: Tensor, positions: Tensor | None) -> Tensor:
        """Self-attention of ``x`` (B, T, D).

        Args:
            seen: (B, 1, 1, T), true at the frames of an utterance.
            positions: (T, D) of keys, (2 T - 1, D) of distances from T - 1 to 1 - T, or None.
        """
        read = (x, x, x) if self.norms is None else tuple(norm(x) for norm in self.norms)
        projections = (self.linear_q, self.linear_k, self.linear_v)
        q, k, v = (self._split(f(y)) for f, y in zip(projections, read, strict=True))
        mask: Tensor = seen
        if self.positions != PLAIN:
            assert positions is not None, "the encoder gives positions where its attention reads them"
            mask = self._position_scores(q, positions)
            mask = mask.masked_fill(~seen, torch.finfo(mask.dtype).min).to(q.dtype)
            q = q + self.pos_bias_u.unsqueeze(1)
        return self._attend(q, k, v, mask)

    def read(self, x: Tensor, memory: Tensor, seen: Tensor | None) -> Tensor:
        """Attention of ``x`` (B, L, D) to ``memory`` (B, T, D), without positions, as a decoder's.

        Args:
            seen: (B, 1, 1, T), true at the frames of an utterance; None: ``memory`` is ``x``, and a token sees itself and those before it.
        """
        return self._attend(
            self._split(self.linear_q(x)), self._split(self.linear_k(memory)), self._split(self.linear_v(memory)), seen
        )

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The output (B, L, D) for queries, keys and values (B, H, ., D / H); no mask is a causal one."""
        dropped = self.dropout if self.training else 0.0
        out = scaled_dot_product_attention(q, k, v, mask, dropped, is_causal=mask is None, scale=self.scale)
        return self.linear_out(out.transpose(1, 2).flatten(2))

    def _position_scores(self, q: Tensor, positions: Tensor) -> Tensor:
        """(B, H, T, T) for queries (B, H, T, D / H)."""
        table = self._split(self.linear_pos(positions))  # (H, ., D / H)
        scores = (q + self.pos_bias_v.unsqueeze(1)) * self.scale @ table.transpose(-2, -1)
        return scores if self.positions == BY_KEY else diagonals(scores, q.size(2) - 1)

    def _split(self, x: Tensor) -> Tensor:
        """(..., T, D) to (..., H, T, D / H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def spec(self) -> AttentionSpec:
        """What ``RowDecoder`` reads of a plain block."""
        same = nn.Identity()
        return AttentionSpec(self.heads, self.linear_q, self.linear_k, self.linear_v, self.linear_out, same, same)
