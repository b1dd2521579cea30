"""``fit`` and ``validate``: LightningCLI around ``ASRModule`` and ``ASRData``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from parlab.commands.fit.callbacks import CleanStop, EpochLine, TrainingBar
from parlab.commands.fit.checkpoints import FILENAME, BestCheckpoints, WholeCheckpoints
from parlab.commands.fit.head.kinds import Kind, kind_of
from parlab.commands.fit.record import SaveRunConfig, finish_wandb
from parlab.commands.fit.resume import Limits, Start, clear, decide, write_finished
from parlab.commands.fit.trainer_options import check_trainer, explained
from parlab.options.compose import expand
from parlab.options.devices import set_tf32
from parlab.options.libraries import quiet_libraries
from parlab.options.parser import Parser
from parlab.tracking.runs import MODES, resolve_mode

NO_EARLY_STOPPING = 1_000_000


class FitParser(Parser, LightningArgumentParser):
    """Lightning's parser, which adds its classes, with our errors."""


class ValidateCLI(LightningCLI):
    """The command line; the run folder is ``trainer.default_root_dir``, and everything is written below it."""

    command = "validate"

    def __init__(self, kind: Kind, **options: Any):
        self.kind = kind
        super().__init__(kind.module, kind.data, **options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="checkpoint to use; fit takes the run folder's last one"
        )
        parser.add_argument(
            "--kind", type=str, default="model", help="what is trained: model, or head (a draft head on a frozen model)"
        )
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

    def before_instantiate_classes(self) -> None:
        resolve_mode(self.config.wandb)
        check_trainer(self.config.trainer, self.command)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        chosen = self.config_init.trainer
        callbacks = list(chosen.callbacks or [])
        if chosen.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(TrainingBar())
        plugins = list(chosen.plugins if isinstance(chosen.plugins, list) else filter(None, [chosen.plugins]))
        if self.command == "fit":
            callbacks += [CleanStop(), EpochLine()]
            if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
                plugins.append(WholeCheckpoints())
        logger = chosen.logger
        if logger in (None, True):  # W&B joins it when everything is known to be right
            logger = CSVLogger(chosen.default_root_dir, name="logs", flush_logs_every_n_steps=1)
            logger = logger if self.command == "fit" else False
        set_tf32(True)  # in 32-true on CUDA; parameters and sums stay float32
        with explained(ValueError, TypeError):
            return super().instantiate_trainer(callbacks=callbacks, logger=logger, plugins=plugins or None, **kwargs)

    def nested(self, config: Any) -> dict[str, Any]:
        """Options as ``fit.yaml`` holds them."""
        return yaml.safe_load(self.parser.dump(config, skip_none=False, skip_check=True))


class FitCLI(ValidateCLI):
    """The command line of ``fit``: that of ``validate``, and what only a training needs."""

    command = "fit"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--fresh", type=bool, default=False, help="start over: remove the run folder's checkpoints and model/"
        )
        parser.add_argument(
            "--dry_run", type=bool, default=False, help="check configuration and data in full, and leave nothing behind"
        )
        parser.set_defaults({"trainer.gradient_clip_val": 5.0, "trainer.num_sanity_val_steps": 0})
        parser.add_lightning_class_args(BestCheckpoints, "checkpoint")
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=checkpoint_folder)
        parser.set_defaults(
            {
                "checkpoint.filename": FILENAME,
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
        parser.add_lightning_class_args(self.kind.export, "export")


def checkpoint_folder(run_folder: str) -> str:
    """The folder of a run's checkpoints."""
    return str(Path(run_folder) / "checkpoints")


def fit(argv: Sequence[str]) -> int:
    """Train or fine-tune, from where an earlier start of the same command ended.

    Returns:
        0, also where nothing is left to do, or 128 + the signal that ended it early; a dry run that found broken files 1.
    """
    cli = make_cli(FitCLI, argv)
    trainer, config, model, data = cli.trainer, cli.config, cli.model, cli.datamodule
    folder, limits = Path(config.trainer.default_root_dir), Limits.of(config.trainer)
    first = not getattr(rank_zero_only, "rank", 0)
    # 1. What the folder says.
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        start = Start(config.ckpt_path)
    else:
        start = decide(folder, cli.nested(config), cli.nested(cli.parser.get_defaults()), limits)
    if start.finished and not config.dry_run:
        if first:
            print(start.finished)
        return 0
    # 2. All data and the model to start from, before anything is written.
    data.check()
    model.read_start()
    if config.dry_run:
        return cli.kind.dry_run(model, data, trainer.world_size)
    if first and config.fresh and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        clear(folder, config.checkpoint.filename)
    # 3. The training.
    if first and start.checkpoint and not config.ckpt_path:
        print(f"goes on from {start.checkpoint}", flush=True)
    try:
        with explained():
            trainer.fit(model, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
    finally:
        finish_wandb(trainer)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if trainer.is_global_zero and (left_out := model.broken.summary()):
        print(left_out, flush=True)
    if stopped := next((c.signum for c in callbacks if isinstance(c, CleanStop)), 0):
        return 128 + stopped
    if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        seconds = max((c.time_elapsed() for c in callbacks if isinstance(c, Timer)), default=0.0)
        write_finished(folder, limits, trainer.current_epoch, trainer.global_step, seconds)
    return 0


def validate(argv: Sequence[str]) -> int:
    """Losses and greedy WER on the development data."""
    cli = make_cli(ValidateCLI, argv)
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    return 0


def make_cli(cli: type[ValidateCLI], argv: Sequence[str]) -> Any:
    """Parse and instantiate, without running."""
    quiet_libraries()
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    before, sys.argv = sys.argv, sys.argv[:1]  # LightningCLI warns of arguments that it was not given by the shell
    try:
        with explained():
            return cli(
                kind_of(argv),
                args=expand(argv),
                run=False,
                parser_class=FitParser,
                parser_kwargs={
                    "parser_mode": "omegaconf+",
                    "prog": f"python -m parlab {cli.command}",
                    "allow_abbrev": False,
                },
                save_config_callback=SaveRunConfig,
                auto_configure_optimizers=False,
                seed_everything_default=1,
            )
    finally:
        sys.argv = before
