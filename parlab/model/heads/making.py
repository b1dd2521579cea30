"""A new draft head for a model: it starts with weights of the encoder, or of another head."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch.nn.functional import gelu

from parlab.errors import UserError
from parlab.model.decoder_spec import BlockSpec
from parlab.model.families.whisper import encoder_block
from parlab.model.heads.clones import CloneBlock, CloneSizes
from parlab.model.heads.folder import Head
from parlab.model.heads.network import DraftHead, HeadOptions
from parlab.model.heads.reading import blocks_of, check_layers
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer


def make_head(options: HeadOptions, model: HybridModel, vocabulary: int) -> DraftHead:
    """A head of ``vocabulary`` tokens that can be taught.

    Raises:
        UserError: the encoder's blocks cannot be cloned, or it lacks a layer.
    """
    blocks = blocks_of(model)
    layers = options.reads(len(blocks))
    check_layers(model, layers)
    if not options.clones:
        return DraftHead(options, states_width(model), vocabulary)
    specs = [_cloneable(encoder_block(block)) for block in blocks[len(blocks) - options.clones :]]
    sizes = CloneSizes(specs[0].attention.heads, specs[0].wide.out_features)
    head = DraftHead(options, specs[0].wide.in_features, vocabulary, sizes)
    for clone, spec in zip(head.clones, specs, strict=True):
        assert isinstance(clone, CloneBlock)
        clone.copy_from(spec)
    with torch.no_grad():  # so that the head begins with what the decoder is given
        head.enter_norm.weight.copy_(model.encoder.layer_norm.weight)
        head.enter_norm.bias.copy_(model.encoder.layer_norm.bias)
    return head


def check_sizes(options: HeadOptions, start: Head, name: str) -> None:
    """Refuse a head to start from whose sizes are others; its dropout may be.

    Args:
        name: of its folder.

    Raises:
        UserError: naming the first difference.
    """
    for size in fields(HeadOptions):
        own, other = getattr(options, size.name), getattr(start.network.options, size.name)
        if own != other and size.name != "dropout":
            raise UserError(
                f"the head {name} has {size.name} {other}, expected {own} as the head that is taught; set model.head.{size.name} to "
                f"{other} or leave model.init out"
            )


@torch.no_grad()
def start_from(network: DraftHead, tokenizer: Tokenizer, start: Head) -> None:
    """Give a network the weights of a head of the same sizes; tokens that the head does not know keep their own."""
    known = {token: i for i, token in enumerate(start.tokenizer.token_list)}
    both = [(i, known[token]) for i, token in enumerate(tokenizer.token_list) if token in known]
    state = start.network.state_dict()
    for name in ("output.weight", "output.bias"):
        own = network.state_dict()[name].clone()
        own[[i for i, _ in both]] = state[name][[j for _, j in both]]
        state[name] = own
    network.load_state_dict(state)


def _cloneable(spec: BlockSpec | None) -> BlockSpec:
    probe = torch.linspace(-2.0, 2.0, 9)
    if spec is None or not torch.allclose(spec.activation(probe), gelu(probe), atol=1e-6):
        raise UserError(
            "the blocks of this model's encoder cannot be cloned, expected those of a Whisper model with the activation gelu; set "
            "the head's clones to 0 (its layers may name blocks)"
        )
    return spec


def states_width(model: HybridModel) -> int:
    """Width of the encoder's states."""
    encoder: Any = model.encoder
    return int(encoder.output_size() if hasattr(encoder, "output_size") else encoder.config.d_model)
