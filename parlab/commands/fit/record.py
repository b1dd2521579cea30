"""What a training leaves besides its weights: the configuration in its folder, and a W&B run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from parlab.commands.fit.resume import CONFIG, FINISHED, write_whole
from parlab.tracking.connection import never_fatal
from parlab.tracking.runs import RunOptions, finish_run, resolve_mode, start_run

_ONCE = {"fresh": False, "ckpt_path": None, "dry_run": False}  # for one start alone: the file may be run again


class SaveRunConfig(SaveConfigCallback):
    """Write the resolved configuration into the run folder and to the loggers, once the network is built.

    W&B starts here, so that a wrong option or wrong data leaves no run behind.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or self.already_saved:
            return
        pl_module.setup(stage)  # of all ranks: what is wrong with the network is found here
        folder = Path(trainer.default_root_dir)
        if trainer.is_global_zero:
            recorded = self.config.clone()
            for name, value in _ONCE.items():
                recorded[name] = value
            write_whole(folder / CONFIG, self.parser.dump(recorded, skip_none=False))
            (folder / FINISHED).unlink(missing_ok=True)
        if self.config.trainer.logger in (None, True) and resolve_mode(self.config.wandb) != "off":
            trainer.loggers = [*trainer.loggers, *_wandb(self.config, folder, trainer.is_global_zero)]
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_hyperparams(self.config.as_dict())
        self.already_saved = True


def _wandb(config: Any, folder: Path, first: bool) -> list[HarmlessWandb]:
    """The logger; none where W&B does not start."""
    run: Any = None  # the other ranks log nothing
    if first:
        run = start_run(RunOptions(config.wandb, config.project, folder), job_type="fit", name=folder.name)
        if run is None:
            return []
        for name in ("dev/wer", "dev/cer", "dev/loss"):
            run.define_metric(name, step_metric="trainer/global_step", summary="min")
    return [HarmlessWandb(experiment=run, save_dir=folder, project=config.project)]


class HarmlessWandb(WandbLogger):
    """Lightning's logger, whose first error is a warning, and which is silent after it."""

    failed = False

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._try(super().log_metrics, metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        self._try(super().log_hyperparams, params)

    def _try(self, call: Any, *arguments: Any) -> None:
        if self.failed:
            return
        self.failed = True
        with never_fatal("the training goes on without it, its figures are in logs/"):
            call(*arguments)
            self.failed = False


def finish_wandb(trainer: Trainer) -> None:
    """End the W&B run, if there is one."""
    for logger in trainer.loggers:
        if isinstance(logger, HarmlessWandb) and trainer.is_global_zero:
            with never_fatal("the figures of the training are in logs/"):
                finish_run(logger.experiment)
