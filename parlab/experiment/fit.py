"""``fit`` and ``validate``: LightningCLI around ``ASRModule`` and ``ASRData``."""

from __future__ import annotations

import signal
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from parlab.experiment.arguments import Parser, name_decoders, quiet_libraries


class FitCLI(LightningCLI):
    """The run folder is ``trainer.default_root_dir``; ``--ckpt_path last`` resumes."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"trainer.use_distributed_sampler": False})


class SaveRunConfig(SaveConfigCallback):
    """Write the resolved configuration into the run folder."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.config_filename = "fit.yaml"
        self.overwrite = True
        super().setup(trainer, pl_module, stage)


def fit(argv: list[str]) -> int:
    """Train or fine-tune."""
    return run("fit", argv)


def validate(argv: list[str]) -> int:
    """Losses and greedy WER on the development data."""
    return run("validate", argv)


def run(subcommand: str, argv: list[str]) -> int:
    """Run LightningCLI with one of its subcommands."""
    from parlab.experiment.datamodule import ASRData
    from parlab.experiment.module import ASRModule

    def stop(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    quiet_libraries()
    signal.signal(signal.SIGTERM, stop)  # a cluster's warning: end cleanly, model/ is written
    FitCLI(
        ASRModule,
        ASRData,
        args=[subcommand, *name_decoders(argv)],
        save_config_callback=SaveRunConfig,
        parser_class=Parser,
        parser_kwargs={name: {"parser_mode": "omegaconf+"} for name in ("fit", "validate", "test", "predict")},
        auto_configure_optimizers=False,
        seed_everything_default=1,
    )
    return 0
