"""Where the work runs, and in which precision: short options on top of Lightning's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from parlab.errors import UserError

TF32 = "tf32"  # our name: float32 weights whose products CUDA may round
_TRUE_PRECISIONS = {"16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64}


def device_for(name: str | None) -> torch.device:
    """The device of that name, or the best there is.

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


def default_workers(device: torch.device, processes: int = 1) -> int:
    """Processes that load audio where none are asked for, for each of ``processes`` on this machine.

    A core decodes FLAC at about 1700 and Opus at about 140 times real time, which a GPU outruns; a CPU does not.
    """
    cores = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) // processes
    if device.type == "cpu":
        return 1 if cores >= 4 else 0
    return max(min(8, cores - 1), 0)


def weights_dtype(precision: Any) -> torch.dtype | None:
    """The type of encoder and decoder for a precision ``...-true`` other than 32; None leaves the weights alone.

    Lightning would convert the whole module, but the front end's logarithms stay float32 (``HybridModel.to_device``).
    """
    return _TRUE_PRECISIONS.get(str(precision))


def set_tf32(allowed: bool) -> None:
    """Let CUDA round the operands of float32 products to TF32 (10 bits of mantissa) or not, convolutions included.

    torch's own defaults allow it in convolutions only. It has no effect on a CPU.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def precision_for_decoding(precision: Any) -> Any:
    """The precision that decoding uses for the one that was asked for: ``bf16-true`` for ``bf16-mixed``, with a word.

    Under autocast every weight would be converted anew at every step of a search.
    """
    if str(precision) not in ("bf16-mixed", "bf16"):
        return precision
    print(
        f"precision {precision} is for training: it would convert every weight at every step of a search; bf16-true is used",
        file=sys.stderr,
    )
    return "bf16-true"


def warn_of_slow_bfloat16(
    device: torch.device, dtype: torch.dtype | None, cpuinfo: Path = Path("/proc/cpuinfo")
) -> None:
    """Say so where bfloat16 was asked for on an x86 processor that has no instruction for its products.

    Args:
        cpuinfo: Linux's description of the processors; where there is none, nothing is said.
    """
    if device.type != "cpu" or dtype != torch.bfloat16 or not cpuinfo.is_file():
        return
    text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    if flags and not {"avx512_bf16", "amx_bf16"} & set(flags):
        print(
            "this processor has no bfloat16 products (avx512_bf16, amx_bf16): decoding in bfloat16 takes several times as long as in "
            "float32 here; leave --precision out for float32",
            file=sys.stderr,
        )


def started_by_torchrun(option: str, asked: Any, unasked: Sequence[Any]) -> int | None:
    """Processes that torchrun started on this node; None without it. Each would take itself for the only one otherwise.

    Args:
        option: name of the option that says how many devices there are; ``asked`` is its value.
        unasked: values that leave the number to torchrun.

    Raises:
        UserError: another number of devices was asked for.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    started = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if asked != started and asked not in unasked:
        raise UserError(
            f"{option} is {asked}, but torchrun started {started} processes, expected as many; leave {option} out"
        )
    return started


def several_devices(settings: Mapping[str, Any]) -> bool:
    """Whether the Trainer's options name more than one device; ``auto`` is left to Lightning."""
    devices = settings["devices"]
    count = len(devices) if isinstance(devices, list) else devices
    return settings.get("num_nodes", 1) > 1 or (isinstance(count, int) and count > 1)


@dataclass(frozen=True)
class TrainerOptions:
    """What decides where a prediction runs.

    Attributes:
        given: options of Lightning's Trainer.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; goes before the Trainer's; None or ``auto`` is the best.
        precision: likewise, ``bf16-true``, ...
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    precision: str | None = None

    def settings(self) -> dict[str, Any]:
        """The Trainer's arguments, the precision as it was asked for.

        Raises:
            UserError: there is no such device, or torchrun started another number of processes.
        """
        from lightning.pytorch.strategies import DDPStrategy

        settings: dict[str, Any] = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "devices": 1,
            **{k: v for k, v in self.given.items() if k not in {"callbacks", "enable_progress_bar"}},
            "use_distributed_sampler": False,  # our batches are shared out already
        }
        if self.device not in (None, "auto"):
            device = device_for(self.device)
            settings["accelerator"] = device.type
            if device.index is not None:
                settings["devices"] = [device.index]
        started = started_by_torchrun("trainer.devices", settings["devices"], (1, "auto"))
        if started is not None:
            settings["devices"] = started
            settings["num_nodes"] = int(os.environ.get("WORLD_SIZE", started)) // started
        if several_devices(settings) and settings.get("strategy", "auto") == "auto":
            settings["strategy"] = _patient_ddp(DDPStrategy)
        settings["precision"] = self.precision or settings.get("precision")
        return settings


def make_trainer(options: TrainerOptions, callbacks: list[Any], progress: bool) -> tuple[Any, str]:
    """Lightning's Trainer for a prediction, and the name of the precision.

    Raises:
        UserError: the options do not fit this machine.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer

    settings = options.settings()
    wanted = precision_for_decoding(settings["precision"])
    set_tf32(wanted == TF32)
    own_weights = wanted == TF32 or weights_dtype(wanted) is not None
    settings["precision"] = "32-true" if own_weights else wanted
    try:
        trainer = Trainer(**settings, callbacks=callbacks, enable_progress_bar=progress)
    except (MisconfigurationException, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the trainer's options do not fit this machine ({reason[:200]}); correct them") from error
    warn_of_slow_bfloat16(trainer.strategy.root_device, weights_dtype(wanted))
    return trainer, str(wanted if own_weights else trainer.precision)


def make_fabric(accelerator: str, devices: int | None) -> Any:
    """Lightning's Fabric for a sweep, not launched yet; the processes that torchrun started share the points.

    Raises:
        UserError: torchrun started another number of processes than ``devices``.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    started = started_by_torchrun("--devices", devices, (None,))
    count = devices or started or 1
    set_tf32(False)
    strategy = _patient_ddp(DDPStrategy) if count > 1 else "auto"
    try:
        return Fabric(accelerator=accelerator, devices=count, strategy=strategy)
    except (MisconfigurationException, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the accelerator '{accelerator}' does not fit this machine ({reason[:200]}); correct it"
        ) from error


def _patient_ddp(strategy: type) -> Any:
    """DDP whose processes wait for each other: one whose share is done would give up after half an hour."""
    return strategy(timeout=timedelta(days=30))
