"""The network of a draft head: clones of encoder blocks, convolution-attention blocks, and CTC."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, pad, scaled_dot_product_attention, silu

from parlab.errors import UserError
from parlab.model.features import padding_mask
from parlab.model.heads.clones import CloneBlock, CloneSizes


@dataclass(frozen=True)
class HeadOptions:
    """Sizes of a draft head, and what it reads.

    Attributes:
        clones: of the encoder's top blocks; they start as these are, and read what the lowest of them reads.
        layers: blocks of the encoder, from 1 (0: the input of the first), whose outputs are read, in a learned sum that
            starts as the last one named; none: the encoder's output, or what the clones read.
        width: of its blocks.
        blocks: convolution-attention blocks; 0 is a linear layer alone.
        heads: attention heads.
        kernel: frames that a convolution sees, an odd number.
        stack: encoder frames that are one frame of the head; they are stacked after the clones.
        dropout: while it is taught.

    Raises:
        UserError: a size is no whole number above 0, or they do not fit together.
    """

    width: int = 256
    blocks: int = 2
    heads: int = 4
    kernel: int = 15
    stack: int = 2
    dropout: float = 0.1
    clones: int = 0
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        least_values = (("width", 1), ("blocks", 0), ("heads", 1), ("kernel", 1), ("stack", 1), ("clones", 0))
        for name, least in least_values:
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UserError(f"the head's {name} is {value!r}, expected a whole number from {least}; correct it")
        if self.width % self.heads or self.kernel % 2 == 0:
            raise UserError(
                f"the head's width is {self.width}, its heads {self.heads} and its kernel {self.kernel}, expected a width that the "
                "heads divide and an odd kernel; correct them"
            )
        if not isinstance(self.dropout, (int, float)) or not 0.0 <= self.dropout < 1.0:
            raise UserError(f"the head's dropout is {self.dropout!r}, expected a share from 0 to below 1; correct it")
        layers = self.layers
        if not isinstance(layers, (list, tuple)) or not all(type(i) is int and i >= 0 for i in layers):
            raise UserError(f"the head's layers are {layers!r}, expected whole numbers from 0; correct them")
        object.__setattr__(self, "layers", tuple(dict.fromkeys(layers)))  # YAML gives a list

    def reads(self, blocks: int) -> tuple[int, ...]:
        """The layers that are read of an encoder of so many blocks; none: its output.

        Raises:
            UserError: there are fewer blocks than clones.
        """
        if self.clones > blocks:
            raise UserError(
                f"the head has {self.clones} clones, but the encoder only {blocks} blocks that can be cloned, expected at most as "
                "many; correct its clones"
            )
        return self.layers or ((blocks - self.clones,) if self.clones else ())


class DraftHead(nn.Module):
    """CTC log-posteriors from the states of an encoder of width D; the blank is id 0 of V' tokens.

    Args:
        states_size: D.
        vocabulary: V'.
        sizes: of the clones, where there are any.
    """

    def __init__(self, options: HeadOptions, states_size: int, vocabulary: int, sizes: CloneSizes | None = None):
        super().__init__()
        self.options, self.states_size, self.vocabulary, self.sizes = options, states_size, vocabulary, sizes
        count = len(options.layers)
        self.mix = nn.Parameter(torch.tensor([0.0] * (count - 1) + [1.0])) if count > 1 else None
        assert sizes is not None or not options.clones, "clones have sizes"
        self.clones = nn.ModuleList(
            CloneBlock(states_size, sizes, options.dropout) for _ in range(options.clones) if sizes is not None
        )
        self.enter_norm = nn.LayerNorm(states_size)
        self.enter = nn.Linear(options.stack * states_size, options.width)
        self.blocks = nn.ModuleList(_Block(options) for _ in range(options.blocks))
        self.norm = nn.LayerNorm(options.width)
        self.output = nn.Linear(options.width, vocabulary)

    def forward(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, T, L * D) of ``frames`` (B,) to log-posteriors (B, T', V'), float32, and their frames (B,).

        The output of an utterance does not depend on its neighbours in the batch.
        """
        stack = self.options.stack
        padding = padding_mask(frames, states.size(1))
        x = states if self.mix is None else self.mix @ states.unflatten(2, (len(self.mix), -1))
        for clone in self.clones:
            x = clone(x, padding)
        x = self.enter_norm(x).masked_fill(padding.unsqueeze(2), 0.0)
        x = pad(x, (0, 0, 0, -x.size(1) % stack))
        x = self.enter(x.unflatten(1, (-1, stack)).flatten(2))
        frames = (frames + stack - 1) // stack
        padding = padding_mask(frames, x.size(1))
        for block in self.blocks:
            x = block(x, padding)
        return torch.log_softmax(self.output(self.norm(x)).float(), -1), frames


class _Block(nn.Module):
    """Attention, a depth-wise convolution and a feed-forward layer, each with its norm before it."""

    def __init__(self, options: HeadOptions):
        super().__init__()
        width = options.width
        self.heads = options.heads
        self.attention_norm, self.conv_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, options.kernel, padding=options.kernel // 2, groups=width)
        self.mixed = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, T', width) to the same; ``padding`` (B, T')."""
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = ~padding[:, None, None, :]
        attended = scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.attended(attended))
        y = glu(self.gate(self.conv_norm(x))).masked_fill(padding.unsqueeze(2), 0.0)
        y = silu(self.depthwise(y.transpose(1, 2)).transpose(1, 2))
        x = x + self.dropout(self.mixed(y))
        return x + self.dropout(self.narrow(silu(self.wide(self.feed_norm(x)))))
