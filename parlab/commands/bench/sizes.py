"""Models of known sizes with random weights, and drafts with exactly so many masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parlab.model.families.espnet_build import build_model
from parlab.model.hybrid import HybridModel

TOKENS_PER_SECOND = 4.0  # read English in pieces of a vocabulary of 5000


def _conformer(width: int, blocks: int, decoder_blocks: int, units: int = 2048, heads: int = 4) -> dict[str, Any]:
    return {
        "encoder": "conformer",
        "encoder_conf": {
            "output_size": width,
            "attention_heads": heads,
            "linear_units": units,
            "num_blocks": blocks,
            "input_layer": "conv2d",
            "macaron_style": True,
            "rel_pos_type": "latest",
            "pos_enc_layer_type": "rel_pos",
            "selfattention_layer_type": "rel_selfattn",
            "cnn_module_kernel": 31,
        },
        "decoder_conf": {"attention_heads": heads, "linear_units": units, "num_blocks": decoder_blocks},
    }


def _owsm(width: int, blocks: int, heads: int = 16) -> dict[str, Any]:
    units = 4 * width
    return {
        "encoder": "e_branchformer",
        "encoder_conf": {
            "output_size": width,
            "attention_heads": heads,
            "attention_layer_type": "selfattn",
            "pos_enc_layer_type": "abs_pos",
            "cgmlp_linear_units": units,
            "cgmlp_conv_kernel": 31,
            "num_blocks": blocks,
            "linear_units": units,
            "use_ffn": True,
            "macaron_ffn": True,
            "input_layer": "conv2d",
        },
        "decoder_conf": {"attention_heads": heads, "linear_units": units, "num_blocks": blocks},
    }


SIZES: dict[str, tuple[int, dict[str, Any]]] = {
    "tiny": (50, _conformer(32, 1, 1, 64)),
    "librispeech256": (5000, _conformer(256, 12, 6)),
    "librispeech512": (5000, _conformer(512, 12, 6, heads=8)),
    "owsm_base": (50002, _owsm(384, 6, heads=6)),
    "owsm_small": (50002, _owsm(768, 9, heads=12)),
    "owsm_medium": (50002, _owsm(1024, 18)),
    "owsm_reduced": (50002, _owsm(1024, 2)),  # two of eighteen blocks: for machines without an accelerator
}


def size_config(size: str) -> dict[str, Any]:
    """ESPnet's configuration of a model of ``SIZES``."""
    vocabulary, conf = SIZES[size]
    tokens = ["<blank>", "<unk>", *(f"t{i}" for i in range(vocabulary - 3)), "<sos/eos>"]
    return {
        "token_list": tokens,
        "token_type": "word",
        "frontend_conf": {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160},
        "normalize": "utterance_mvn",
        "decoder": "transformer",
        "model_conf": {"ctc_weight": 0.3},
        **conf,
    }


def random_model(size: str, seed: int = 0) -> HybridModel:
    """A model of ``SIZES`` with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return build_model(size_config(size)).eval().requires_grad_(False)


@dataclass(frozen=True)
class Input:
    """Encoder output (B, T, D), lengths (B,) and posteriors (B, T, V) whose drafts have ``masks`` masked tokens each."""

    states: Tensor
    lengths: Tensor
    log_probs: Tensor
    speech: Tensor
    tokens: int


@torch.inference_mode()
def make_input(model: HybridModel, seconds: float, masks: int, batch: int, seed: int = 0) -> Input:
    """Noise of ``seconds``, encoded by the model; posteriors of our own, so that masks are single and evenly spread.

    A confident token has probability 0.999, a masked one 0.5; each stands on one frame, blanks between.
    """
    generator = torch.Generator().manual_seed(seed)
    speech = torch.randn(batch, int(16000 * seconds), generator=generator) * 0.1
    states, lengths = model.encode(speech, torch.full((batch,), speech.size(1)))
    frames, vocabulary = states.size(1), model.vocab_size
    count = max(int(TOKENS_PER_SECOND * seconds), 2 * masks + 1)
    places = torch.linspace(1, frames - 2, count).long()
    probabilities = torch.full((batch, frames, vocabulary), 1e-3 / vocabulary)
    probabilities[..., 0] = 0.999
    ids = torch.randint(2, vocabulary - 1, (batch, count), generator=generator)
    for i in range(1, count):  # neighbours differ, so that no run merges
        same = ids[:, i] == ids[:, i - 1]
        ids[:, i] = torch.where(same, (ids[:, i] + 1).clamp(max=vocabulary - 2), ids[:, i])
    masked = set(torch.linspace(1, count - 2, masks).long().tolist()) if masks else set()
    rows = torch.arange(batch)
    for i, place in enumerate(places.tolist()):
        sure = 0.5 if i in masked else 0.999
        probabilities[:, place, 0] = (1 - sure) / 2
        probabilities[rows, place, ids[:, i]] = sure
    log_probs = torch.log(probabilities / probabilities.sum(-1, keepdim=True))
    return Input(states, lengths, log_probs, speech, count)
