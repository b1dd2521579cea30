"""Models in Lightning checkpoints of ours, which can be read without the run that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.families.espnet_build import build_model
from parlab.model.families.espnet_folder import load_weights, portable_config
from parlab.model.hybrid import HybridModel
from parlab.model.lora import merge_lora
from parlab.text.tokenizer import Tokenizer

CHECKPOINT_KEY = "parlab_model"  # the entry of ours beside Lightning's own


def read_checkpoint(path: Path) -> tuple[HybridModel, Tokenizer]:
    """Read a model and its tokenizer from a checkpoint, in evaluation mode, on the CPU.

    Raises:
        UserError: the file cannot be read, or `fit` did not write it.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"the checkpoint {path} cannot be read ({str(error).splitlines()[0][:120]}); name another one, or the run's model/"
        ) from error
    entry = checkpoint.get(CHECKPOINT_KEY)
    if entry is None:
        raise UserError(
            f"{path} is no checkpoint of parlab (it lacks '{CHECKPOINT_KEY}'), expected one that `fit` wrote; "
            "name an ESPnet-format folder instead"
        )
    model = build_model(entry["config"])
    load_weights(model, network_state(checkpoint), path)
    config = entry["config"]
    model_bytes = entry["bpemodel"].numpy().tobytes() if "bpemodel" in entry else None
    tokenizer = Tokenizer(
        token_list=list(config["token_list"]), token_type=config["token_type"], model_bytes=model_bytes
    )
    return model.eval(), tokenizer


def checkpoint_entry(model: HybridModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a Lightning checkpoint needs beside its weights to be read alone (plain types and one byte tensor)."""
    entry: dict[str, Any] = {"config": portable_config(model, tokenizer), "lora_scale": model.lora_scale}
    if tokenizer.model_bytes is not None:
        entry["bpemodel"] = torch.frombuffer(bytearray(tokenizer.model_bytes), dtype=torch.uint8)
    return entry


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights in a Lightning checkpoint of ours, adapters merged."""
    state = {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}
    return merge_lora(state, (checkpoint.get(CHECKPOINT_KEY) or {}).get("lora_scale"))
