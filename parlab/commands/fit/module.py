"""The LightningModule of a training: thin, around a plain network."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parlab.commands.fit.broken import BrokenFiles
from parlab.commands.fit.construct import NetworkOptions, describe, make_network, trial_folder
from parlab.commands.fit.optim import Optimization, freeze, thaw
from parlab.commands.fit.optimized import OptimizedModule
from parlab.commands.fit.validation import DevScores, by_name
from parlab.data.examples import Batch
from parlab.decode import Greedy
from parlab.errors import UserError
from parlab.model.checkpoint import CHECKPOINT_KEY, checkpoint_entry
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel
from parlab.model.lora import LoRA, add_lora
from parlab.model.losses import Losses, joint_loss
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer


class ASRModule(OptimizedModule):
    """Fine-tunes or trains a hybrid CTC/attention model.

    Args:
        init: a model to start from (ESPnet folder, run folder, checkpoint, hub id).
        network: an ESPnet-style configuration (``encoder``, ``encoder_conf``, ``decoder``, ..., ``model_conf``) to
            start from scratch, or entries that replace those of ``init`` (``model_conf``, ``specaug_conf``, ...).
        tokenizer: ``token_type`` and ``vocab_size`` of a tokenizer to make from the training texts, or ``path`` of one
            that exists; with ``init`` the model's own is kept unless this is given, which makes new output layers.
        optim: optimiser, schedule, freezing.
        lora: low-rank adapters to train instead of the weights.
    """

    def __init__(
        self,
        init: str | None = None,
        network: dict[str, Any] | None = None,
        tokenizer: dict[str, Any] | None = None,
        optim: Optimization = Optimization(),
        lora: LoRA = LoRA(),
    ):
        super().__init__(optim)
        if init is None and not network:
            raise UserError(
                "there is no model to train, expected model.init (a model to fine-tune) or model.network (one from "
                "scratch); give one"
            )
        self.options = NetworkOptions(init, network or {}, tokenizer)
        self.lora = lora
        self.net: HybridModel | None = None  # made in setup, when the training texts are at hand
        self.tokenizer: Tokenizer | None = None
        self._dev = DevScores()
        self._dev_broken = BrokenFiles()
        self._start: tuple[HybridModel, Tokenizer] | None = None
        self.broken = BrokenFiles()

    # ---- making the network ---------------------------------------------------------------------

    def read_start(self) -> None:
        """Read the model that the training starts from, so that a wrong name is known before anything is done."""
        if self._start is None and self.options.init is not None:
            self._start = read_model(self.options.init)

    def build(self, data: Any, folder: Path, ranks: Any) -> None:
        """Build or read the network and its tokenizer, which is written to ``folder`` where it is a new one."""
        self.net, self.tokenizer = make_network(self.options, data, folder, ranks, self._start)
        self._start = None
        if self.lora.rank > 0:
            add_lora(self.net, self.lora)
            thaw(self.net, self.lora.train)
        freeze(self.net, self.optim.freeze)

    def setup(self, stage: str) -> None:
        """Build the network, once, and check the data against it."""
        trainer: Any = self.trainer
        data = trainer.datamodule
        if first := self.net is None:
            with trial_folder(trainer) if trainer.fast_dev_run else nullcontext(trainer.default_root_dir) as folder:
                self.build(data, Path(folder) / "tokenizer", trainer.strategy)
        if data is None:
            return
        assert self.net is not None and self.tokenizer is not None
        data.adapt_to(self.net, self.tokenizer)
        wanted = {getattr(callback, "monitor", None) for callback in trainer.checkpoint_callbacks}
        if stage == "fit" and self.net.ctc is None and wanted & {"dev/wer", "dev/cer"}:
            raise UserError(
                "checkpoints are chosen by an error rate of the CTC head, but this model has none, expected dev/loss; add "
                "--checkpoint.monitor dev/loss --early_stopping.monitor dev/loss"
            )
        self.broken = BrokenFiles(raises=data.broken == "raise")
        text = f"{describe(self.net)}\n{data.describe()}" if first and stage == "fit" else ""
        if text and trainer.is_global_zero:
            print(text, flush=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.net is not None and self.tokenizer is not None
        checkpoint[CHECKPOINT_KEY] = checkpoint_entry(self.net, self.tokenizer)
        super().on_save_checkpoint(checkpoint)

    # ---- training -------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        # The running statistics of a frozen batch norm must stand still too.
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(
                p.requires_grad for p in module.parameters()
            ):
                module.eval()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        assert self.net is not None
        rate = self.set_rates()
        norms = [m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        statistics = [(b, b.clone()) for m in norms for b in (m.running_mean, m.running_var) if b is not None]
        losses = self.net.loss(batch.speech, batch.speech_lengths, batch.targets) if batch.ids else None
        finite = losses is None or bool(torch.isfinite(losses.total.detach()))
        flags = torch.tensor([float(finite), float(losses is not None)], device=self.device)
        all_finite, loaded = self._over_ranks(flags, "mean").tolist()
        if all_finite < 1.0:
            self._count_nonfinite()
            for buffer, before in statistics:
                buffer.copy_(before)
        elif loaded > 0.0:
            self._good_batches += 1
        if losses is None or all_finite < 1.0:
            return self.no_loss()
        self._log_training(losses, batch, rate)
        return losses.total

    def _log_training(self, losses: Losses, batch: Batch, rate: float) -> None:
        self.log_dict({f"train/{k}": v.detach() for k, v in by_name(losses).items()}, batch_size=len(batch.ids))
        self.log_step(losses.total, rate)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.broken.add(batch)
        if self.trainer.is_last_batch:
            self.broken.check(self._sum(self.broken.counts), "training utterances")

    def on_train_epoch_end(self) -> None:
        self.log("train/broken", self._sum(self.broken.counts)[0])
        self.broken.start_epoch()

    # ---- validation -----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._dev = DevScores()
        self._dev_broken = replace(self.broken, epoch=[], seen=0)

    def validation_step(self, batch: Batch, index: int) -> None:
        assert self.net is not None and self.tokenizer is not None
        self._dev_broken.add(batch)
        if not batch.ids:
            return
        encoded = Recognizer(self.net, self.tokenizer, self.device).encode_padded(batch.speech, batch.speech_lengths)
        losses = joint_loss(self.net, encoded.states, encoded.frames, [], batch.targets)
        self._dev.add_losses(losses, len(batch.ids))
        if self.net.ctc is not None:
            hypotheses = Greedy().decode(self.net, encoded)
            self._dev.add_texts(batch.references, [self.tokenizer.decode(h.tokens) for h in hypotheses])

    def on_validation_epoch_end(self) -> None:
        assert self.net is not None
        broken = self._sum(self._dev_broken.counts)
        self._dev_broken.check(broken, "development utterances")
        self.log("dev/broken", broken[0])
        for name, value in self._dev.results(self._sum(self._dev.totals())).items():
            if self.net.ctc is not None or name not in {"dev/wer", "dev/cer"}:
                self.log(name, value, prog_bar=name == "dev/wer")
