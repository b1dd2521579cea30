"""ESPnet's own S2T models on our weights, and models laid out as the hub's cache is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import yaml

from parlab.model.families.espnet import load, log_mel, task_model_class
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer


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
