"""What a transformer decoder may be, whatever toolkit it comes from: the one thing that ``RowDecoder`` reads.

A family makes a ``DecoderSpec`` of its own modules (``families/espnet_decoder.py``, ``families/blocks/decoder.py``). It refers to their
weights and copies none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class AttentionSpec:
    """One attention block of width D.

    Attributes:
        heads: H.
        query, key, value, output: projections (D, D), each with or without a bias.
        norm_query, norm_key: of each head's queries and keys (..., d); identities unless the model has them.
        join: takes the block's input and output side by side (2 D) to D in place of the output (ESPnet's
            ``concat_after``), or None.
    """

    heads: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    norm_query: nn.Module
    norm_key: nn.Module
    join: nn.Module | None = None


@dataclass(frozen=True)
class LayerSpec:
    """Self-attention, cross-attention, feed-forward, each with its norm (which carries its eps)."""

    self_norm: nn.LayerNorm
    self_attention: AttentionSpec
    cross_norm: nn.LayerNorm
    cross_attention: AttentionSpec
    feed_norm: nn.LayerNorm
    wide: nn.Linear
    narrow: nn.Linear
    activation: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BlockSpec:
    """A block of an encoder: self-attention and feed-forward, each with its norm before it."""

    attention_norm: nn.LayerNorm
    attention: AttentionSpec
    feed_norm: nn.LayerNorm
    wide: nn.Linear
    narrow: nn.Linear
    activation: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DecoderSpec:
    """A decoder of M layers over V tokens.

    Attributes:
        layers: M of them.
        embedding: weights (V, D).
        positions: gives a table of positions, of at least so many as it is told where there are so many.
        token_scale, position_scale: factors of embedding and position; None is 1.
        pre_norm: norms stand before their blocks, else after them.
        final_norm: after the last layer, or None.
        output_weight, output_bias: (V, D), the embedding's where the two are tied, and (V,) or None.
        max_positions: tokens that a row may have, prompt included; None: any number.
    """

    layers: tuple[LayerSpec, ...]
    embedding: nn.Embedding
    positions: Callable[[int], Tensor]
    token_scale: float | None
    position_scale: Tensor | None
    pre_norm: bool
    final_norm: nn.LayerNorm | None
    output_weight: Tensor
    output_bias: Tensor | None = None
    max_positions: int | None = None

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.output_weight.size(0)


@dataclass(frozen=True)
class LearnedPositions:
    """A table (P, D) of positions that were learned: there are no more than ``DecoderSpec.max_positions``."""

    weight: Tensor

    def __call__(self, size: int) -> Tensor:
        """The whole table, whatever is asked for."""
        return self.weight
