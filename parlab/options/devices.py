"""Where a prediction runs, and in which precision: short options on top of Lightning's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch

from parlab.errors import UserError

# Lightning would convert the whole module; the front end's logarithms need float32 (HybridModel.to_device).
_WHOLE = {"16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64}


def device_for(name: str | None) -> torch.device:
    """The device asked for, or the best there is.

    Raises:
        UserError: there is no such device here.
    """
    try:
        wanted = torch.device(name) if name else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    except RuntimeError as error:
        raise UserError(f"the device is '{name}', expected 'cpu', 'cuda' or 'cuda:N'; correct it") from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"the device is {wanted}, but {torch.cuda.device_count()} CUDA devices are available here; use device='cpu'"
        )
    return wanted


def started_by_torchrun() -> int | None:
    """Processes that torchrun started on this node; None without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else None


def share_with_torchrun(settings: dict[str, Any]) -> None:
    """Make the Trainer's devices those that torchrun started; each process would take itself for the only one otherwise.

    Raises:
        UserError: another number of devices was asked for.
    """
    started, asked = started_by_torchrun(), settings["devices"]
    if started is None:
        return
    if asked not in (1, "auto", started):
        raise UserError(
            f"trainer.devices is {asked}, but torchrun started {started} processes, expected as many; leave it out"
        )
    settings["devices"] = started
    settings["num_nodes"] = int(os.environ.get("WORLD_SIZE", started)) // started


def several_devices(settings: Mapping[str, Any]) -> bool:
    """Whether the Trainer's options name more than one device; ``auto`` is left to Lightning."""
    devices = settings["devices"]
    count = len(devices) if isinstance(devices, list) else devices
    return settings.get("num_nodes", 1) > 1 or (isinstance(count, int) and count > 1)


def half_of(precision: Any) -> torch.dtype | None:
    """The type of the weights for a precision such as ``bf16-true``; None leaves it to Lightning."""
    return _WHOLE.get(str(precision))


def make_trainer(
    given: Mapping[str, Any], device: str | None, precision: str | None, callbacks: list[Any], progress: bool
) -> tuple[Any, str]:
    """Lightning's Trainer for a prediction, and the name of the precision.

    Args:
        given: options of the Trainer; ``device`` (``cpu``, ``cuda``, ``cuda:1``, ...) and ``precision`` go first.

    Raises:
        UserError: the options do not fit this machine.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer
    from lightning.pytorch.strategies import DDPStrategy

    settings: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "devices": 1,
        **{k: v for k, v in given.items() if k not in {"callbacks", "enable_progress_bar"}},
        "use_distributed_sampler": False,  # our batches are shared out already
    }
    if device not in (None, "auto"):
        place = device_for(device)
        settings["accelerator"] = place.type
        if place.index is not None:
            settings["devices"] = [place.index]
    share_with_torchrun(settings)
    if several_devices(settings) and settings.get("strategy", "auto") == "auto":
        # A process whose share is done would give up after half an hour of waiting for the others.
        settings["strategy"] = DDPStrategy(timeout=timedelta(days=30))
    wanted = precision or settings.get("precision")
    settings["precision"] = "32-true" if half_of(wanted) else wanted
    try:
        trainer = Trainer(**settings, callbacks=callbacks, enable_progress_bar=progress)
    except (MisconfigurationException, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"the trainer's options do not fit this machine ({said[:200]}); correct them") from error
    return trainer, str(wanted if half_of(wanted) else trainer.precision)
