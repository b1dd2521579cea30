"""Tiny random models for tests, built by parlab's own builder from ESPnet's classes."""

from __future__ import annotations

import os
from typing import Any

import torch

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
    held = torch.randint(0, vocabulary, (batch, frames), generator=generator)
    keep = torch.rand(batch, frames, generator=generator) < 0.4  # a frame that repeats the one before
    for t in range(1, frames):
        held[:, t] = torch.where(keep[:, t], held[:, t - 1], held[:, t])
    held = torch.where(torch.rand(batch, frames, generator=generator) < 0.3, 0, held)
    boost = peak * (0.5 + torch.rand(batch, frames, 1, generator=generator))
    return torch.log_softmax(base + boost * torch.nn.functional.one_hot(held, vocabulary), dim=-1)


def examples(count: int) -> int:
    """Examples of a property test; ``PARLAB_EXAMPLES=30`` runs 30 times as many."""
    return count * int(os.environ.get("PARLAB_EXAMPLES", "1"))
