"""A transformer decoder as a container of weights, which ``RowDecoder`` steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.decoder_spec import DecoderSpec, LayerSpec
from parlab.model.families.blocks.attention import Attention, AttentionOptions
from parlab.model.families.blocks.positions import sinusoids

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "selu": nn.SELU,
    "hardtanh": nn.Hardtanh,
}


def activation(name: str) -> nn.Module:
    """The activation of that name.

    Raises:
        UserError: there is none.
    """
    if name not in ACTIVATIONS:
        raise UserError(
            f"the config names the activation '{name}', expected one of {', '.join(ACTIVATIONS)}; name another model"
        )
    return ACTIVATIONS[name]()


@dataclass(frozen=True)
class DecoderOptions:
    """A decoder of M layers over V tokens.

    Attributes:
        vocabulary: V.
        attention: of both attention blocks, and the width D.
        hidden: width of the feed-forward layers.
        layers: M.
        activation: of the feed-forward layers.
        eps: of the norms of the layers; ``final_eps`` of the last norm, where it has another.
        pre_norm: norms stand before their blocks, else after them.
        final_norm: there is one after the last layer.
        tied: the output has the embedding's weights.
        output_bias: the output has a bias.
        max_positions: tokens that a row may have, or None.
    """

    vocabulary: int
    attention: AttentionOptions
    hidden: int
    layers: int
    activation: str = "relu"
    eps: float = 1e-5
    final_eps: float | None = None
    pre_norm: bool = True
    final_norm: bool = True
    tied: bool = False
    output_bias: bool = True
    max_positions: int | None = None


class FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, function: nn.Module, bias: bool = True):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(width, hidden, bias=bias), nn.Linear(hidden, width, bias=bias)
        self.activation = function

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same."""
        return self.w_2(self.activation(self.w_1(x)))


class _Layer(nn.Module):
    def __init__(self, options: DecoderOptions):
        super().__init__()
        width = options.attention.width
        self.self_attn, self.src_attn = Attention(options.attention), Attention(options.attention)
        self.feed_forward = FeedForward(width, options.hidden, activation(options.activation))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=options.eps) for _ in range(3))

    def spec(self) -> LayerSpec:
        feed = self.feed_forward
        own, other = self.self_attn.spec(), self.src_attn.spec()
        return LayerSpec(self.norm1, own, self.norm2, other, self.norm3, feed.w_1, feed.w_2, feed.activation)


class Decoder(nn.Module):
    """Embedding scaled by sqrt(D), sinusoidal positions, M layers, output."""

    def __init__(self, options: DecoderOptions):
        super().__init__()
        width = options.attention.width
        self.options = options
        self.embed = nn.Embedding(options.vocabulary, width)
        self.decoders = nn.ModuleList(_Layer(options) for _ in range(options.layers))
        eps = options.final_eps or options.eps
        self.after_norm = nn.LayerNorm(width, eps=eps) if options.final_norm else None
        self.output_layer = None if options.tied else nn.Linear(width, options.vocabulary, bias=options.output_bias)

    def spec(self) -> DecoderSpec:
        """What ``RowDecoder`` reads."""
        output = self.output_layer if self.output_layer is not None else self.embed
        return DecoderSpec(
            layers=tuple(x.spec() for x in self.decoders if isinstance(x, _Layer)),
            embedding=self.embed,
            positions=self.positions,
            token_scale=math.sqrt(self.embed.embedding_dim),
            position_scale=None,
            pre_norm=self.options.pre_norm,
            final_norm=self.after_norm,
            output_weight=output.weight,
            output_bias=getattr(output, "bias", None),
            max_positions=self.options.max_positions,
        )

    def positions(self, size: int) -> Tensor:
        """(P, D), P at least ``size``, in some reserve, so that the table seldom grows."""
        device = self.embed.weight.device
        return sinusoids(torch.arange(max(2 * size, 512), device=device), self.embed.embedding_dim)
