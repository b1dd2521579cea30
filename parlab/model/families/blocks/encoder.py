"""Conformer (Gulati et al. 2020) and transformer encoders, the same for an utterance alone and in any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import dropout, glu, pad

from parlab.model.families.blocks.attention import BY_DISTANCE, BY_KEY, BY_SPAN, Attention, AttentionOptions
from parlab.model.families.blocks.decoder import FeedForward, activation
from parlab.model.families.blocks.dropout import NOTHING, DropoutOptions
from parlab.model.families.blocks.positions import distance_table, forward_table, span_table
from parlab.model.features import padding_mask


@dataclass(frozen=True)
class ConvolutionOptions:
    """The convolution of a conformer block.

    Attributes:
        kernel: frames that a channel reads.
        causal: it reads no later frame.
        padded_before: causal frames are padded before the first layer, whose bias they then carry (WeNet); else after the gate.
        factor: channels between the layers, per width.
        batch_norm: else a layer norm.
        bias: of the three layers.
        eps: of the norm.
    """

    kernel: int
    causal: bool = False
    padded_before: bool = False
    factor: int = 1
    batch_norm: bool = False
    bias: bool = True
    eps: float = 1e-5


@dataclass(frozen=True)
class EncoderOptions:
    """An encoder after its subsampling.

    Attributes:
        attention: of the blocks, and the width D.
        hidden: width of the feed-forward layers.
        blocks: how many.
        convolution: of a conformer; None makes blocks of a transformer.
        macaron: a conformer's block begins with half a feed-forward layer.
        activation: of feed-forward layers and convolutions.
        input_scale: factor of the subsampled features.
        add_positions: sinusoids are added to them.
        eps, final_eps: of the norms of the blocks and of the last one.
        pre_norm: norms stand before their blocks, else after them (a transformer's).
        final_norm: there is one after the last block.
        dropout: in training.
    """

    attention: AttentionOptions
    hidden: int
    blocks: int
    convolution: ConvolutionOptions | None = None
    macaron: bool = True
    activation: str = "swish"
    input_scale: float = 1.0
    add_positions: bool = False
    eps: float = 1e-5
    final_eps: float = 1e-5
    pre_norm: bool = True
    final_norm: bool = True
    dropout: DropoutOptions = NOTHING


class Convolution(nn.Module):
    """Pointwise layer with a gate, depth-wise convolution, norm, activation, pointwise layer."""

    def __init__(self, width: int, options: ConvolutionOptions, function: str):
        super().__init__()
        channels = options.factor * width
        self.options = options
        self.pointwise_conv1 = nn.Conv1d(width, 2 * channels, 1, bias=options.bias)
        padding = 0 if options.causal else (options.kernel - 1) // 2
        self.depthwise_conv = nn.Conv1d(
            channels, channels, options.kernel, padding=padding, groups=channels, bias=options.bias
        )
        kind: Any = nn.BatchNorm1d if options.batch_norm else nn.LayerNorm
        self.norm = kind(channels, eps=options.eps)
        self.activation = activation(function)
        self.pointwise_conv2 = nn.Conv1d(channels, width, 1, bias=options.bias)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, T, D) to the same; ``padding`` (B, 1, T) is true after an utterance."""
        options = self.options
        before = (options.kernel - 1, 0)
        x = x.transpose(1, 2).masked_fill(padding, 0.0)
        if options.causal and options.padded_before:
            x = glu(self.pointwise_conv1(pad(x, before)), dim=1)
        else:
            # An utterance alone ends in zeros of the convolution, not in what the bias makes of padding.
            x = glu(self.pointwise_conv1(x), dim=1).masked_fill(padding, 0.0)
            x = pad(x, before) if options.causal else x
        x = self.depthwise_conv(x)
        x = self.norm(x) if options.batch_norm else self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.pointwise_conv2(self.activation(x)).transpose(1, 2)


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, each with its norm before it; a norm."""

    def __init__(self, options: EncoderOptions):
        super().__init__()
        assert options.convolution is not None, "a conformer has a convolution"
        width = options.attention.width

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, eps=options.eps)

        def feed() -> FeedForward:
            return FeedForward(width, options.hidden, activation(options.activation), options.dropout.inner)

        self.dropout = options.dropout
        self.feed_scale = 0.5 if options.macaron else 1.0
        self.feed_forward_macaron = feed() if options.macaron else None
        self.norm_ff_macaron = norm() if options.macaron else None
        self.norm_mha: nn.Module = nn.Identity() if options.attention.norms else norm()
        self.self_attn = Attention(options.attention)
        self.norm_conv = norm()
        self.conv_module = Convolution(width, options.convolution, options.activation)
        self.norm_ff, self.feed_forward = norm(), feed()
        self.norm_final = norm()

    def forward(self, x: Tensor, padding: Tensor, positions: Tensor | None) -> Tensor:
        """(B, T, D) to the same."""
        drop = self.dropout
        if self.feed_forward_macaron is not None and self.norm_ff_macaron is not None:
            x = x + 0.5 * dropout(self.feed_forward_macaron(self.norm_ff_macaron(x)), drop.feed, self.training)
        attended = self.self_attn(self.norm_mha(x), ~padding.unsqueeze(1), positions)
        x = x + dropout(attended, drop.attention, self.training)
        x = x + dropout(self.conv_module(self.norm_conv(x), padding), drop.convolution, self.training)
        x = x + self.feed_scale * dropout(self.feed_forward(self.norm_ff(x)), drop.feed, self.training)
        return self.norm_final(x)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer."""

    def __init__(self, options: EncoderOptions):
        super().__init__()
        width = options.attention.width
        self.pre_norm = options.pre_norm
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=options.eps) for _ in range(2))
        self.self_attn = Attention(options.attention)
        self.dropout = options.dropout
        self.feed_forward = FeedForward(width, options.hidden, activation(options.activation), options.dropout.inner)

    def forward(self, x: Tensor, padding: Tensor, positions: Tensor | None) -> Tensor:
        """(B, T, D) to the same."""
        seen = ~padding.unsqueeze(1)

        def attended(y: Tensor) -> Tensor:
            return dropout(self.self_attn(y, seen, positions), self.dropout.attention, self.training)

        def fed(y: Tensor) -> Tensor:
            return dropout(self.feed_forward(y), self.dropout.feed, self.training)

        if self.pre_norm:
            x = x + attended(self.norm1(x))
            return x + fed(self.norm2(x))
        x = self.norm1(x + attended(x))
        return self.norm2(x + fed(x))


class Encoder(nn.Module):
    """Subsampling and blocks.

    Args:
        embed: features (B, F, n_mels) and their counts (B,) to (B, T, D); has ``subsampled_lengths``.
        block: makes a block of another kind than conformer and transformer.
    """

    batch_invariant: ClassVar[bool] = True

    def __init__(
        self, embed: nn.Module, options: EncoderOptions, block: Callable[[EncoderOptions], nn.Module] | None = None
    ):
        super().__init__()
        self.embed: Any = embed
        self.options = options
        make = block or (TransformerBlock if options.convolution is None else ConformerBlock)
        self.encoders = nn.ModuleList(make(options) for _ in range(options.blocks))
        self.after_norm = nn.LayerNorm(options.attention.width, eps=options.final_eps) if options.final_norm else None

    def output_size(self) -> int:
        return self.options.attention.width

    def subsampled_lengths(self, frames: Any) -> Any:
        """Encoder frames of ``frames`` features (a tensor or an integer)."""
        return self.embed.subsampled_lengths(frames)

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, None]:
        """Features (B, F, n_mels) of ``frames`` (B,) to states (B, T, D) and their frames (B,)."""
        x = self.embed(x, frames) * self.options.input_scale
        frames = self.subsampled_lengths(frames)
        positions = self._positions(x)
        if self.options.add_positions:
            x = x + forward_table(x.size(1), x)
        x = dropout(x, self.options.dropout.inputs, self.training)
        padding = padding_mask(frames, x.size(1)).unsqueeze(1)
        for block in self.encoders:
            x = block(x, padding, positions)
        return (x if self.after_norm is None else self.after_norm(x)), frames, None

    def _positions(self, x: Tensor) -> Tensor | None:
        """What the attention reads of positions."""
        kind = self.options.attention.positions
        tables = {BY_KEY: forward_table, BY_DISTANCE: distance_table, BY_SPAN: span_table}
        if kind not in tables:
            return None
        return dropout(tables[kind](x.size(1), x), self.options.dropout.table, self.training)
