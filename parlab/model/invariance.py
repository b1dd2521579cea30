"""Make ESPnet's encoders give an utterance the same output in any batch.

Two things in them look at padding (ESPnet issues 6600, 6633, 6670):

1. The convolutional subsampling subsamples the mask by slicing, so that a short utterance in a padded
   batch gets up to one frame more than alone. We compute the length that the convolutions give.
2. Depth-wise convolutions (Conformer, Branchformer, E-Branchformer) read the padded frames, which are
   not zero, where an utterance alone sees zeros. We zero them before each such convolution.

Both are forward hooks: the weights, the state-dict keys and ESPnet's code stay as they are. Legacy relative positions depend on the
padded length too; ``families/espnet_attention.py`` gives each utterance its own. What is left (convolutional positions, rarer encoders) is
decoded in groups of equal length instead.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from parlab.model.families.espnet_attention import is_fast, use_fast_attention
from parlab.model.features import padding_mask

MASKING = "make_pad_mask"  # ESPnet's function of lengths


def encoder_frames(encoder: Any, frames: Any) -> Any:
    """Encoder frames of ``frames`` features (a tensor or an integer), where ``subsamples`` says that the formula is known."""
    if hasattr(encoder, "subsampled_lengths"):
        return encoder.subsampled_lengths(frames)
    return subsampled_lengths(encoder.embed, frames)


def subsampled_lengths(embed: nn.Module, lengths: Any) -> Any:
    """Number of frames that the convolutions of ``embed`` make of ``lengths`` (a tensor or an integer)."""
    for layer in embed.conv.modules():  # type: ignore[union-attr, operator]
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            lengths = (lengths + 2 * int(padding) - kernel) // stride + 1
    return lengths


def subsamples(encoder: nn.Module) -> bool:
    """True for the ``conv1d*`` and ``conv2d*`` input layers and for encoders of ours, whose length formula is known."""
    if hasattr(encoder, "subsampled_lengths"):
        return True
    embed = getattr(encoder, "embed", None)
    return type(embed).__name__.startswith(("Conv1dSubsampling", "Conv2dSubsampling"))


class PaddingGuard:
    """The hooks, and the padding (B, 1, T) of the batch that passes through, made once for all layers."""

    def __init__(self, encoder: nn.Module):
        self.padding: Tensor | None = None
        self.takes_masks = "masks" in inspect.signature(encoder.forward).parameters
        encoder.register_forward_pre_hook(self._enter, with_kwargs=True)
        if not self.takes_masks and MASKING in type(encoder).forward.__globals__:
            encoder.forward = GivenMask(encoder, self)  # type: ignore[method-assign, assignment]
        if subsamples(encoder):
            encoder.embed.register_forward_hook(self._after_subsampling)  # type: ignore[union-attr, operator]
        for layer in encoder.encoders.modules():  # type: ignore[union-attr, operator]
            if isinstance(layer, nn.Conv1d) and layer.kernel_size[0] > 1:
                layer.register_forward_pre_hook(self._zero_padding)

    def _enter(self, encoder: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        features, lengths = args[0], args[1]
        padding = padding_mask(lengths, features.size(1))
        self.padding = padding.unsqueeze(1)
        # Where the encoder makes this mask itself, it reads the longest length back from the device.
        return args, {**kwargs, "masks": padding} if self.takes_masks else kwargs

    def _after_subsampling(self, embed: nn.Module, args: tuple, output: tuple) -> tuple:
        """``args`` are features, their mask and, for OWSM-CTC, the prompt (B, P, D) that goes before the frames."""
        lengths = subsampled_lengths(embed, args[1].sum((1, 2)))
        if len(args) > 2 and args[2] is not None:
            lengths = lengths + args[2].size(1)
        states = output[0][0] if isinstance(output[0], tuple) else output[0]
        self.padding = padding_mask(lengths, states.size(1)).unsqueeze(1)
        return (output[0], ~self.padding, *output[2:])

    def _zero_padding(self, layer: nn.Module, args: tuple) -> tuple:
        assert self.padding is not None
        return (args[0].masked_fill(self.padding, 0.0), *args[1:])


class GivenMask:
    """What stands for the ``forward`` of an encoder that takes no mask: the same code, which is given the guard's.

    ESPnet's Branchformer and OWSM-CTC make a mask of lengths that they read back from the device, for which the host waits.
    """

    def __init__(self, encoder: nn.Module, guard: PaddingGuard):
        self.encoder, self.guard = encoder, guard

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = type(self.encoder).forward
        names = {**own.__globals__, MASKING: self._padding}  # this call's; ESPnet's module keeps its own
        return FunctionType(own.__code__, names, own.__name__, own.__defaults__)(self.encoder, *args, **kwargs)

    def _padding(self, lengths: Tensor) -> Tensor:
        """The padding (B, T) of the features: the first mask that an encoder makes."""
        assert self.guard.padding is not None, "the guard's hook runs first"
        return self.guard.padding.squeeze(1)


def make_batch_invariant(encoder: nn.Module) -> bool:
    """Make the attention fast and install the hooks; return False when the encoder must get utterances of equal length."""
    if getattr(encoder, "batch_invariant", False):
        return True
    known = type(encoder).__name__ in {
        "TransformerEncoder",
        "ConformerEncoder",
        "BranchformerEncoder",
        "EBranchformerEncoder",
        "EBranchformerCTCEncoder",
    }
    if not known:
        return False
    use_fast_attention(encoder)
    for module in encoder.modules():
        name = type(module).__name__
        if name.startswith(("ConvolutionalPositional", "FastSelfAttention")):
            return False
        if name.startswith("LegacyRelPositionMultiHeaded") and not is_fast(module):
            return False
    PaddingGuard(encoder)
    return True


def groups_of_equal_length(lengths: Tensor) -> list[Tensor]:
    """Indices (n,) of the utterances of each length, for encoders without the hooks."""
    return [(lengths == value).nonzero().squeeze(1) for value in torch.unique(lengths)]
