"""Optimiser, learning-rate schedule, freezing and learning rates by pattern, seeds."""

from __future__ import annotations

import fnmatch
import logging
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from parlab.errors import UserError, nearest

log = logging.getLogger(__name__)

DECAYS = ("inverse_sqrt", "cosine", "linear", "constant")


@dataclass(frozen=True)
class Optimization:
    """AdamW with warm-up.

    Attributes:
        lr: peak learning rate.
        weight_decay: on matrices only, not on biases and norms.
        betas: of AdamW.
        warmup_steps: linear warm-up, in optimiser steps.
        decay: after the warm-up ``inverse_sqrt`` (of steps), ``cosine`` or ``linear`` to ``final`` of the peak, or
            ``constant``.
        schedule: range of ``cosine`` and ``linear``: ``time`` (the share of ``trainer.max_time`` that has
            passed), ``steps`` (of ``max_steps`` or ``max_epochs``), or ``auto`` (time where there is a limit of time).
        final: share of the peak that is left at the end of ``cosine`` and ``linear``.
        freeze: patterns of parameter names that are not trained, as ``encoder.embed.*``.
        lr_scale: pattern to factor of the learning rate; the first that matches counts.
        nonfinite_limit: batches with a loss that is not finite after which the training stops.
    """

    lr: float = 1e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 1000
    decay: str = "cosine"
    schedule: str = "auto"
    final: float = 0.02
    freeze: Sequence[str] = ()
    lr_scale: Mapping[str, float] | None = None
    nonfinite_limit: int = 50

    def __post_init__(self) -> None:
        _one_of("decay", self.decay, DECAYS)
        _one_of("schedule", self.schedule, ("auto", "steps", "time"))
        if not self.lr > 0:
            raise UserError(f"the learning rate is {self.lr}, expected more than 0; set model.optim.lr")

    def factor(self, step: int, progress: float) -> float:
        """Share of the peak at ``step`` (from 0), with ``progress`` (0 to 1) of the training done."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.decay == "inverse_sqrt":
            return warm * min(1.0, math.sqrt(max(1, self.warmup_steps) / (step + 1)))
        if self.decay == "cosine":
            return warm * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        if self.decay == "linear":
            return warm * (1 - (1 - self.final) * min(1.0, progress))
        return warm


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"the {name} is '{value}', expected one of {', '.join(known)}{nearest(value, known)}")


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Parameter names that match a pattern.

    Raises:
        UserError: none does.
    """
    found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise UserError(
            f"the pattern '{pattern}' matches no parameter{nearest(pattern, names)}; write it as 'encoder.encoders.0.*'"
        )
    return found


def freeze(net: nn.Module, patterns: Sequence[str]) -> None:
    """Take parameters out of training. Must come before DDP wraps the network.

    Raises:
        UserError: a pattern matches nothing, or nothing is left to train.
    """
    parameters = dict(net.named_parameters())
    for pattern in patterns:
        for name in matching(pattern, list(parameters)):
            parameters[name].requires_grad_(False)
    if not any(p.requires_grad for p in parameters.values()):
        raise UserError(f"the patterns {list(patterns)} freeze every parameter, expected some to train; freeze fewer")


def thaw(net: nn.Module, patterns: Sequence[str]) -> None:
    """Train parameters that were taken out.

    Raises:
        UserError: a pattern matches nothing.
    """
    parameters = dict(net.named_parameters())
    for pattern in patterns:
        for name in matching(pattern, list(parameters)):
            parameters[name].requires_grad_(True)


def make_optimizer(net: nn.Module, options: Optimization) -> torch.optim.AdamW:
    """AdamW over the parameters that are not frozen, grouped by learning rate and weight decay.

    Each group's ``scale`` multiplies the scheduled learning rate.
    """
    names = [name for name, _ in net.named_parameters()]
    scales: dict[str, float] = {}
    for pattern, scale in (options.lr_scale or {}).items():
        for name in matching(pattern, names):
            scales.setdefault(name, float(scale))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            key = (scales.get(name, 1.0), options.weight_decay if parameter.dim() > 1 else 0.0)
            groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": options.lr * scale, "weight_decay": decay, "scale": scale}
            for (scale, decay), parameters in groups.items()
        ],
        lr=options.lr,
        betas=(float(options.betas[0]), float(options.betas[1])),
    )


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
        nonfinite: batches that were skipped.
    """

    def __init__(self, optim: Optimization):
        super().__init__()
        self.optim = optim
        self.nonfinite = 0
        self._good_batches = 0  # since the last optimiser step

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
