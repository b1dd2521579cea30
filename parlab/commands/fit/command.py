"""``fit`` and ``validate``: LightningCLI around ``ASRModule`` and ``ASRData``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from parlab.commands.fit.callbacks import BestCheckpoints, CleanStop, EpochLine, ExportModel
from parlab.options.compose import expand
from parlab.options.libraries import quiet_libraries
from parlab.options.parser import Parser
from parlab.tracking.runs import MODES, RunOptions, resolve_mode, start_run

NO_EARLY_STOPPING = 1_000_000


class FitParser(Parser, LightningArgumentParser):
    """Lightning's parser, which adds its classes, with our errors."""


class FitCLI(LightningCLI):
    """The command line; the run folder is ``trainer.default_root_dir``, and everything is written below it."""

    command = "fit"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="checkpoint to go on from; 'last'")
        parser.add_argument("--wandb", type=str, default="auto", help=f"W&B: {', '.join(MODES)}")
        parser.add_argument("--project", type=str, default="parlab", help="W&B project")
        parser.set_defaults(
            {
                "trainer.default_root_dir": f"runs/{self.command}",
                "trainer.devices": 1,
                "trainer.enable_model_summary": False,
                "trainer.use_distributed_sampler": False,  # the samplers share out their batches themselves
            }
        )
        if self.command != "fit":
            return
        parser.set_defaults({"trainer.gradient_clip_val": 5.0, "trainer.num_sanity_val_steps": 0})
        parser.add_lightning_class_args(BestCheckpoints, "checkpoint")
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=checkpoint_folder)
        parser.set_defaults(
            {
                "checkpoint.filename": "epoch{epoch:03d}-step{step:06d}",
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.enable_version_counter": False,
                "checkpoint.monitor": "dev/wer",
                "checkpoint.save_top_k": 5,
                "checkpoint.save_last": True,
            }
        )
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(
            {
                "early_stopping.monitor": "dev/wer",
                "early_stopping.patience": NO_EARLY_STOPPING,
                "early_stopping.strict": False,
                "early_stopping.check_finite": False,
            }
        )
        parser.add_lightning_class_args(ExportModel, "export")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        chosen = self.config_init.trainer
        callbacks = list(chosen.callbacks or [])
        if chosen.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(RichProgressBar())
        if self.command == "fit":
            callbacks += [CleanStop(), EpochLine()]
        logger = chosen.logger
        if logger in (None, True):
            logger = self._loggers(Path(chosen.default_root_dir)) if self.command == "fit" else False
        return super().instantiate_trainer(callbacks=callbacks, logger=logger, **kwargs)

    def _loggers(self, folder: Path) -> list[Any]:
        """A CSV file always, W&B unless it is switched off."""
        loggers: list[Any] = [CSVLogger(folder, name="logs", flush_logs_every_n_steps=1)]
        if resolve_mode(self.config.wandb) != "off":
            folder.mkdir(parents=True, exist_ok=True)
            run: Any = None  # the other ranks log nothing
            if not getattr(rank_zero_only, "rank", 0):
                options = RunOptions(self.config.wandb, self.config.project, folder)
                run = start_run(options, job_type="fit", name=folder.name)
            loggers.append(WandbLogger(experiment=run, save_dir=folder, project=self.config.project))
            for name in ("dev/wer", "dev/cer", "dev/loss") if run is not None else ():
                run.define_metric(name, step_metric="trainer/global_step", summary="min")
        return loggers


class ValidateCLI(FitCLI):
    """The options of ``validate``: those of ``fit`` without what only a training needs."""

    command = "validate"


def checkpoint_folder(run_folder: str) -> str:
    """The folder of a run's checkpoints."""
    return str(Path(run_folder) / "checkpoints")


class SaveRunConfig(SaveConfigCallback):
    """Write the resolved configuration into the run folder and to the loggers."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or not trainer.is_global_zero or self.already_saved:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, str(folder / "fit.yaml"), skip_none=False, overwrite=True)
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config.as_dict())
        self.already_saved = True


def fit(argv: Sequence[str]) -> int:
    """Train or fine-tune; 0, or 128 + the signal that ended it early."""
    cli = make_cli(FitCLI, argv)
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    finally:
        for logger in cli.trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()
    callbacks: list[Any] = cli.trainer.callbacks  # type: ignore[attr-defined]
    stopped = next((c.signum for c in callbacks if isinstance(c, CleanStop)), 0)
    return 128 + stopped if stopped else 0


def validate(argv: Sequence[str]) -> int:
    """Losses and greedy WER on the development data."""
    cli = make_cli(ValidateCLI, argv)
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    return 0


def make_cli(kind: type[FitCLI], argv: Sequence[str]) -> FitCLI:
    """Parse and instantiate, without running."""
    from parlab.commands.fit.datamodule import ASRData
    from parlab.commands.fit.module import ASRModule

    quiet_libraries()
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    before, sys.argv = sys.argv, sys.argv[:1]  # LightningCLI warns of arguments that it was not given by the shell
    try:
        return kind(
            ASRModule,
            ASRData,
            args=expand(argv),
            run=False,
            parser_class=FitParser,
            parser_kwargs={
                "parser_mode": "omegaconf+",
                "prog": f"python -m parlab {kind.command}",
                "allow_abbrev": False,
            },
            save_config_callback=SaveRunConfig,
            auto_configure_optimizers=False,
            seed_everything_default=1,
        )
    finally:
        sys.argv = before
