"""Callbacks of a training: the average of the best checkpoints, written as an ESPnet folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from parlab.model.folder import load_weights, write_model


class ExportModel(Callback):
    """At the end of a training, also of an interrupted one, write ``model/`` into the run folder.

    Args:
        average: average the weights of so many of the best checkpoints (those that ``ModelCheckpoint`` kept); 0
            writes the weights as they are.
        half: store float16.
    """

    def __init__(self, average: int = 5, half: bool = False):
        self.average, self.half = average, half

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.export(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            self.export(trainer, pl_module)

    def export(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero or pl_module.net is None or trainer.fast_dev_run:
            return
        best = best_checkpoints(trainer)[: self.average] if self.average else []
        if best:
            load_weights(pl_module.net, average_checkpoints(best), best[0])
        folder = write_model(pl_module.net, pl_module.tokenizer, Path(trainer.default_root_dir) / "model", self.half)
        rank_zero_info(f"wrote {folder} ({f'average of {len(best)} checkpoints' if best else 'last weights'})")


def best_checkpoints(trainer: Trainer) -> list[Path]:
    """The checkpoints that the run kept, best first."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.best_k_models and callback.monitor:
            worst_first = callback.mode == "max"
            order = sorted(callback.best_k_models.items(), key=lambda item: float(item[1]), reverse=worst_first)
            return [Path(path) for path, _ in order if Path(path).is_file()]
    return []


def average_checkpoints(paths: list[Path]) -> dict[str, torch.Tensor]:
    """Mean of the network's weights over Lightning checkpoints; integer buffers are those of the first."""
    total: dict[str, torch.Tensor] = {}
    for path in paths:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        state = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        if not total:
            total = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
        else:
            total = {k: v + state[k].double() if v.is_floating_point() else v for k, v in total.items()}
    return {k: (v / len(paths)).float() if v.is_floating_point() else v for k, v in total.items()}
