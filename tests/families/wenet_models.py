"""Tiny WeNet models: configurations as its recipes have them, and folders as it writes them."""

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
UNITS = ["<blank>", "<unk>", "\u2581", *"abcdefghijklmnopqrstu", "你", "好", "<sos/eos>"]
GREEDY_STEPS = 100  # more than there are
_ENCODER = {"output_size": 32, "attention_heads": 4, "linear_units": 48, "num_blocks": 2, "input_layer": "conv2d"}
_U2PP = {
    "cnn_module_kernel": 8,
    "causal": True,
    "cnn_module_norm": "layer_norm",
    "use_dynamic_chunk": True,
    "pos_enc_layer_type": "rel_pos",
    "selfattention_layer_type": "rel_selfattn",
    "activation_type": "swish",
}
_DECODER = {"attention_heads": 4, "linear_units": 48, "num_blocks": 2}


def _config(seed: int, encoder: str, conf: Mapping[str, Any], decoder: str, **more: Any) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "encoder_conf": {**_ENCODER, **conf},
        "decoder": decoder,
        "decoder_conf": {**_DECODER, **({"r_num_blocks": 1} if decoder == "bitransformer" else {})},
        "cmvn": "global_cmvn",
        "model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1, "reverse_weight": 0.3},
        "dataset_conf": {"fbank_conf": {"num_mel_bins": BANDS, "frame_shift": 10, "frame_length": 25, "dither": 0.1}},
        "seed": seed,
        **more,
    }


# What its recipes vary: U2++ with causal convolution, U2 without, the transformer, other subsampling.
CONFIGS = {
    "u2pp": _config(37, "conformer", _U2PP, "bitransformer"),
    "u2": _config(
        15,
        "conformer",
        {**_U2PP, "causal": False, "cnn_module_kernel": 7, "cnn_module_norm": "batch_norm"},
        "transformer",
    ),
    "transformer": _config(25, "transformer", {"input_layer": "conv2d6"}, "transformer"),
    "plain": _config(
        4,
        "conformer",
        {
            "selfattention_layer_type": "selfattn",
            "pos_enc_layer_type": "abs_pos",
            "input_layer": "conv2d8",
            "causal": True,
        },
        "bitransformer",
    ),
}


def cmvn_json() -> dict[str, Any]:
    """Statistics of features as WeNet's ``compute_cmvn_stats.py`` writes them."""
    numbers = np.random.RandomState(5)
    mean, spread, count = numbers.uniform(8, 14, BANDS), numbers.uniform(1, 4, BANDS), 1000
    return {
        "mean_stat": (mean * count).tolist(),
        "var_stat": ((mean**2 + spread**2) * count).tolist(),
        "frame_num": count,
    }


def speaking(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with a decoder that writes no blank and no unknown token, and sometimes ends."""
    state = dict(state)
    for name in list(state):
        if name.endswith("output_layer.bias"):
            bias = state[name].clone()
            bias[:2] -= 30.0
            state[name] = bias
        if name.endswith(".weight") and ("output_layer" in name or "src_attn" in name):
            state[name] = state[name] * 3.0  # so that the text depends on the speech
        if name.endswith("embed.0.weight"):
            state[name] = state[name] * 0.3
    return state


def write_wenet(folder: Path, name: str, text_cmvn: bool = False) -> dict[str, Any]:
    """Write the folder of a golden file's model; return the golden numbers."""
    with np.load(GOLDEN / f"wenet_{name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    folder.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in CONFIGS[name].items() if k != "seed"}
    config |= {"input_dim": BANDS, "output_dim": len(UNITS)}
    config["cmvn_conf"] = {"cmvn_file": "data/train/global_cmvn", "is_json_cmvn": not text_cmvn}
    config["tokenizer_conf"] = {"symbol_table_path": "data/dict/units.txt"}
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    (folder / "units.txt").write_text("".join(f"{t} {i}\n" for i, t in enumerate(UNITS)), encoding="utf-8")
    stats = cmvn_json()
    text = json.dumps(stats)
    if text_cmvn:
        first, second = (" ".join(repr(x) for x in stats[k]) for k in ("mean_stat", "var_stat"))
        text = f" [\n  {first} {stats['frame_num']} \n  {second} 0 ]\n"
    (folder / "global_cmvn").write_text(text)
    shapes = json.loads(str(golden["shapes"]))
    state = speaking(weights(shapes, CONFIGS[name]["seed"]))
    count = {k.replace("running_var", "num_batches_tracked"): torch.tensor(9) for k in state if "running_var" in k}
    torch.save(state | count, folder / "final.pt")
    return golden
