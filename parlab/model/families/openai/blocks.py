"""OpenAI's block of a transformer: attention and a feed-forward layer, each with its norm before it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from parlab.model.decoder_spec import AttentionSpec, BlockSpec, LayerSpec


class Block(nn.Module):
    """A block of the encoder, or with ``cross`` of the decoder."""

    def __init__(self, width: int, heads: int, cross: bool = False):
        super().__init__()
        self.attn, self.attn_ln = Attention(width, heads), nn.LayerNorm(width)
        if cross:
            self.cross_attn, self.cross_attn_ln = Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """(B, T, D) to the same; ``seen`` (B, 1, 1, T) are frames of the utterance."""
        x = x + self.attn(self.attn_ln(x), seen=seen)
        return x + self.mlp(self.mlp_ln(x))

    def decode(self, x: Tensor, states: Tensor, seen: Tensor) -> Tensor:
        """Tokens (B, L, D) to the same, each seeing those before it and the encoder's ``states`` (B, T, D)."""
        x = x + self.attn(self.attn_ln(x))
        x = x + self.cross_attn(self.cross_attn_ln(x), states, seen)
        return x + self.mlp(self.mlp_ln(x))

    def encoder_spec(self) -> BlockSpec:
        """A block of the encoder as clones read it."""
        return BlockSpec(self.attn_ln, self.attn.spec(), self.mlp_ln, *self._feed_forward())

    def spec(self) -> LayerSpec:
        """A block of the decoder as ``RowDecoder`` reads it."""
        attention, cross = self.attn.spec(), self.cross_attn.spec()
        return LayerSpec(self.attn_ln, attention, self.cross_attn_ln, cross, self.mlp_ln, *self._feed_forward())

    def _feed_forward(self) -> tuple[nn.Linear, nn.Linear, nn.Module]:
        """The wide layer, the narrow one, and what is between them."""
        wide, activation, narrow = self.mlp
        assert isinstance(wide, nn.Linear) and isinstance(narrow, nn.Linear)
        return wide, narrow, activation


class Attention(nn.Module):
    """Attention of D channels, without a bias of the keys."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, states: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """``x`` (B, L, D) over ``states`` (B, T, D), or over itself; ``seen`` (B, 1, 1, T), None: of itself what came before."""
        over = x if states is None else states
        projected = ((self.query, x), (self.key, over), (self.value, over))
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f, y in projected)
        out = scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None)
        return self.out(out.transpose(1, 2).flatten(2))

    def spec(self) -> AttentionSpec:
        """These weights as ``RowDecoder`` reads them."""
        return AttentionSpec(self.heads, self.query, self.key, self.value, self.out, nn.Identity(), nn.Identity())
