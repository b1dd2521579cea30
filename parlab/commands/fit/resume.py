"""Whether a training starts, goes on, or is finished: what its run folder says."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parlab.commands.fit.checkpoints import checkpoint_names, has_checkpoints, is_whole
from parlab.errors import UserError
from parlab.model.families.layouts import layout_of
from parlab.predictions.files import writing

CONFIG, FINISHED = "fit.yaml", "finished.json"
DEVICES_KEY = "parlab_world_size"  # of a checkpoint
# Options that change neither the data nor the updates, and those by which a training is extended.
_FREE_GROUPS = ("wandb", "project", "ckpt_path", "fresh", "dry_run", "config", "export")
_FREE = frozenset(
    [f"data.{name}" for name in ("workers", "broken")]
    + [
        f"trainer.{name}"
        for name in (
            "accelerator devices num_nodes strategy default_root_dir max_epochs max_steps max_time min_epochs min_steps "
            "enable_progress_bar enable_model_summary logger log_every_n_steps num_sanity_val_steps profiler plugins "
            "detect_anomaly benchmark inference_mode"
        ).split()
    ]
)
_MODEL_FILES = ("config.yaml", "model.pth", "feats_stats.npz", "bpe.model")
_HEAD_FILES = ("head.yaml", "head.safetensors", "tokens.txt", "bpe.model", "README.md")
_TOKENIZER_FILES = ("tokens.txt", "bpe.model", "bpe.vocab", "options.json")


@dataclass(frozen=True)
class Limits:
    """Where a training ends; None or a negative number is no limit. ``seconds`` add up over restarts."""

    epochs: int | None
    steps: int | None
    seconds: float | None

    @staticmethod
    def of(trainer: Any) -> Limits:
        """The limits among the Trainer's options."""
        from lightning.pytorch.callbacks import Timer

        budget = None if trainer.max_time is None else Timer(trainer.max_time).time_remaining()
        return Limits(trainer.max_epochs, trainer.max_steps, budget)

    def reached(self, epochs: int, steps: int, seconds: float) -> bool:
        """Whether a training that has done so much is at an end."""
        pairs = ((self.epochs, epochs), (self.steps, steps), (self.seconds, seconds))
        return any(limit is not None and limit >= 0 and done >= limit for limit, done in pairs)


@dataclass(frozen=True)
class Start:
    """What a command does with its run folder.

    Attributes:
        checkpoint: from which the training goes on; None starts at step 0.
        finished: what there is to say where nothing is left to do.
    """

    checkpoint: str | None = None
    finished: str | None = None


def decide(folder: Path, config: Mapping[str, Any], defaults: Mapping[str, Any], limits: Limits) -> Start:
    """Read a run folder. Every rank finds the same: the first one writes only when all have come here.

    Args:
        config: the resolved options of this command, and ``defaults`` those of the parser, nested.

    Raises:
        UserError: the folder is one of another configuration, or none of its checkpoints can be read.
    """
    checkpoints = folder / "checkpoints"
    if config["fresh"] and config["ckpt_path"]:
        inside = checkpoints.resolve() in Path(config["ckpt_path"]).resolve().parents
        if inside or config["ckpt_path"] == "last":
            raise UserError(
                f"--ckpt_path {config['ckpt_path']} is one of the checkpoints that --fresh true removes, expected one of "
                "another folder; leave one of the two options out"
            )
    if config["fresh"] or not (
        has_checkpoints(checkpoints) or any((folder / name).exists() for name in ("model", "head"))
    ):
        return Start(config["ckpt_path"])
    check_config(folder, config, defaults)
    if config["ckpt_path"]:
        return Start(config["ckpt_path"])
    if (finished := _finished(folder, limits)) is not None:
        return Start(finished=finished)
    return Start(newest_checkpoint(checkpoints))


def check_config(folder: Path, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Compare the options with those that are recorded in the run folder.

    Raises:
        UserError: none are, or one differs that may not.
    """
    remedy = "name another trainer.default_root_dir, or start over with --fresh true"
    try:
        recorded = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        recorded = None
    if not isinstance(recorded, dict):
        raise UserError(
            f"the folder {folder} holds checkpoints or a model, but no {CONFIG} that says of which training, expected one "
            f"of this training; {remedy}"
        )
    found = first_difference(config, recorded, defaults)
    if found is not None:
        raise UserError(
            f"the folder {folder} holds a training of another configuration: {found}, expected the same; {remedy}"
        )


def first_difference(config: Mapping[str, Any], recorded: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
    """The first option that differs, with both values; an option that the record lacks had its default."""
    new, old, default = _flat(config), _flat(recorded), _flat(defaults)
    for name in dict.fromkeys([*new, *old]):
        if name in _FREE or name.split(".")[0] in _FREE_GROUPS:
            continue
        before, now = (values.get(name, default.get(name)) for values in (old, new))
        if before != now:
            return f"{name} is {now!r} and was {before!r}"
    return None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as ``a.b`` keys; an empty mapping has none."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= _flat(entry, f"{prefix}.{key}" if prefix else str(key))
    return flat


def newest_checkpoint(folder: Path) -> str | None:
    """``last.ckpt``, or the newest other one where it is damaged, which is said on stderr; None where there is none.

    Raises:
        UserError: there are some, and none can be read.
    """
    last = folder / "last.ckpt"
    others = sorted(folder.glob("*.ckpt"), key=lambda p: (p != last, -p.stat().st_mtime_ns, p.name))
    damaged: list[str] = []
    for path in others:
        if is_whole(path):
            if damaged:
                print(
                    f"warning: {', '.join(damaged)} cannot be read; the training goes on from {path}", file=sys.stderr
                )
            return str(path)
        damaged.append(path.name)
    if damaged:
        raise UserError(
            f"no checkpoint in {folder} can be gone on from ({', '.join(damaged[:3])}), expected one with weights and the "
            "optimiser's state; start over with --fresh true"
        )
    return None


def check_devices(checkpoint: Mapping[str, Any], devices: int) -> None:
    """Refuse to go on in the middle of an epoch whose batches were dealt to another number of devices.

    Raises:
        UserError: naming both numbers.
    """
    before = checkpoint.get(DEVICES_KEY, devices)
    if before != devices and not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        raise UserError(
            f"the checkpoint was written in the middle of an epoch on {before} devices, and there are {devices}, to which "
            "the rest of the epoch cannot be dealt; use as many, or name an earlier --ckpt_path"
        )


def write_finished(folder: Path, limits: Limits, epochs: int, steps: int, seconds: float) -> None:
    """Record that a training came to its end."""
    entry = {"epochs": epochs, "steps": steps, "seconds": seconds, "limits": vars(limits)}
    write_whole(folder / FINISHED, json.dumps(entry, indent=2) + "\n")


def _finished(folder: Path, limits: Limits) -> str | None:
    try:
        entry = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
        done = (int(entry["epochs"]), int(entry["steps"]), float(entry["seconds"]))
        same = entry["limits"] == vars(limits)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not same and not limits.reached(*done):
        return None
    return (
        f"the training in {folder} is finished (epoch {done[0]}, step {done[1]}); raise trainer.max_epochs, max_steps or "
        "max_time to go on, or start over with --fresh true"
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def clear(folder: Path, filename: str | None) -> None:
    """Remove what an earlier ``fit`` wrote into its folder: checkpoints, model, tokenizer, and that it was finished.

    Logs stay, and so does every file that no ``fit`` writes.

    Args:
        filename: pattern of the checkpoints' names.
    """
    checkpoints = folder / "checkpoints"
    _remove(checkpoints, [path.name for name in checkpoint_names(filename) for path in checkpoints.glob(name)])
    layout = layout_of(folder / "model")  # where it is another family's than ESPnet's
    own = layout.writing.files(folder / "model") if layout is not None and layout.writing is not None else []
    _remove(folder / "model", [*_MODEL_FILES, *(path.name for path in own)])
    _remove(folder / "head", _HEAD_FILES)
    _remove(folder / "tokenizer", _TOKENIZER_FILES)
    for name in (CONFIG, FINISHED):
        (folder / name).unlink(missing_ok=True)


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
