"""Low-rank adapters (Hu et al., 2022) through peft, and their merging into plain weights without it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.hybrid import HybridModel

_ADAPTER = re.compile(r"\.lora_[AB]\.default\.weight$")


@dataclass(frozen=True)
class LoRA:
    """Adapters on linear layers; everything else stands still.

    Attributes:
        rank: of the adapters; 0 is off.
        alpha: their output is multiplied by ``alpha / rank``.
        dropout: before the adapters.
        targets: names of layers, whole or their ends (``linear_q`` is that of every attention).
        train: patterns of other parameters to train in full, as ``ctc.*``.
    """

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Sequence[str] = ("linear_q", "linear_k", "linear_v", "linear_out", "w_1", "w_2")
    train: Sequence[str] = ()

    @property
    def scale(self) -> float:
        """Factor of the product of the two matrices."""
        return self.alpha / self.rank


def add_lora(net: HybridModel, lora: LoRA) -> None:
    """Put adapters into ``net``, in place, and freeze the rest. Must come before DDP wraps the network.

    Raises:
        UserError: peft is missing, or no linear layer has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            "model.lora needs the package peft, which is not installed; run `pip install 'parlab[lora]'`"
        ) from error
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    for target in lora.targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise UserError(
                f"model.lora.targets names '{target}', but the linear layers are {', '.join(ends)}; name some of these"
            )
    options: dict[str, Any] = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    config = LoraConfig(target_modules=list(lora.targets), **options)
    inject_adapter_in_model(config, net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(bool(_ADAPTER.search(name)))
    net.lora_scale = lora.scale


def merge_lora(state: Mapping[str, Tensor], scale: float | None) -> dict[str, Tensor]:
    """A state dict without adapters: ``W + scale * B A`` under the names that the layers had."""
    if scale is None:
        return dict(state)
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if _ADAPTER.search(name):
            continue
        layer = name.removesuffix(".base_layer.weight")
        if layer != name and f"{layer}.lora_A.default.weight" in state:
            low, high = state[f"{layer}.lora_A.default.weight"], state[f"{layer}.lora_B.default.weight"]
            value = (value.double() + scale * high.double() @ low.double()).to(value.dtype)
        plain[name.replace(".base_layer.", ".")] = value
    return plain


def without_lora(net: HybridModel) -> HybridModel:
    """``net`` itself where it has no adapters, else a copy with them merged."""
    if net.lora_scale is None:
        return net
    merged = merge_lora({k: v.detach().cpu() for k, v in net.state_dict().items()}, net.lora_scale)
    # ESPnet's modules keep the attention of the last batch, with its graph, which cannot be copied and is of no use.
    kept = [
        x for module in net.modules() for x in vars(module).values() if isinstance(x, Tensor) and x.grad_fn is not None
    ]
    plain = deepcopy(net, {id(x): None for x in kept}).cpu()
    for name, module in list(plain.named_modules()):
        if isinstance(base := getattr(module, "base_layer", None), nn.Linear):
            plain.set_submodule(name, base)
    plain.load_state_dict(merged)
    plain.lora_scale = None
    return plain.eval()
