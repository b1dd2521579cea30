"""Optimiser, learning-rate schedule, freezing and learning rates by pattern, seeds."""

from __future__ import annotations

import fnmatch
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

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
