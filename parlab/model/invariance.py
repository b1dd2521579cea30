"""Make ESPnet's encoders give an utterance the same output in any batch.

Two things in them look at padding (ESPnet issues 6600, 6633, 6670):

1. The convolutional subsampling subsamples the mask by slicing, so that a short utterance in a padded
   batch gets up to one frame more than alone. We compute the length that the convolutions give.
2. Depth-wise convolutions (Conformer, Branchformer, E-Branchformer) read the padded frames, which are
   not zero, where an utterance alone sees zeros. We zero them before each such convolution.

Both are forward hooks: the weights, the state-dict keys and ESPnet's code stay as they are. What hooks
cannot correct (legacy relative positions, rarer encoders) is decoded in groups of equal length instead.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from parlab.model.features import padding_mask


def subsampled_lengths(embed: nn.Module, lengths: Any) -> Any:
    """Number of frames that the convolutions of ``embed`` make of ``lengths`` (a tensor or an integer)."""
    for layer in embed.conv.modules():  # type: ignore[union-attr, operator]
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            lengths = (lengths + 2 * int(padding) - kernel) // stride + 1
    return lengths


def subsamples(encoder: nn.Module) -> bool:
    """True for the ``conv1d*`` and ``conv2d*`` input layers, whose length formula is known."""
    embed = getattr(encoder, "embed", None)
    return type(embed).__name__.startswith(("Conv1dSubsampling", "Conv2dSubsampling"))


class PaddingGuard:
    """The hooks, and the frame mask (B, 1, T) of the batch that passes through."""

    def __init__(self, encoder: nn.Module):
        self.mask: Tensor | None = None
        self.takes_masks = "masks" in inspect.signature(encoder.forward).parameters
        encoder.register_forward_pre_hook(self._enter, with_kwargs=True)
        if subsamples(encoder):
            encoder.embed.register_forward_hook(self._after_subsampling)  # type: ignore[union-attr, operator]
        for layer in encoder.encoders.modules():  # type: ignore[union-attr, operator]
            if isinstance(layer, nn.Conv1d) and layer.kernel_size[0] > 1:
                layer.register_forward_pre_hook(self._zero_padding)

    def _enter(self, encoder: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        features, lengths = args[0], args[1]
        padding = padding_mask(lengths, features.size(1))
        self.mask = ~padding.unsqueeze(1)
        # Where the encoder makes this mask itself, it reads the longest length back from the device.
        return args, {**kwargs, "masks": padding} if self.takes_masks else kwargs

    def _after_subsampling(self, embed: nn.Module, args: tuple, output: tuple) -> tuple:
        lengths = subsampled_lengths(embed, args[1].sum((1, 2)))
        states = output[0][0] if isinstance(output[0], tuple) else output[0]
        self.mask = ~padding_mask(lengths, states.size(1)).unsqueeze(1)
        return (output[0], self.mask, *output[2:])

    def _zero_padding(self, layer: nn.Module, args: tuple) -> tuple:
        assert self.mask is not None
        return (args[0].masked_fill(~self.mask, 0.0), *args[1:])


def make_batch_invariant(encoder: nn.Module) -> bool:
    """Install the hooks; return False when the encoder must get utterances of equal length."""
    names = {type(module).__name__ for module in encoder.modules()}
    legacy = any(name.startswith(("Legacy", "ConvolutionalPositional", "FastSelfAttention")) for name in names)
    known = type(encoder).__name__ in {
        "TransformerEncoder",
        "ConformerEncoder",
        "BranchformerEncoder",
        "EBranchformerEncoder",
    }
    if legacy or not known:
        return False
    PaddingGuard(encoder)
    return True


def groups_of_equal_length(lengths: Tensor) -> list[Tensor]:
    """Indices (n,) of the utterances of each length, for encoders without the hooks."""
    return [(lengths == value).nonzero().squeeze(1) for value in torch.unique(lengths)]
