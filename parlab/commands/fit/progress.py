"""The progress bar of a training."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, Timer


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
