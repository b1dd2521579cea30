"""Tiny S2T (OWSM) models, made with ESPnet's own classes and laid out as the hub's cache is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import yaml

from parlab.model.families.espnet import load, log_mel, task_model_class
from parlab.model.families.espnet_build import build_model
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer, build_tokenizer

SENTENCES = [
    "the cat sat on the mat and looked at the moon",
    "a dog ran over the hill to find another dog",
    "many words make a sentence that some people read",
    "we went home when the rain began to fall again",
]
WINDOW = 2.0  # seconds, for the 30 of the real ones
STEP = 0.1
TIMES = [f"<{i * STEP:.2f}>" for i in range(round(WINDOW / STEP) + 1)]
SYMBOLS = [
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


def s2t_tokenizer(folder: Path) -> Tokenizer:
    """Sentencepiece pieces between OWSM's symbols."""
    pieces = build_tokenizer(SENTENCES, "bpe", folder, vocab_size=44)
    own = [t for t in pieces.token_list if not t.startswith("<")]
    tokens = [*SYMBOLS, "<notimestamps>", *TIMES, *own, "<sos>", "<eos>", "<sop>"]
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
        "frontend_conf": {"n_fft": 512, "hop_length": 160, "win_length": 400, "n_mels": 40},
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
    for key, value in changes.items():
        config[key] = (
            {**config[key], **value} if isinstance(value, dict) and isinstance(config.get(key), dict) else value
        )
    return config


def s2t_model(
    tokenizer: Tokenizer, kind: str = "s2t", seed: int = 0, sharpness: float = 3.0, **changes: Any
) -> HybridModel:
    """A random model in evaluation mode."""
    torch.manual_seed(seed)
    model = build_model(s2t_config(tokenizer, kind, **changes)).eval()
    with torch.no_grad():
        for layer in (model.decoder and model.decoder.output_layer, model.ctc and model.ctc.ctc_lo):
            if layer is not None:
                layer.weight.mul_(sharpness)
    return model.requires_grad_(False)


class FrontEnd(load("espnet2.asr.frontend.abs_frontend", "AbsFrontend")):  # type: ignore[misc]
    """ESPnet's DefaultFrontend less torch_complex: torch.stft as its Stft layer calls it, then its LogMel."""

    def __init__(self) -> None:
        super().__init__()
        self.logmel = log_mel(fs=16000, n_fft=512, n_mels=40)

    def output_size(self) -> int:
        return 40

    def forward(self, speech: torch.Tensor, lengths: torch.Tensor) -> Any:
        window = torch.hann_window(400)
        spectrum = torch.stft(speech, 512, 160, 400, window, center=True, return_complex=True)
        return self.logmel(spectrum.abs().square().transpose(1, 2), lengths // 160 + 1)


def espnets_own(config: dict[str, Any], state: dict[str, torch.Tensor]) -> Any:
    """ESPnet's ``ESPnetS2TModel`` (or its CTC one) from a config, with these weights, loaded key for key."""
    size = len(config["token_list"])
    ctc_only = config["encoder"] == "e_branchformer_ctc"
    module = "e_branchformer_ctc_encoder" if ctc_only else "e_branchformer_encoder"
    name = "EBranchformerCTCEncoder" if ctc_only else "EBranchformerEncoder"
    encoder = load(f"espnet2.asr.encoder.{module}", name)(input_size=40, **config["encoder_conf"])
    parts: dict[str, Any] = {
        "vocab_size": size,
        "token_list": config["token_list"],
        "frontend": FrontEnd(),
        "specaug": None,
        "normalize": load("espnet2.layers.utterance_mvn", "UtteranceMVN")(),
        "encoder": encoder,
        "ctc": load("espnet2.asr.ctc", "CTC")(odim=size, encoder_output_size=32),
        "report_cer": False,
        "report_wer": False,
        **config["model_conf"],
    }
    if ctc_only:
        conf = config["promptencoder_conf"]
        reader = load("espnet2.asr.encoder.transformer_encoder", "TransformerEncoder")
        parts["prompt_encoder"] = reader(input_size=conf["output_size"], input_layer=None, **conf)
        parts["ctc_asr_only"] = [False, False]
    else:
        decoder = load("espnet2.asr.decoder.transformer_decoder", "TransformerDecoder")
        parts |= {"preencoder": None, "postencoder": None, "decoder": decoder(size, 32, **config["decoder_conf"])}
    model = task_model_class("s2t_ctc" if ctc_only else "s2t")(**parts)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def fill_cache(cache: Path, hub_id: str, model: HybridModel, tokenizer: Tokenizer, config: dict[str, Any]) -> Path:
    """Lay a model out as huggingface_hub's cache and ESPnet's model zoo do; returns the snapshot's folder."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    commit = hashlib.sha1(hub_id.encode()).hexdigest()
    snapshot = repository / "snapshots" / commit
    inner = snapshot / "exp" / "s2t_train"
    inner.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    spelling = snapshot / "data" / "token_list" / "bpe_unigram60"
    spelling.mkdir(parents=True)
    assert tokenizer.model_bytes is not None
    (spelling / "bpe.model").write_bytes(tokenizer.model_bytes)
    stored = {**config, "bpemodel": "data/token_list/bpe_unigram60/bpe.model"}
    (inner / "config.yaml").write_text(yaml.safe_dump(stored))
    torch.save(model.state_dict(), inner / "valid.total_count.ave_5best.till45epoch.pth")
    meta = {
        "espnet": "202308",
        "files": {"s2t_model_file": "exp/s2t_train/valid.total_count.ave_5best.till45epoch.pth"},
        "yaml_files": {"s2t_train_config": "exp/s2t_train/config.yaml"},
    }
    (snapshot / "meta.yaml").write_text(yaml.safe_dump(meta))
    return snapshot
