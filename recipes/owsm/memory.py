"""Memory of fine-tuning OWSM with adapters: weights counted, activations measured on one block and multiplied.

python recipes/owsm/memory.py
"""

from __future__ import annotations

import gc

import torch
from rich.console import Console
from rich.table import Table

from parlab.commands.bench.sizes import SIZES, size_config
from parlab.model.families.espnet_build import build_model
from parlab.model.hybrid import HybridModel
from parlab.model.lora import LoRA, add_lora
from parlab.text.targets import Targets

ADAPTERS = LoRA(rank=16, alpha=32, targets=("linear_q", "linear_k", "linear_v", "linear_out", "w_1", "w_2"))
SECONDS, TOKENS = 30, 100  # an utterance: the window, and a long transcript


def network(size: str, blocks: int | None = None) -> HybridModel:
    """A model of a size, or one with fewer blocks."""
    config = size_config(size)
    if blocks is not None:
        for part in ("encoder_conf", "decoder_conf"):
            config[part] = {**config[part], "num_blocks": blocks}
    return build_model(config)


def activations(size: str, blocks: int) -> int:
    """Bytes that the backward pass of one utterance needs, in bf16-mixed."""
    model = network(size, blocks)
    add_lora(model, ADAPTERS)
    kept: dict[int, int] = {}
    weights = {p.data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    targets = Targets(torch.randint(2, 1000, (1, TOKENS)), torch.tensor([TOKENS]))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        model.loss(torch.randn(1, SECONDS * 16000), torch.tensor([SECONDS * 16000]), targets)
    return sum(kept.values())


def main() -> None:
    table = Table(title="GiB: fine-tuning with LoRA of rank 16, bf16-mixed, 30 s windows")
    heads = (
        "size",
        "parameters",
        "trained",
        "weights",
        "optimiser",
        "per utterance",
        "batch of 2",
        "of 8",
        "predict bf16, of 8",
    )
    for head in heads:
        table.add_column(head, justify="right")
    for name in ("base", "small", "medium"):
        size = f"owsm_{name}"
        blocks = SIZES[size][1]["encoder_conf"]["num_blocks"]
        with torch.device("meta"):
            model = network(size)
        total = sum(p.numel() for p in model.parameters())
        ends = set(ADAPTERS.targets)
        layers = [
            m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.rsplit(".", 1)[-1] in ends
        ]
        trained = sum(ADAPTERS.rank * (m.in_features + m.out_features) for m in layers)
        one, two = activations(size, 1), activations(size, 2)
        gc.collect()
        each = one + (blocks - 1) * (two - one)
        weights, state = 4 * total, 12 * trained  # gradient and two moments, float32
        sums = [(weights + state + n * each) / 2**30 for n in (2, 8)]
        # Decoding keeps no activations: weights, encoder output, log posteriors in float32.
        decoding = (2 * total + 8 * SECONDS * 25 * SIZES[size][0] * 4 * 2) / 2**30
        cells = [weights / 2**30, state / 2**30, each / 2**30, *sums, decoding]
        table.add_row(name, f"{total / 1e6:.0f} M", f"{trained / 1e6:.1f} M", *(f"{c:.2f}" for c in cells))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
