"""Callbacks of a training: averaging and export of the weights, a clean stop, EMA, a line per epoch, the progress bar."""

from __future__ import annotations

import shutil
import signal
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, RichProgressBar, Timer

from parlab.commands.fit.checkpoints import average_checkpoints, best_checkpoints
from parlab.model.families.blocks.model import BlockModel
from parlab.model.families.blocks.origin import Origin
from parlab.model.families.weights import load_weights
from parlab.model.folder import write_model
from parlab.model.lora import without_lora

_DRAFTS = ("dev/ece", "dev/masked_0.9", "dev/masked_error_0.9", "dev/kept_error_0.9", "dev/par_wer")


class ExportAtEnd(Callback):
    """Write what was trained at the end of a training, also of an interrupted one."""

    def export(self, trainer: Trainer, pl_module: Any) -> None:
        """Write it into the run folder (rank 0 only)."""
        raise NotImplementedError

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.export(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            self.export(trainer, pl_module)


def move_into(made: Path, folder: Path, last: str) -> None:
    """Move the files of a folder into another, ``last`` after all others: a kill leaves each old or new, and none in part."""
    folder.mkdir(exist_ok=True)
    for file in sorted(made.iterdir(), key=lambda path: path.name == last):
        file.replace(folder / file.name)
    shutil.rmtree(made)


class ExportModel(ExportAtEnd):
    """At the end of a training write ``model/`` into the run folder.

    Args:
        average: average the weights of so many of the best checkpoints (those that ``ModelCheckpoint`` kept); 0
            writes the weights as they are.
        half: store float16.
    """

    def __init__(self, average: int = 5, half: bool = False):
        self.average, self.half = average, half

    def export(self, trainer: Trainer, pl_module: Any) -> None:
        """Write ``model/`` (rank 0 only)."""
        if not trainer.is_global_zero or pl_module.net is None or getattr(trainer, "fast_dev_run", False):
            return
        best = best_checkpoints(trainer)[: self.average] if self.average else []
        net = without_lora(pl_module.net)
        if best:
            load_weights(net, average_checkpoints(best), best[0])
        folder = Path(trainer.default_root_dir) / "model"
        made = write_model(net, pl_module.tokenizer, folder.with_name("model.partial"), self.half)
        last = net.source.weights if isinstance(net, BlockModel) and isinstance(net.source, Origin) else "config.yaml"
        move_into(made, folder, last)
        names = ", ".join(path.stem for path in best)
        print(f"wrote {folder} ({f'average of {names}' if best else 'the last weights'})", flush=True)


class CleanStop(Callback):
    """End a training in order at SIGTERM or Ctrl-C, and leave a ``last.ckpt`` from which it goes on exactly.

    The batch at hand is finished, ``last.ckpt`` is written, the validation is left out (a cluster kills soon), and
    the training ends as usual. A second signal ends it at once. ``last.ckpt`` is also written when ``max_steps`` ends
    a training in the middle of an epoch.

    Attributes:
        signum: the signal that ended the training, or 0.
        midway: whether the training ended in the middle of an epoch, with its ``last.ckpt`` written.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.midway = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning's own handler for SIGTERM ends without writing the model.
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._before[signum] = signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise KeyboardInterrupt
        self.signum = signum

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        asked = trainer.strategy.reduce_boolean_decision(self.signum != 0, all=False)
        if asked and not trainer.should_stop:
            trainer.limit_val_batches = 0  # no validation on the way out
            trainer.should_stop = True
        ended = trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps
        if (asked or ended) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt", weights_only=False)
            self.midway = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


class EMA(EMAWeightAveraging):
    """Exponential moving average of the weights: validated, stored in checkpoints, and what the training ends with.

    Args:
        decay: share of the old average that a step keeps.
        start_step: first step that is averaged; before it the average is the weights themselves.
    """

    def __init__(self, decay: float = 0.999, start_step: int = 0):
        super().__init__(decay=decay, update_starting_at_step=start_step or None)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        pl_module.setup(stage)  # the average is a copy of the network, which must exist by then
        super().setup(trainer, pl_module, stage)


class EpochLine(Callback):
    """Print a line after each validation, for logs that no progress bar reaches."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or trainer.state.fn != "fit":
            return
        wanted = ("train/loss", "dev/loss", "dev/ctc", "dev/attention", "dev/accuracy", "dev/wer", "dev/cer", *_DRAFTS)
        found = {name: float(trainer.callback_metrics[name]) for name in wanted if name in trainer.callback_metrics}
        broken: Any = getattr(pl_module, "broken", None)
        if broken is not None and broken.epoch:
            found["broken"] = len(broken.epoch)
        values = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
        minutes = (time.monotonic() - self._start) / 60
        print(f"epoch {trainer.current_epoch}  step {trainer.global_step}  {values}  ({minutes:.1f} min)", flush=True)


def time_left(trainer: Any) -> str | None:
    """What is left of ``max_time``, as ``0:24:59``; None without such a limit."""
    left = [c.time_remaining() for c in trainer.callbacks if isinstance(c, Timer)]
    seconds = [value for value in left if value is not None]
    return str(timedelta(seconds=max(0, round(min(seconds))))) if seconds else None


class TrainingBar(RichProgressBar):
    """Lightning's bar; where the time is limited it shows the time left, and not a number of epochs nobody waits for."""

    def _get_train_description(self, current_epoch: int) -> str:
        left = time_left(self.trainer)
        if left is None and (self.trainer.max_epochs or -1) > 0:
            return super()._get_train_description(current_epoch)
        text = f"Epoch {current_epoch}" + (f", {left} left" if left else "")
        return f"{text:{len(self.validation_description)}}"

    # 5 parameters of Lightning's hook
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.progress is not None and self.train_progress_bar_id is not None and time_left(trainer):
            description = self._get_train_description(trainer.current_epoch)
            self.progress.update(self.train_progress_bar_id, description=description)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        found = super().get_metrics(trainer, pl_module)
        found.pop("v_num", None)  # the number of a folder below logs/
        return found
