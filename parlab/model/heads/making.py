"""A new draft head for a model: it starts with weights of the encoder, of another encoder, or of another head."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu

from parlab.errors import UserError
from parlab.model.decoder_spec import BlockSpec
from parlab.model.families.openai.blocks import Block
from parlab.model.families.whisper import encoder_block
from parlab.model.heads.clones import CloneBlock, CloneSizes
from parlab.model.heads.folder import Head
from parlab.model.heads.network import DraftHead, HeadOptions
from parlab.model.heads.reading import blocks_of, check_layers
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer


def make_head(options: HeadOptions, model: HybridModel, vocabulary: int) -> DraftHead:
    """A head of ``vocabulary`` tokens that can be taught; clones start as the blocks of ``model``.

    Raises:
        UserError: the encoder's blocks cannot be cloned, or it lacks a layer.
    """
    check_layers(model, options.reads(len(blocks_of(model))))
    if not options.clones:
        return DraftHead(options, states_width(model), vocabulary)
    specs = _top_blocks(model, options.clones)
    sizes, width = _sizes(specs[0])
    head = DraftHead(options, width, vocabulary, sizes)
    clone_from(head, model)
    return head


@torch.no_grad()
def clone_from(head: DraftHead, model: HybridModel) -> None:
    """Give a head's clones the weights of an encoder's top blocks, and the norm after them those of the encoder's.

    Raises:
        UserError: the encoder's blocks cannot be cloned, there are fewer, or they have other sizes.
    """
    blocks = _top_blocks(model, len(head.clones))
    if not blocks:
        raise UserError(
            "the head has no clones, which would start as this model's blocks, expected at least 1; set its clones or leave model.init out"
        )
    own, other = (head.sizes, head.states_size), _sizes(blocks[0])
    if own != other:
        raise UserError(
            f"the clones would start as blocks of {other[0]} and width {other[1]}, expected {own[0]} and width {own[1]} as the head's; name "
            "another model"
        )
    for clone, spec in zip(head.clones, blocks, strict=True):
        assert isinstance(clone, CloneBlock)
        clone.copy_from(spec)
    norm = model.encoder.encoders.ln_post if hasattr(model.encoder, "encoders") else model.encoder.layer_norm
    head.enter_norm.weight.copy_(norm.weight)
    head.enter_norm.bias.copy_(norm.bias)


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


def _sizes(block: BlockSpec) -> tuple[CloneSizes, int]:
    """Sizes of a block, and its width D."""
    return CloneSizes(block.attention.heads, block.wide.out_features), block.wide.in_features


def _top_blocks(model: HybridModel, count: int) -> list[BlockSpec]:
    blocks = blocks_of(model)
    if len(blocks) < count:
        raise UserError(
            f"the head has {count} clones, but this model's encoder only {len(blocks)} blocks that can be cloned, expected at least as many; "
            "name another model"
        )
    return [_cloneable(block) for block in blocks[len(blocks) - count :]]


def _cloneable(block: nn.Module) -> BlockSpec:
    spec = block.encoder_spec() if isinstance(block, Block) else encoder_block(block)
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
