"""A network in training by an ``Optimization``: rates, seeds, batches that are not finite, what a checkpoint knows of them."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from parlab.commands.fit.optim import Optimization, make_optimizer
from parlab.commands.fit.resume import DEVICES_KEY, check_devices
from parlab.errors import UserError

log = logging.getLogger(__name__)


def seed_batch(epoch: int, index: int, rank: int) -> None:
    """Seed dropout and SpecAugment by the position in the training alone.

    A run that was interrupted goes on exactly as an unbroken one, on any number of ranks.
    """
    position = (int(os.environ.get("PL_GLOBAL_SEED", 0)), epoch, index, rank)
    seed = int(np.random.SeedSequence(position).generate_state(1)[0])
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (ESPnet's SpecAugment uses the global generator)
    random.seed(seed)


class OptimizedModule(LightningModule):
    """A network in training by an ``Optimization``: learning rates, batches that are not finite, sums over ranks.

    Attributes:
        net: what is trained; None until it is made in ``setup``.
        nonfinite: batches that were skipped.
    """

    net: Any

    def __init__(self, optim: Optimization):
        super().__init__()
        self.optim = optim
        self.nonfinite = 0
        self._good_batches = 0  # since the last optimiser step
        self._window = (0.0, 0.0)  # seconds spent in training, seconds of audio, since the last log
        self._mark = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.net, self.optim)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["parlab_nonfinite"] = self.nonfinite
        checkpoint[DEVICES_KEY] = self.trainer.world_size

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        self.nonfinite = int(checkpoint.get("parlab_nonfinite", 0))
        if self.trainer.training:
            check_devices(checkpoint, self.trainer.world_size)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._mark = time.monotonic()
        seed_batch(self.current_epoch, batch_idx, self.global_rank)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        seconds, audio = self._window if batch_idx % 50 else (0.0, 0.0)
        self._window = (seconds + time.monotonic() - self._mark, audio + batch.seconds)

    def log_step(self, loss: Tensor, rate: float) -> None:
        """Log a step's learning rate, its throughput, and its loss for the progress bar."""
        self.log("train/lr", rate)
        if self._window[0] > 0:  # audio per second of training, loading left out
            self.log("train/audio_seconds_per_second", self._window[1] / self._window[0] * self.trainer.world_size)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)

    def no_loss(self) -> Tensor:
        """The loss of a skipped step: every rank must take part in the backward pass, with every parameter."""
        return torch.stack([p.sum() for p in self.net.parameters() if p.requires_grad]).sum() * 0.0

    def progress(self) -> float:
        """Share of the training done: of its time budget or of its steps, the same on every rank."""
        from lightning.pytorch.callbacks import Timer

        timers = [c for c in self.trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
        for timer in timers if self.optim.schedule != "steps" else []:
            remaining = timer.time_remaining()
            if remaining is not None:
                elapsed = timer.time_elapsed()
                share = torch.tensor(elapsed / max(elapsed + remaining, 1e-9), device=self.device)
                return float(self._over_ranks(share, "mean"))  # clocks differ; learning rates must not
        if self.optim.schedule == "time":
            raise UserError("model.optim.schedule is 'time' but there is no limit of time; set trainer.max_time")
        total = self.trainer.estimated_stepping_batches
        return self.global_step / total if total not in (float("inf"), -1) else 0.0

    def set_rates(self) -> float:
        """Set the learning rates of this step; return the one whose scale is 1."""
        factor = self.optim.factor(self.global_step, self.progress())
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.optim.lr * group["scale"] * factor
        return self.optim.lr * factor

    def _over_ranks(self, value: Tensor, operation: str) -> Tensor:
        if self.trainer.world_size == 1:
            return value
        return self.trainer.strategy.reduce(value, reduce_op=operation)  # type: ignore[return-value]

    def _sum(self, values: Sequence[float]) -> list[float]:
        return self._over_ranks(torch.tensor(values, dtype=torch.float32, device=self.device), "sum").tolist()

    def _count_nonfinite(self) -> None:
        self.nonfinite += 1
        if self.trainer.is_global_zero:
            log.warning("batch skipped: its loss or gradient is not finite (%d so far)", self.nonfinite)
        if self.nonfinite > self.optim.nonfinite_limit:
            raise UserError(
                f"loss or gradient was not finite in {self.nonfinite} batches, expected at most "
                f"{self.optim.nonfinite_limit}; lower the learning rate, or look for broken audio"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # A gradient can overflow though the loss did not. (In 16-mixed, the scaler looks after that, and expects it.)
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        finite = scaled or not gradients or bool(torch.isfinite(torch.stack([g.sum() for g in gradients])).all())
        if not finite:
            self._count_nonfinite()
        if not finite or self._good_batches == 0:
            # Without gradients AdamW leaves weights and moments alone; with zeros it would move them.
            for parameter in self.parameters():
                parameter.grad = None
        self._good_batches = 0
