"""Checkpoints on disk: written whole, checked, ranked and averaged."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from parlab.model.checkpoint import CHECKPOINT_KEY, network_state
from parlab.predictions.files import writing

FILENAME = "epoch{epoch:03d}-step{step:06d}"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its file and renames it, so that a kill leaves the old one or the new one.

    Lightning writes to the system's temporary folder, from where another disk is reached only by copying.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any | None = None
    ) -> None:
        file = Path(path)
        partial = file.with_name(file.name + ".partial")
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as out:
                torch.save(checkpoint, out)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)


def is_whole(path: Path) -> bool:
    """Whether a training can go on from a checkpoint: every byte is there, and the optimiser's state too."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        return False
    return {CHECKPOINT_KEY, "state_dict", "optimizer_states", "loops"} <= found.keys()


def has_checkpoints(folder: Path) -> bool:
    """Whether a folder holds any."""
    return any(folder.glob("*.ckpt"))


def checkpoint_names(filename: str | None) -> list[str]:
    """Patterns of the names of files that a training writes, from ``ModelCheckpoint``'s ``filename``."""
    own = re.sub(r"\{[^}]*\}", "*", filename or "{epoch}-{step}")
    own = own if filename else "epoch=*-step=*"
    return [f"{name}.ckpt{end}" for name in ("last", own) for end in ("", ".partial")]


class BestCheckpoints(ModelCheckpoint):
    """Keeps the best checkpoints and the last; what ``CleanStop`` left in the middle of an epoch stays the last.

    Lightning would end that epoch early, count it as done, and rank its weights by the result of the one before. It would
    also write ``last.ckpt`` only after an epoch that is among the best, and a training that went on would repeat the rest.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(
            trainer
        ):  # else the best are chosen there, and the last comes after
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (_midway(trainer) or trainer.fast_dev_run):  # type: ignore[attr-defined]
            super().on_train_epoch_end(trainer, pl_module)
            self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):  # it does where this step's weights are saved
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (_midway(trainer) or trainer.fast_dev_run):  # type: ignore[attr-defined]
            super().on_train_end(trainer, pl_module)


def _midway(trainer: Any) -> bool:
    return any(getattr(callback, "midway", False) for callback in trainer.callbacks)


def best_checkpoints(trainer: Trainer) -> list[Path]:
    """The checkpoints that the run kept, best first."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.best_k_models and callback.monitor:
            worst_first = callback.mode == "max"
            order = sorted(callback.best_k_models.items(), key=lambda item: float(item[1]), reverse=worst_first)
            return [Path(path) for path, _ in order if Path(path).is_file()]
    return []


def average_checkpoints(paths: list[Path]) -> dict[str, torch.Tensor]:
    """Mean of the network's weights over Lightning checkpoints, adapters merged; integer buffers are the first's."""
    total: dict[str, torch.Tensor] = {}
    for path in paths:
        state = network_state(torch.load(path, map_location="cpu", weights_only=True))
        if not total:
            total = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
        else:
            total = {k: v + state[k].double() if v.is_floating_point() else v for k, v in total.items()}
    return {k: (v / len(paths)).float() if v.is_floating_point() else v for k, v in total.items()}
