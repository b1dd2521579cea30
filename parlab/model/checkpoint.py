"""Models in Lightning checkpoints of ours, which can be read without the run that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.families.blocks.model import BlockModel
from parlab.model.families.blocks.origin import Origin
from parlab.model.families.espnet_build import build_model
from parlab.model.families.espnet_folder import portable_config
from parlab.model.families.layouts import origin_of, read_origin
from parlab.model.families.weights import check_finite, load_weights, read_pickle
from parlab.model.hybrid import HybridModel
from parlab.model.lora import merge_lora
from parlab.text.tokenizer import Tokenizer

CHECKPOINT_KEY = "parlab_model"  # the entry of ours beside Lightning's own


def read_checkpoint(path: Path) -> tuple[HybridModel, Tokenizer]:
    """Read a model and its tokenizer from a checkpoint, in evaluation mode, on the CPU.

    Raises:
        UserError: the file cannot be read, or `fit` did not write it.
    """
    checkpoint = read_pickle(path, "checkpoint", "name another one, or the run's model/")
    entry: Any = checkpoint.get(CHECKPOINT_KEY) if isinstance(checkpoint, dict) else None
    foreign = isinstance(entry, dict) and isinstance(entry.get("family"), str)
    whole = foreign or (isinstance(entry, dict) and isinstance(entry.get("config"), dict))
    if not (whole and isinstance(checkpoint.get("state_dict"), dict)):
        lacking = f"'state_dict' beside '{CHECKPOINT_KEY}'" if whole else f"'{CHECKPOINT_KEY}'"
        raise UserError(
            f"{path} is no checkpoint of parlab (it lacks {lacking}), expected one that `fit` wrote; "
            "name an ESPnet-format folder instead"
        )
    state = network_state(checkpoint)
    check_finite(state, path)
    if foreign:
        return read_origin(Origin.from_entry(entry, path), state)
    model = build_model(entry["config"])
    load_weights(model, state, path)
    config = {**entry["config"], "token_list": model.token_list}
    model_bytes = entry["bpemodel"].numpy().tobytes() if "bpemodel" in entry else None
    tokenizer = Tokenizer(
        token_list=list(config["token_list"]), token_type=config.get("token_type") or "bpe", model_bytes=model_bytes
    )
    return model.eval(), tokenizer


def checkpoint_entry(model: HybridModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a Lightning checkpoint needs beside its weights to be read alone (plain types and one byte tensor)."""
    if isinstance(model, BlockModel):
        return {**origin_of(model).entry(), "lora_scale": model.lora_scale}
    entry: dict[str, Any] = {"config": portable_config(model, tokenizer), "lora_scale": model.lora_scale}
    if tokenizer.model_bytes is not None:
        entry["bpemodel"] = torch.frombuffer(bytearray(tokenizer.model_bytes), dtype=torch.uint8)
    return entry


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights in a Lightning checkpoint of ours, adapters merged."""
    state = {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}
    return merge_lora(state, (checkpoint.get(CHECKPOINT_KEY) or {}).get("lora_scale"))
