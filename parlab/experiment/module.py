"""The LightningModule: thin, around a plain network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from parlab.data.batches import Batch
from parlab.data.tokenizer import Tokenizer
from parlab.decode import Decoder, Greedy
from parlab.errors import UserError
from parlab.experiment.construct import make_network
from parlab.experiment.optim import Optimization, make_optimizer
from parlab.experiment.prediction import Loaded, Predicted, predict_batch
from parlab.model.folder import CHECKPOINT_KEY, checkpoint_entry, read_model
from parlab.model.hybrid import HybridModel


class ASRModule(LightningModule):
    """Fine-tunes or trains a hybrid CTC/attention model.

    Args:
        init: a model to start from (ESPnet folder, run folder, checkpoint, hub id).
        network: an ESPnet-style configuration (``encoder``, ``encoder_conf``, ``decoder``, ..., ``model_conf``) to
            start from scratch, or entries that replace those of ``init`` (``model_conf``, ``specaug_conf``, ...).
        tokenizer: ``token_type`` and ``vocab_size`` of a tokenizer to make from the training texts; with ``init`` the
            model's own is kept unless this is given, which makes new output layers.
        optim: optimiser, schedule, freezing.
        decoder: what the predict step decodes with; greedy CTC if none is given.
    """

    def __init__(
        self,
        init: str | None = None,
        network: dict[str, Any] | None = None,
        tokenizer: dict[str, Any] | None = None,
        optim: Optimization | None = None,
        decoder: Decoder | None = None,
    ):
        super().__init__()
        if init is None and not network:
            raise UserError(
                "there is no model to train, expected model.init (a model to fine-tune) or model.network (one from "
                "scratch); give one"
            )
        self.init, self.network, self.tokenizer_options = init, network or {}, tokenizer
        self.optim = optim or Optimization()
        self.net: HybridModel | None = None  # made in setup, when the training texts are at hand
        self.tokenizer: Tokenizer | None = None
        self.decoder: Decoder = decoder or Greedy()
        self.warm = False  # whether the predict step has been warmed up
        self.nonfinite = 0
        self._started = time.monotonic()
        self._audio_seconds = 0.0
        self._dev: dict[str, list[str]] = {"refs": [], "hyps": []}

    # ---- making the network ---------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Build or read the network and its tokenizer, once."""
        if stage == "predict":
            if self.net is None:
                self.net, self.tokenizer = read_model(str(self.init))
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.net is None:
            folder = Path(self.trainer.default_root_dir) / "tokenizer"
            self.net, self.tokenizer = make_network(
                self.init, self.network, self.tokenizer_options, data, folder, self.trainer.strategy
            )
            count = sum(p.numel() for p in self.net.parameters())
            rank_zero_info(f"model: {count / 1e6:.2f} M parameters, {len(self.net.token_list)} tokens")
        if data is not None:
            data.tokenizer, data.sample_rate = self.tokenizer, self.net.sample_rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.net is not None and self.tokenizer is not None
        checkpoint[CHECKPOINT_KEY] = checkpoint_entry(self.net, self.tokenizer)
        checkpoint["parlab_nonfinite"] = self.nonfinite

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        self.nonfinite = int(checkpoint.get("parlab_nonfinite", 0))

    # ---- training -------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.net is not None
        optimizer = make_optimizer(self.net, self.optim)
        trained = sum(p.numel() for p in self.net.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.net.parameters())
        rank_zero_info(f"trainable parameters: {trained:,} of {total:,} ({trained / total:.1%})")
        return optimizer

    def on_train_start(self) -> None:
        self._started = time.monotonic()

    def progress(self) -> float:
        """Share of the training done: of its time budget if there is one, else of its steps."""
        from lightning.pytorch.callbacks import Timer

        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer) and callback.time_remaining() is not None:
                elapsed, remaining = callback.time_elapsed(), callback.time_remaining()
                return elapsed / max(elapsed + float(remaining or 0.0), 1e-9)
        total = self.trainer.estimated_stepping_batches
        return self.global_step / total if total not in (float("inf"), -1) else 0.0

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        assert self.net is not None
        factor = self.optim.factor(self.global_step, self.progress())
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.optim.lr * group["scale"] * factor
        losses = self.net.loss(batch.speech, batch.speech_lengths, batch.text, batch.text_lengths)
        total = losses.total
        if not self._finite_everywhere(total):
            self._count_nonfinite()
            # Every rank must take part in the backward pass; a zero gradient changes nothing.
            total = sum(p.sum() for p in self.net.parameters() if p.requires_grad) * 0.0  # type: ignore[assignment]
            return total.nan_to_num(0.0)
        self._audio_seconds += batch.seconds * self.trainer.world_size
        values = {"loss": losses.total, "ctc": losses.ctc, "attention": losses.attention, "accuracy": losses.accuracy}
        logged = {f"train/{k}": v.detach() for k, v in values.items() if v is not None}
        elapsed = time.monotonic() - self._started
        logged["train/audio_seconds_per_second"] = torch.tensor(self._audio_seconds / max(elapsed, 1e-9))
        logged["train/lr"] = torch.tensor(self.optim.lr * factor)
        self.log_dict(logged, batch_size=len(batch.ids))
        self.log("loss", losses.total.detach(), prog_bar=True, logger=False)
        return total

    def _finite_everywhere(self, loss: Tensor) -> bool:
        """The same answer on every rank, so that all skip a batch together."""
        finite = torch.isfinite(loss.detach()).float()
        if self.trainer.world_size > 1:
            finite = self.trainer.strategy.reduce(finite, reduce_op="mean")  # type: ignore[assignment]
        return bool(finite == 1.0)

    def _count_nonfinite(self) -> None:
        self.nonfinite += 1
        rank_zero_info(f"batch skipped: its loss is not finite ({self.nonfinite} so far)")
        if self.nonfinite > self.optim.nonfinite_limit:
            raise UserError(
                f"the loss was not finite in {self.nonfinite} batches, expected at most {self.optim.nonfinite_limit}; "
                "lower the learning rate, or look for broken audio"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # A gradient can overflow though the loss did not: such a step is dropped, not taken.
        norms = [p.grad for p in self.parameters() if p.grad is not None]
        if norms and not bool(torch.isfinite(torch.stack([g.sum() for g in norms]).sum())):
            self._count_nonfinite()
            for gradient in norms:
                gradient.zero_()

    # ---- validation -----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._dev = {"refs": [], "hyps": []}

    def validation_step(self, batch: Batch, index: int) -> None:
        assert self.net is not None and self.tokenizer is not None
        losses = self.net.loss(batch.speech, batch.speech_lengths, batch.text, batch.text_lengths)
        values = {"loss": losses.total, "ctc": losses.ctc, "attention": losses.attention, "accuracy": losses.accuracy}
        logged = {f"dev/{k}": v for k, v in values.items() if v is not None}
        self.log_dict(logged, batch_size=len(batch.ids), on_epoch=True, sync_dist=True)
        states, frames = self.net.encode(batch.speech, batch.speech_lengths)
        for hypothesis in Greedy().decode(self.net, states, frames):
            self._dev["hyps"].append(self.tokenizer.decode(hypothesis.tokens))
        self._dev["refs"] += batch.references

    def on_validation_epoch_end(self) -> None:
        from parlab.metrics.wer import corpus_errors

        counts = torch.zeros(4, dtype=torch.float64)
        if self._dev["refs"]:
            found = corpus_errors(self._dev["refs"], self._dev["hyps"])
            values = (found["wer"].errors, found["wer"].total, found["cer"].errors, found["cer"].total)
            counts = torch.tensor(values, dtype=torch.float64)
        if self.trainer.world_size > 1:
            counts = self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
        self.log("dev/wer", float(counts[0] / counts[1].clamp(min=1)), prog_bar=True, rank_zero_only=False)
        self.log("dev/cer", float(counts[2] / counts[3].clamp(min=1)))

    # ---- prediction -----------------------------------------------------------------------------

    def predict_step(self, batch: Loaded, index: int) -> Predicted:
        return predict_batch(self, batch)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, Batch):
            moved = (t.to(device) for t in (batch.speech, batch.speech_lengths, batch.text, batch.text_lengths))
            return Batch(*moved, batch.references, batch.ids)
        return batch  # a prediction batch moves inside the timed step
