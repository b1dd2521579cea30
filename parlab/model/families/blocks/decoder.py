"""A transformer decoder: its weights, which ``RowDecoder`` steps, and its pass over whole texts, which a training takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from parlab.errors import UserError
from parlab.model.decoder_spec import DecoderSpec, LayerSpec
from parlab.model.families.blocks.attention import Attention, AttentionOptions
from parlab.model.families.blocks.dropout import NOTHING, DropoutOptions
from parlab.model.families.blocks.positions import sinusoids
from parlab.model.features import padding_mask

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
        source_dropout: share of the weights of the attention to the speech that is dropped in training.
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
    dropout: DropoutOptions = NOTHING
    source_dropout: float = 0.0


class FeedForward(nn.Module):
    """Two linear layers with an activation between them; in training ``dropped`` is the share of its hidden values that is dropped."""

    def __init__(self, width: int, hidden: int, function: nn.Module, dropped: float = 0.0):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation, self.dropped = function, dropped

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same."""
        return self.w_2(dropout(self.activation(self.w_1(x)), self.dropped, self.training))


class _Layer(nn.Module):
    def __init__(self, options: DecoderOptions):
        super().__init__()
        width = options.attention.width
        self.pre_norm, self.dropout = options.pre_norm, options.dropout
        self.self_attn = Attention(options.attention)
        self.src_attn = Attention(replace(options.attention, dropout=options.source_dropout))
        self.feed_forward = FeedForward(width, options.hidden, activation(options.activation), options.dropout.inner)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=options.eps) for _ in range(3))

    def forward(self, x: Tensor, states: Tensor, seen: Tensor) -> Tensor:
        """Tokens (B, L, D) after speech ``states`` (B, T, D), of which ``seen`` (B, 1, 1, T) is true where there is some."""
        blocks: list[tuple[nn.LayerNorm, Callable[[Tensor], Tensor], float]] = [
            (self.norm1, lambda y: self.self_attn.read(y, y, None), self.dropout.attention),
            (self.norm2, lambda y: self.src_attn.read(y, states, seen), self.dropout.attention),
            (self.norm3, self.feed_forward, self.dropout.feed),
        ]
        for norm, block, share in blocks:
            added = dropout(block(norm(x) if self.pre_norm else x), share, self.training)
            x = x + added if self.pre_norm else norm(x + added)
        return x

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

    def forward(self, states: Tensor, frames: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the next token after each, as ESPnet's decoder gives them.

        Args:
            states: (B, T, D) encoder output, of which ``frames`` (B,) count.
            tokens: (B, L) ids, prompt included, of which ``lengths`` (B,) count; what follows changes nothing before it.

        Returns:
            (B, L, V) before the softmax, and ``lengths``.
        """
        x = self.embed(tokens) * math.sqrt(self.embed.embedding_dim)
        positions = torch.arange(tokens.size(1), device=tokens.device)
        x = x + sinusoids(positions, x.size(2)).to(x.dtype)
        x = dropout(x, self.options.dropout.inputs, self.training)
        seen = ~padding_mask(frames, states.size(1))[:, None, None]
        for layer in self.decoders:
            x = layer(x, states, seen)
        x = x if self.after_norm is None else self.after_norm(x)
        return (linear(x, self.embed.weight) if self.output_layer is None else self.output_layer(x)), lengths

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
