"""What a draft head reads: outputs of the encoder's blocks, of the encoder's one run, without the silence of a window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.model.invariance import groups_of_equal_length

Prompts = Sequence[tuple[int, ...]] | None


@dataclass(frozen=True)
class Reading:
    """A batch of B utterances as a draft head sees it.

    Attributes:
        states: (B, T', L * D) outputs of L blocks side by side, of the utterances' own frames alone.
        frames: (B,) of them.
    """

    states: Tensor
    frames: Tensor


@dataclass(frozen=True)
class Speech:
    """What an encoder is given: waveforms (B, samples), their lengths (B,), and prompts where it reads them."""

    waves: Tensor
    lengths: Tensor
    prompts: Prompts = None


def encode_and_read(model: HybridModel, speech: Speech, layers: Sequence[int]) -> tuple[Tensor, Tensor, Reading]:
    """Encode a batch once: the encoder's output (B, T, D), its frames (B,), and what a head reads.

    Args:
        layers: blocks of the encoder whose outputs are read, from 1, and 0 for the first one's input; none: the encoder's
            output.

    Raises:
        UserError: the blocks' outputs cannot be read.
    """
    if not layers:
        states, frames = model.encode(speech.waves, speech.lengths, speech.prompts)
        return states, frames, _own(model, speech, states, frames)
    with _recording(model, layers) as found:
        states, frames = model.encode(speech.waves, speech.lengths, speech.prompts)
    read = torch.cat([_in_order(parts, speech.lengths, states) for parts in found.values()], -1)
    return states, frames, _own(model, speech, read, frames)


def read_only(model: HybridModel, speech: Speech, layers: Sequence[int]) -> Reading:
    """What a head reads, without the blocks of the encoder above it where all utterances are encoded in one call."""
    if not layers or max(layers) == len(blocks_of(model)) or model.window_seconds is None:
        return encode_and_read(model, speech, layers)[2]
    try:
        with _recording(model, layers, stop=True) as found:
            model.encode(speech.waves, speech.lengths, speech.prompts)
    except _Read:
        pass
    states = torch.cat([parts[0] for parts in found.values()], -1)
    return _own(model, speech, states, torch.full_like(speech.lengths, states.size(1)))


def check_layers(model: HybridModel, layers: Sequence[int]) -> None:
    """Refuse layers that the encoder lacks.

    Raises:
        UserError: naming the first.
    """
    count = len(blocks_of(model))
    if layers and not count:
        raise UserError(
            "the blocks of this model's encoder cannot be read one by one, expected a head on the encoder's output; set its "
            "layers to [] and its clones to 0"
        )
    if wrong := [layer for layer in layers if layer > count]:
        raise UserError(
            f"the head reads the encoder's block {wrong[0]}, but there are {count}, expected 0 to {count}; correct its layers"
        )


def blocks_of(model: HybridModel) -> Sequence[nn.Module]:
    """The blocks of an encoder, ESPnet's, OpenAI's or transformers'; none where they are not known."""
    found = getattr(model.encoder, "encoders", getattr(model.encoder, "layers", None))
    found = getattr(found, "blocks", found)
    return list(found) if isinstance(found, (nn.ModuleList, nn.Sequential)) else []


class _Read(Exception):
    """All that a head reads has been computed."""


@contextmanager
def _recording(model: HybridModel, layers: Sequence[int], stop: bool = False) -> Iterator[dict[int, list[Tensor]]]:
    """Record the outputs of blocks while the encoder runs: layer -> (B, T, D) of each of its calls."""
    if model.compiled is not None:
        raise UserError(
            "a head that reads blocks inside the encoder cannot do so while it is compiled, expected an encoder as it is; leave "
            "--compile out"
        )
    check_layers(model, layers)
    blocks = blocks_of(model)
    found: dict[int, list[Tensor]] = {layer: [] for layer in layers}

    def keep(layer: int, output: Any) -> None:
        while isinstance(output, tuple):  # ESPnet's blocks pass positions and masks along
            output = output[0]
        found[layer].append(output)
        if stop and layer == max(layers):
            raise _Read

    with model.one_thread:
        handles = []
        for layer in layers:
            if layer == 0:
                handles.append(blocks[0].register_forward_pre_hook(lambda _, args: keep(0, args)))
            else:
                hook = lambda _, args, output, layer=layer: keep(layer, output)  # noqa: E731
                handles.append(blocks[layer - 1].register_forward_hook(hook))
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()


def _in_order(parts: list[Tensor], lengths: Tensor, states: Tensor) -> Tensor:
    """The outputs (B, T, D) of one block, of one call or of those that ``HybridModel.encode`` makes."""
    if len(parts) == 1:
        return parts[0][:, : states.size(1)]
    groups = groups_of_equal_length(lengths)
    if len(groups) != len(parts):
        raise UserError(
            "the blocks of this model's encoder are called in an order that is not known, expected a head on the encoder's "
            "output; set its layers to [] and its clones to 0"
        )
    out = parts[0].new_zeros(len(lengths), states.size(1), parts[0].size(2))
    for group, part in zip(groups, parts, strict=True):
        out[group, : part.size(1)] = part
    return out


def _own(model: HybridModel, speech: Speech, states: Tensor, frames: Tensor) -> Reading:
    """States without the frames of the silence that fills a window; nothing is read back from the device."""
    if model.window_seconds is None:
        return Reading(states, frames)
    step = round(model.frame_seconds * model.sample_rate)
    before = model.prompt_frames
    own = torch.minimum((speech.lengths + step - 1) // step + before, frames).clamp(min=1)
    longest = min(states.size(1), max(1, -(-speech.waves.size(1) // step) + before))
    return Reading(states[:, :longest], own)
