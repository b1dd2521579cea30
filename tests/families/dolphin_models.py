"""Tiny Dolphin models: one as ESPnet trained it, one as WeNet did, as folders in Dolphin's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tests.families.weights import weights

GOLDEN = Path(__file__).parent / "golden"
BANDS = 40
SYMBOLS = ["<blank>", "<unk>", "<na>", "<itn>", "<asr>", "<en>", "<fil>", "<zh>", "<CN>", "<NULL>", "<SICHUAN>"]
SYMBOLS += ["<0.00>", "<0.02>", "<30.00>", "<notimestamp>"]
UNITS = [*SYMBOLS, *"abcdefghijklmnopqrst", "你", "好", "<sos>", "<eos>", "<sop>"]
PROMPT = [UNITS.index(t) for t in ("<sos>", "<zh>", "<CN>", "<asr>", "<notimestamp>")]
SEEDS = {"espnet": 31, "wenet": 32}
_ENCODER = {
    "output_size": 32,
    "attention_heads": 4,
    "linear_units": 48,
    "num_blocks": 2,
    "cgmlp_linear_units": 64,
    "cgmlp_conv_kernel": 7,
    "merge_conv_kernel": 5,
    "input_layer": "conv2d",
}
_COMMON = {
    "encoder": "e_branchformer",
    "decoder": "transformer",
    "input_dim": BANDS,
    "output_dim": len(UNITS),
    "ctc_conf": {"ctc_blank_id": 0},
    "model_conf": {"ctc_weight": 0.3},
    "tokenizer": "bpe",
}
_DECODER = {"attention_heads": 4, "linear_units": 48, "num_blocks": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "espnet": {
        **_COMMON,
        "encoder_conf": {**_ENCODER, "pos_enc_layer_type": "rel_pos_v1", "causal": False},
        "decoder_conf": _DECODER,
        "cmvn": "global_mvn",
        "layer_norm_eps": "1e-12",
        "dataset_conf": {
            "frontend_conf": {"n_fft": 512, "win_length": 400, "hop_length": 160, "fs": "16k", "n_mels": BANDS}
        },
    },
    "wenet": {
        **_COMMON,
        "encoder_conf": {**_ENCODER, "pos_enc_layer_type": "rel_pos", "use_sdpa": True, "causal": True},
        "decoder_conf": {**_DECODER, "use_sdpa": True},
        "cmvn": "global_cmvn",
        "dataset_conf": {"fbank_conf": {"num_mel_bins": BANDS, "frame_shift": 10, "frame_length": 25, "dither": 0.0}},
    },
}


def statistics(name: str) -> dict[str, Any]:
    """Sums of features: as ESPnet's ``feats_stats.npz`` has them, or as WeNet's JSON."""
    numbers = np.random.RandomState(9)
    low = (-8.0, -2.0) if name == "espnet" else (8.0, 14.0)
    mean, spread = numbers.uniform(*low, BANDS), numbers.uniform(1, 4, BANDS)
    if name == "espnet":
        return {"count": np.array(1000), "sum": mean * 1000, "sum_square": (mean**2 + spread**2) * 1000}
    sums = {"mean_stat": mean * 1000, "var_stat": (mean**2 + spread**2) * 1000}
    return {**{k: v.tolist() for k, v in sums.items()}, "frame_num": 1000}


def write_statistics(folder: Path, name: str) -> Path:
    """The file that the model of this name has."""
    if name == "espnet":
        np.savez(folder / "feats_stats.npz", **statistics(name))
        return folder / "feats_stats.npz"
    (folder / "global_cmvn").write_text(json.dumps(statistics(name)))
    return folder / "global_cmvn"


def speaking(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with a decoder that writes no symbol but the end, and whose text depends on the speech."""
    state = dict(state)
    banned = torch.tensor([t in {*SYMBOLS, "<sos>", "<sop>"} for t in UNITS])
    state["decoder.output_layer.bias"] = state["decoder.output_layer.bias"] - 30.0 * banned
    for name in state:
        if name.endswith(".weight") and (name.startswith("decoder.output_layer") or ".src_attn.linear_" in name):
            state[name] = state[name] * 3.0
    return state


def write_dolphin(folder: Path, name: str) -> dict[str, Any]:
    """Write the folder of a golden file's model; return the golden numbers."""
    with np.load(GOLDEN / f"dolphin_{name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIGS[name], "tokenizer_conf": {"bpe_path": None, "symbol_table_path": "data/units.txt"}}
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    (folder / "units.txt").write_text("".join(f"{t} {i}\n" for i, t in enumerate(UNITS)), encoding="utf-8")
    write_statistics(folder, name)
    state = speaking(weights(json.loads(str(golden["shapes"])), SEEDS[name]))
    state["context_module.hot.weight"] = torch.zeros(3)  # of hot words, which are not read
    torch.save(state, folder / "small.pt")
    return golden
