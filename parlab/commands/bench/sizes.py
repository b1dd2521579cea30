"""Models of known sizes with random weights."""

from __future__ import annotations

from typing import Any

import torch

from parlab.model.families.espnet_build import build_model
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer


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


def _whisper(width: int, blocks: int, decoder_blocks: int, heads: int) -> dict[str, Any]:
    """Whisper's shapes in ESPnet's modules: 50 states a second, and a CTC head over the decoder's vocabulary."""
    units = 4 * width
    return {
        "encoder": "transformer",
        "encoder_conf": {
            "output_size": width,
            "attention_heads": heads,
            "linear_units": units,
            "num_blocks": blocks,
            "input_layer": "conv2d2",
        },
        "decoder_conf": {"attention_heads": heads, "linear_units": units, "num_blocks": decoder_blocks},
    }


def _dolphin(width: int, blocks: int, heads: int) -> dict[str, Any]:
    """An E-Branchformer with relative positions, as in the ``config.yaml`` of the package dataoceanai-dolphin."""
    made = _owsm(width, blocks, heads)
    relative = {"attention_layer_type": "rel_selfattn", "pos_enc_layer_type": "rel_pos", "rel_pos_type": "latest"}
    made["encoder_conf"] |= {**relative, "linear_units": 2 * width}
    return made


SIZES: dict[str, tuple[int, dict[str, Any]]] = {
    "tiny": (50, _conformer(32, 1, 1, 64)),
    "librispeech256": (5000, _conformer(256, 12, 6)),
    "librispeech512": (5000, _conformer(512, 12, 6, heads=8)),
    "owsm_base": (50002, _owsm(384, 6, heads=6)),
    "owsm_small": (50002, _owsm(768, 9, heads=12)),
    "owsm_medium": (50002, _owsm(1024, 18)),
    "owsm_reduced": (50002, _owsm(1024, 2)),  # two of eighteen blocks: for machines without an accelerator
    "whisper_base": (51865, _whisper(512, 6, 6, 8)),
    "whisper_small": (51865, _whisper(768, 12, 12, 12)),
    "whisper_turbo": (51866, _whisper(1280, 32, 4, 20)),
    # Shapes of other families in ESPnet's modules; FireRed's has no CTC head of its own.
    "wenet_u2pp": (4233, _conformer(256, 12, 3)),
    "speechbrain_conformer": (5000, _conformer(512, 12, 6, heads=8)),
    "firered_aed_l": (7832, _conformer(1280, 16, 16, 5120, heads=20)),
    "dolphin_small": (40020, _dolphin(768, 12, 12)),
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


def random_recognizer(size: str, device: torch.device, seed: int = 0) -> Recognizer:
    """A model of ``SIZES`` with random weights (the same on every device), in evaluation mode."""
    torch.manual_seed(seed)
    config = size_config(size)
    model = build_model(config).eval().requires_grad_(False).to(device)
    return Recognizer(model, Tokenizer(config["token_list"], "word"), device)
