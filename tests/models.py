"""Tiny random models for tests (ASR, S2T, one to train), built by parlab's own builder from ESPnet's classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.decode import Decoder
from parlab.model.encoded import Encoded
from parlab.model.families.espnet import LANGUAGE_MODELS, load
from parlab.model.families.espnet_build import build_model
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer, build_tokenizer
from parlab.types import Hypothesis

LETTERS = "abcdefghijklmnopq"
FRONT_END = {"n_fft": 512, "hop_length": 160, "win_length": 400, "n_mels": 40}
CONFORMER = {
    "macaron_style": True,
    "rel_pos_type": "latest",
    "pos_enc_layer_type": "rel_pos",
    "selfattention_layer_type": "rel_selfattn",
    "cnn_module_kernel": 7,
}
S2T_SENTENCES = [
    "the cat sat on the mat and looked at the moon",
    "a dog ran over the hill to find another dog",
    "many words make a sentence that some people read",
    "we went home when the rain began to fall again",
]
WINDOW = 2.0  # seconds, for the 30 of the real ones
STEP = 0.1
TIMES = [f"<{i * STEP:.2f}>" for i in range(round(WINDOW / STEP) + 1)]
S2T_SYMBOLS = [
    "<blank>",
    "<unk>",
    "<na>",
    "<nospeech>",
    "<deu>",
    "<eng>",
    "<fra>",
    "<nolang>",
    "<asr>",
    "<st_deu>",
    "<st_eng>",
]


def tiny_config(encoder: str = "conformer", letters: str = LETTERS, **changes: Any) -> dict[str, Any]:
    """An ESPnet configuration of a model with width 32 and about twenty characters."""
    conf: dict[str, Any] = {"output_size": 32, "attention_heads": 4, "num_blocks": 2, "input_layer": "conv2d"}
    if encoder in {"conformer", "transformer"}:
        conf["linear_units"] = 64
    if encoder == "conformer":
        conf |= CONFORMER
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
        "frontend_conf": FRONT_END,
        "normalize": "utterance_mvn",
    }
    return _merged(config, changes)


def _merged(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The config with changes; dictionaries are merged."""
    for key, value in changes.items():
        config[key] = (
            {**config[key], **value} if isinstance(value, dict) and isinstance(config.get(key), dict) else value
        )
    return config


def _random(config: dict[str, Any], seed: int, sharpness: float) -> HybridModel:
    """A random model in evaluation mode; ``sharpness`` scales the output layers, so that beams differ."""
    torch.manual_seed(seed)
    model = build_model(config).eval()
    with torch.no_grad():
        for layer in (model.decoder and model.decoder.output_layer, model.ctc and model.ctc.ctc_lo):
            if layer is not None:
                layer.weight.mul_(sharpness)
    return model.requires_grad_(False)


def tiny_model(seed: int = 0, sharpness: float = 3.0, **changes: Any) -> HybridModel:
    """A random model of ``tiny_config``."""
    return _random(tiny_config(**changes), seed, sharpness)


def tiny_network() -> dict[str, Any]:
    """An ESPnet configuration of about 13,000 parameters, with dropout, SpecAugment and batch norm."""
    return {
        "frontend_conf": {**FRONT_END, "n_mels": 20},
        "specaug": "specaug",
        "specaug_conf": {
            "apply_time_warp": False,
            "freq_mask_width_range": [0, 4],
            "num_freq_mask": 1,
            "time_mask_width_ratio_range": [0.0, 0.05],
            "num_time_mask": 1,
        },
        "normalize": "global_mvn",
        "encoder": "conformer",
        "encoder_conf": {
            "output_size": 16,
            "attention_heads": 2,
            "linear_units": 32,
            "num_blocks": 1,
            "input_layer": "conv2d",
            **CONFORMER,
        },
        "decoder": "transformer",
        "decoder_conf": {"attention_heads": 2, "linear_units": 32, "num_blocks": 1},
        "model_conf": {"ctc_weight": 0.5, "lsm_weight": 0.1},
    }


def s2t_tokenizer(folder: Path) -> Tokenizer:
    """Sentencepiece pieces between OWSM's symbols."""
    pieces = build_tokenizer(S2T_SENTENCES, "bpe", folder, vocab_size=44)
    own = [t for t in pieces.token_list if not t.startswith("<")]
    tokens = [*S2T_SYMBOLS, "<notimestamps>", *TIMES, *own, "<sos>", "<eos>", "<sop>"]
    return Tokenizer(tokens, "bpe", folder / "bpe.model")


def s2t_config(tokenizer: Tokenizer, kind: str = "s2t", **changes: Any) -> dict[str, Any]:
    """ESPnet's configuration of an E-Branchformer with a transformer decoder (or an OWSM-CTC encoder)."""
    encoder = {
        "output_size": 32,
        "attention_heads": 4,
        "num_blocks": 3,
        "input_layer": "conv2d",
        "cgmlp_linear_units": 64,
        "cgmlp_conv_kernel": 7,
        "linear_units": 64,
        "use_ffn": True,
        "macaron_ffn": True,
        "attention_layer_type": "rel_selfattn",
        "pos_enc_layer_type": "rel_pos",
        "rel_pos_type": "latest",
        "merge_conv_kernel": 7,
        "dropout_rate": 0.0,
        "positional_dropout_rate": 0.0,
    }
    config: dict[str, Any] = {
        "token_list": list(tokenizer.token_list),
        "token_type": "bpe",
        "bpemodel": str(tokenizer.model_file),
        "frontend_conf": FRONT_END,
        "normalize": "utterance_mvn",
        "encoder": "e_branchformer",
        "encoder_conf": encoder,
        "decoder": "transformer",
        "decoder_conf": {"attention_heads": 4, "linear_units": 64, "num_blocks": 2, "dropout_rate": 0.0},
        "model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1, "length_normalized_loss": False},
        "preprocessor_conf": {
            "fs": 16000,
            "speech_length": WINDOW,
            "speech_resolution": STEP,
            "notime_symbol": "<notimestamps>",
            "first_time_symbol": TIMES[0],
            "last_time_symbol": TIMES[-1],
        },
    }
    if kind == "s2t_ctc":
        config |= {
            "encoder": "e_branchformer_ctc",
            "promptencoder": "transformer",
            "model_conf": {"interctc_weight": 0.5},
        }
        config["encoder_conf"] = {
            **encoder,
            "input_layer": "conv2d8",  # takes a prompt, which conv2d does not
            "interctc_layer_idx": [1],
            "interctc_use_conditioning": True,
            "use_cross_attention": [False, True, False],
        }
        small = {"output_size": 16, "attention_heads": 4, "linear_units": 32, "num_blocks": 1}
        config["promptencoder_conf"] = {**small, "dropout_rate": 0.0, "positional_dropout_rate": 0.0}
        del config["decoder"], config["decoder_conf"], config["preprocessor_conf"]
    return _merged(config, changes)


def s2t_model(
    tokenizer: Tokenizer, kind: str = "s2t", seed: int = 0, sharpness: float = 3.0, **changes: Any
) -> HybridModel:
    """A random model of ``s2t_config``."""
    return _random(s2t_config(tokenizer, kind, **changes), seed, sharpness)


def write_lm(folder: Path, kind: str, vocabulary: int = 21) -> Path:
    """A random ESPnet language model on disk."""
    torch.manual_seed(7)
    conf = (
        {"unit": 16, "nlayers": 2} if kind == "seq_rnn" else {"att_unit": 16, "unit": 32, "layer": 2, "embed_unit": 8}
    )
    lm = load(*LANGUAGE_MODELS[kind])(vocab_size=vocabulary, **conf)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"lm": kind, "lm_conf": conf, "token_list": [f"t{i}" for i in range(vocabulary)]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save({f"lm.{k}": v * 3 for k, v in lm.state_dict().items()}, folder / "valid.loss.ave.pth")
    return folder


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


def decoded_as_alone(decoder: Decoder, model: HybridModel, given: Encoded, order: Sequence[int]) -> list[Hypothesis]:
    """The hypotheses of a batch in an order, which are those of each utterance alone and without padding."""
    together = decoder.decode(model, given.select(order))
    for hypothesis, i in zip(together, order, strict=True):
        n = int(given.frames[i])
        states, log_probs = given.states[i : i + 1, :n], given.posteriors[i : i + 1, :n]
        [single] = decoder.decode(model, encoded(model, states, given.frames[i : i + 1], log_probs))
        assert (hypothesis.tokens, hypothesis.counts) == (single.tokens, single.counts)
        assert hypothesis.score == pytest.approx(single.score, abs=1e-3)
    return together
