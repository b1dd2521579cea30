"""Tiny random models for tests, built by parlab's own builder from ESPnet's classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from parlab.model.encoded import Encoded
from parlab.model.families.espnet_build import build_model
from parlab.model.hybrid import HybridModel

LETTERS = "abcdefghijklmnopq"


def tiny_config(encoder: str = "conformer", letters: str = LETTERS, **changes: Any) -> dict[str, Any]:
    """An ESPnet configuration of a model with width 32 and about twenty characters."""
    conf: dict[str, Any] = {"output_size": 32, "attention_heads": 4, "num_blocks": 2, "input_layer": "conv2d"}
    if encoder in {"conformer", "transformer"}:
        conf["linear_units"] = 64
    if encoder == "conformer":
        conf |= {
            "macaron_style": True,
            "rel_pos_type": "latest",
            "pos_enc_layer_type": "rel_pos",
            "selfattention_layer_type": "rel_selfattn",
            "cnn_module_kernel": 7,
        }
    if encoder.endswith("branchformer"):
        conf |= {"cgmlp_linear_units": 64, "cgmlp_conv_kernel": 7}
    config = {
        "token_list": ["<blank>", "<unk>", "<space>", *letters, "<sos/eos>"],
        "token_type": "char",
        "encoder": encoder,
        "encoder_conf": conf,
        "decoder": "transformer",
        "decoder_conf": {"attention_heads": 4, "linear_units": 64, "num_blocks": 2},
        "model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1},
        "frontend_conf": {"n_fft": 512, "hop_length": 160, "win_length": 400, "n_mels": 40},
        "normalize": "utterance_mvn",
    }
    for key, value in changes.items():
        config[key] = (
            {**config[key], **value} if isinstance(value, dict) and isinstance(config.get(key), dict) else value
        )
    return config


def tiny_model(seed: int = 0, sharpness: float = 3.0, **changes: Any) -> HybridModel:
    """A random model in evaluation mode; ``sharpness`` scales the output layers, so that beams differ."""
    torch.manual_seed(seed)
    model = build_model(tiny_config(**changes)).eval()
    with torch.no_grad():
        if model.decoder is not None:
            model.decoder.output_layer.weight.mul_(sharpness)
        if model.ctc is not None:
            model.ctc.ctc_lo.weight.mul_(sharpness)
    return model.requires_grad_(False)


def random_posteriors(seed: int, batch: int, frames: int, vocabulary: int, peak: float = 3.0) -> torch.Tensor:
    """Random log posteriors (B, T, V) with runs, repeats and blanks."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(batch, frames, vocabulary, generator=generator)
    labels = torch.randint(0, vocabulary, (batch, frames), generator=generator)
    keep = torch.rand(batch, frames, generator=generator) < 0.4  # a frame that repeats the one before
    for t in range(1, frames):
        labels[:, t] = torch.where(keep[:, t], labels[:, t - 1], labels[:, t])
    labels = torch.where(torch.rand(batch, frames, generator=generator) < 0.3, 0, labels)
    boost = peak * (0.5 + torch.rand(batch, frames, 1, generator=generator))
    return torch.log_softmax(base + boost * torch.nn.functional.one_hot(labels, vocabulary), dim=-1)


def examples(count: int) -> int:
    """Examples of a property test; ``PARLAB_EXAMPLES=30`` runs 30 times as many."""
    return count * int(os.environ.get("PARLAB_EXAMPLES", "1"))


def encoded(
    model: HybridModel,
    states: torch.Tensor,
    frames: torch.Tensor,
    log_probs: torch.Tensor | None = None,
    prompt: Sequence[int] | Sequence[Sequence[int]] | None = None,
) -> Encoded:
    """A batch of ``states`` (B, T, D) of ``frames`` (B,) as a decoder gets it.

    Args:
        log_probs: (B, T, V); by default those of the model's CTC head, if it has one.
        prompt: one prompt for all utterances, or one for each; the model's own by default.
    """
    if log_probs is None and model.ctc is not None:
        log_probs = model.ctc_log_probs(states)
    prompt = model.prompt if prompt is None else prompt
    if isinstance(prompt[0], int):
        prompt = [prompt] * len(states)  # type: ignore[list-item]
    return Encoded(states, frames, log_probs, tuple(tuple(p) for p in prompt))  # type: ignore[arg-type]
