"""The one door to transformers' Whisper: its encoder, the modules of its decoder, its mel filters.

Only leaf modules are imported, and only when a Whisper model is read.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from parlab.errors import UserError
from parlab.model.decoder_spec import AttentionSpec, BlockSpec, DecoderSpec, LayerSpec, LearnedPositions

_WHISPER = "transformers.models.whisper"


def load(module: str, name: str) -> Any:
    """``name`` from a module of transformers.

    Raises:
        UserError: the package is missing.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "transformers":
            raise
        raise UserError(
            "a Whisper model needs the package transformers, which is not installed; run `pip install 'parlab[whisper]'`"
        ) from error


def read_config(entries: Mapping[str, Any]) -> Any:
    """transformers' ``WhisperConfig`` of a ``config.json``.

    Raises:
        UserError: an entry has a type or a value that no Whisper has.
    """
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # generation parameters in config.json are old, and in order here
        return load(f"{_WHISPER}.configuration_whisper", "WhisperConfig").from_dict(dict(entries))
    except UserError:
        raise
    except Exception as error:  # its validation raises errors of its own
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"config.json is not that of a Whisper model ({reason}); copy it again") from error
    finally:
        logger.setLevel(level)


def empty_parts(config: Any) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of a configuration, with memory for weights but none in it."""
    module = f"{_WHISPER}.modeling_whisper"
    parts: list[nn.Module] = []
    with torch.device("meta"):  # no time is spent on random weights
        for name in ("WhisperEncoder", "WhisperDecoder"):
            try:
                parts.append(load(module, name)(config))
            except (ValueError, RuntimeError, KeyError, ZeroDivisionError) as error:
                raise UserError(f"config.json gives no Whisper model ({str(error)[:160]}); copy it again") from error
        if not getattr(config, "tie_word_embeddings", True):
            parts[1].add_module("proj_out", nn.Linear(config.d_model, config.vocab_size, bias=False))
    encoder, decoder = (part.to_empty(device="cpu").requires_grad_(False) for part in parts)
    return encoder, decoder


def mel_filters(bands: int, n_fft: int, sample_rate: int) -> torch.Tensor:
    """Whisper's filters (n_fft / 2 + 1, bands), float32."""
    bank = load("transformers.audio_utils", "mel_filter_bank")
    filters = bank(
        num_frequency_bins=1 + n_fft // 2,
        num_mel_filters=bands,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(np.asarray(filters)).float()


def language_names() -> dict[str, str]:
    """Names of languages and their codes, as ``"english"`` -> ``"en"``."""
    return dict(load(f"{_WHISPER}.tokenization_whisper", "TO_LANGUAGE_CODE"))


def decoder_spec(decoder: nn.Module) -> DecoderSpec:
    """The specification of a ``WhisperDecoder`` on its own weights; the output is tied to the embedding, or ``proj_out``."""
    d: Any = decoder
    output = d.proj_out if hasattr(d, "proj_out") else d.embed_tokens
    return DecoderSpec(
        layers=tuple(_layer(x) for x in d.layers),
        embedding=d.embed_tokens,
        positions=LearnedPositions(d.embed_positions.weight),
        token_scale=None,  # transformers' decoder scales nothing, whatever scale_embedding says
        position_scale=None,
        pre_norm=True,
        final_norm=d.layer_norm,
        output_weight=output.weight,
        max_positions=len(d.embed_positions.weight),
    )


def encoder_block(x: Any) -> BlockSpec | None:
    """A block of ``WhisperEncoder`` with its weights; None for one of another encoder."""
    if type(x).__name__ != "WhisperEncoderLayer":
        return None
    norms = (x.self_attn_layer_norm, x.final_layer_norm)
    return BlockSpec(norms[0], _attention(x.self_attn), norms[1], x.fc1, x.fc2, x.activation_fn)


def _layer(x: Any) -> LayerSpec:
    return LayerSpec(
        self_norm=x.self_attn_layer_norm,
        self_attention=_attention(x.self_attn),
        cross_norm=x.encoder_attn_layer_norm,
        cross_attention=_attention(x.encoder_attn),
        feed_norm=x.final_layer_norm,
        wide=x.fc1,
        narrow=x.fc2,
        activation=x.activation_fn,
    )


def _attention(x: Any) -> AttentionSpec:
    return AttentionSpec(x.num_heads, x.q_proj, x.k_proj, x.v_proj, x.out_proj, nn.Identity(), nn.Identity())
