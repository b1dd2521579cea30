"""The head's folder at the end of a training, and whenever it is the best so far."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from parlab.commands.fit.callbacks import ExportAtEnd, move_into
from parlab.commands.fit.checkpoints import average_checkpoints, best_checkpoints
from parlab.model.heads.folder import CONFIG, write_head
from parlab.model.heads.network import DraftHead


class ExportHead(ExportAtEnd):
    """Write ``head/`` into the run folder: the best head so far, and at the end the average of the best ones.

    Args:
        average: average the weights of so many of the best checkpoints; 0 writes the weights as they are at the end.
    """

    def __init__(self, average: int = 1):
        self.average = average
        self.best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or "dev/wer" not in trainer.callback_metrics:
            return
        wer = float(trainer.callback_metrics["dev/wer"])
        if self.best is None or wer < self.best:
            self.best = wer
            self._write(trainer, pl_module, None, f"step {trainer.global_step}, dev WER {wer:.2%}")

    def export(self, trainer: Trainer, pl_module: Any) -> None:
        """Write ``head/`` from the best checkpoints (rank 0 only)."""
        if pl_module.net is None:
            return
        best = best_checkpoints(trainer)[: self.average] if self.average else []
        names = ", ".join(path.stem for path in best)
        net = None
        if best:
            net = copy.deepcopy(pl_module.net)
            net.load_state_dict(average_checkpoints(best))
        about = f"average of {names}" if len(best) > 1 else names or "the last weights"
        folder = self._write(trainer, pl_module, net, about)
        if folder is not None:
            print(f"wrote {folder} ({about})", flush=True)

    def _write(self, trainer: Trainer, pl_module: Any, net: DraftHead | None, about: str) -> Path | None:
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return None
        folder = Path(trainer.default_root_dir) / "head"
        text = card(pl_module, trainer, about)
        partial = folder.with_name("head.partial")
        made = write_head(net or pl_module.net, pl_module.tokenizer, pl_module.recognizer.model, partial, text)
        move_into(made, folder, last=CONFIG)
        return folder


def card(module: Any, trainer: Any, about: str) -> str:
    """What a head was taught, on what, and how well it drafts."""
    data = trainer.datamodule
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("dev/")}
    labels = "texts that the model itself wrote (`predict`)" if data.label_folders else "the texts of the data"
    lines = [
        f"# A draft head for {module.base}",
        "",
        f"- {module.describe()}",
        f"- {data.describe()}",
        f"- labels: {labels}; speeds: {', '.join(map(str, data.speeds))}",
        f"- weights: {about}",
        f"- after {trainer.current_epoch} epochs, {trainer.global_step} steps, on the development data: "
        + ", ".join(f"{name.removeprefix('dev/')} {value:.4g}" for name, value in sorted(metrics.items())),
    ]
    return "\n".join(lines)
