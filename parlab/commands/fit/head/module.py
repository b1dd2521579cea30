"""The LightningModule that teaches a draft head."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from parlab.commands.fit.broken import BrokenFiles
from parlab.commands.fit.construct import make_tokenizer, trial_folder
from parlab.commands.fit.head.batches import HeadBatch, StateMasks
from parlab.commands.fit.head.sample import EncodedSample
from parlab.commands.fit.head.scores import DraftScores, draft_words
from parlab.commands.fit.optim import Optimization, freeze
from parlab.commands.fit.optimized import OptimizedModule
from parlab.decode.draft import greedy_draft
from parlab.errors import UserError
from parlab.model.checkpoint import CHECKPOINT_KEY
from parlab.model.families.weights import hash_model
from parlab.model.folder import read_model
from parlab.model.heads.folder import Head, read_head
from parlab.model.heads.making import check_sizes, clone_from, make_head, start_from
from parlab.model.heads.network import DraftHead, HeadOptions
from parlab.model.heads.reading import blocks_of, check_layers
from parlab.model.hybrid import HybridModel
from parlab.recognition.recognizer import Recognizer
from parlab.text.spelling import Spelling
from parlab.text.tokenizer import Tokenizer

CPU = torch.device("cpu")


class HeadModule(OptimizedModule):
    """Teaches a draft head to write what the labels say, by CTC; the model that it drafts for stays as it is.

    Args:
        base: the model that the head is for (folder, checkpoint, hub id).
        head: sizes of the head, and what it reads.
        tokenizer: ``token_type: bpe`` and ``vocab_size``; by default the characters of the labels.
        init: folder of a head of the same model and sizes whose weights are the start (tokens that both know keep theirs), or of a hybrid that
            was trained from the model with ``encoder: whisper``, whose top blocks the clones start as.
        sample: development utterances that PAR decodes at each validation, 0 for none.
        masks: what is hidden from the head while it learns.
        optim: optimiser, schedule, freezing.
    """

    # 7 parameters: LightningCLI makes an option of each.
    def __init__(
        self,
        base: str | None = None,
        head: HeadOptions = HeadOptions(),
        tokenizer: dict[str, Any] | None = None,
        init: str | None = None,
        sample: int = 16,
        masks: StateMasks = StateMasks(),
        optim: Optimization = Optimization(),
    ):
        super().__init__(optim)
        if base is None:
            raise UserError("there is no model that the head is for, expected model.base; name it")
        if sample < 0:
            raise UserError(f"model.sample is {sample}, expected a number of utterances from 0; correct it")
        self.base, self.head, self.masks = base, head, masks
        self.tokenizer_options, self.init, self.sample = tokenizer, init, sample
        self.net: DraftHead | None = None  # made in setup, when the labels are at hand
        self.tokenizer: Tokenizer | None = None
        self.recognizer: Recognizer | None = None  # no module of this one: checkpoints hold the head alone
        self.start: Head | HybridModel | None = None  # likewise; whose weights are the start
        self.broken = BrokenFiles()
        self.scores = DraftScores(str)
        self.encoded_sample: EncodedSample | None = None

    # ---- making the head ------------------------------------------------------------------------

    def read_start(self) -> None:
        """Read the model, so that a wrong name and a head that does not fit are known before anything is done."""
        if self.recognizer is None:
            self.recognizer = Recognizer.read(self.base, CPU)
            check_layers(self.recognizer.model, self.layers)
            trial = make_head(self.head, self.recognizer.model, 2)
            if self.init is not None and (Path(self.init) / "config.yaml").is_file():
                self.start, _ = read_model(self.init)
                clone_from(trial, self.start)
            elif self.init is not None:
                self.start = read_head(self.init, self.recognizer.model, self.recognizer.tokenizer)
                check_sizes(self.head, self.start, self.init)

    @property
    def layers(self) -> tuple[int, ...]:
        """What the head reads."""
        assert self.recognizer is not None
        return self.head.reads(len(blocks_of(self.recognizer.model)))

    def build(self, data: Any, folder: Path, ranks: Any) -> None:
        """Make the vocabulary, encode the data below ``folder`` and make the head."""
        self.read_start()
        data.check()
        assert self.recognizer is not None
        options = dict(self.tokenizer_options or {})
        if str(options.get("token_type", "char")) == "char":
            self.tokenizer = data.vocabulary()
        else:
            self.tokenizer = make_tokenizer(options, data, folder / "tokenizer", ranks)
        Spelling(self.tokenizer, self.recognizer.tokenizer).check("the vocabulary of the labels")
        model = self.recognizer.model
        name = f"{hash_model(model)[:12]}-{'-'.join(map(str, self.layers)) or 'out'}"
        cache = Path(data.cache) if data.cache else folder / "states"
        data.encode(self.recognizer, self.layers, cache / name, ranks)
        data.adapt_to(self.tokenizer, self.head.stack)
        self.net = make_head(self.head, model, len(self.tokenizer.token_list))
        if isinstance(self.start, Head):
            start_from(self.net, self.tokenizer, self.start)
        elif self.start is not None:
            clone_from(self.net, self.start)
        freeze(self.net, self.optim.freeze)

    def setup(self, stage: str) -> None:
        """Build, once."""
        if self.net is not None:
            return
        trainer: Any = self.trainer
        device = trainer.strategy.root_device
        self.read_start()
        assert self.recognizer is not None
        self.recognizer = Recognizer(self.recognizer.model.to_device(device), self.recognizer.tokenizer, device)
        with trial_folder(trainer) if trainer.fast_dev_run else nullcontext(trainer.default_root_dir) as folder:
            self.build(trainer.datamodule, Path(folder), trainer.strategy)
        if stage == "fit" and trainer.is_global_zero:
            print(f"{self.describe()}\n{trainer.datamodule.describe()}", flush=True)

    def describe(self) -> str:
        """One line about the head."""
        assert self.net is not None
        count = sum(p.numel() for p in self.net.parameters())
        read = f"layers {list(self.layers)}" if self.layers else "the encoder's output"
        return f"head: {count:,} parameters ({count * 2 / 1e6:.1f} MB), {self.net.vocabulary} tokens, reads {read}"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.tokenizer is not None
        checkpoint[CHECKPOINT_KEY] = {"head": asdict(self.head), "tokens": list(self.tokenizer.token_list)}
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        entry = checkpoint.get(CHECKPOINT_KEY)
        if not isinstance(entry, Mapping) or "tokens" not in entry:
            raise UserError("the checkpoint is none of a head, expected one that `fit --kind head` wrote; name another")
        assert self.tokenizer is not None
        if list(entry["tokens"]) != self.tokenizer.token_list:
            raise UserError(
                "the checkpoint has another vocabulary than the labels give, expected the same; the labels have changed: start over "
                "with --fresh true"
            )
        super().on_load_checkpoint(checkpoint)

    # ---- training -------------------------------------------------------------------------------

    def training_step(self, batch: HeadBatch, index: int) -> Tensor:
        assert self.net is not None
        rate = self.set_rates()
        states = self.masks(batch.states.float(), batch.frames)
        loss = _losses(self.net(states, batch.frames), batch).mean()
        finite = self._over_ranks(torch.isfinite(loss.detach()).float(), "mean")
        if float(finite) < 1.0:
            self._count_nonfinite()
            return self.no_loss()
        self._good_batches += 1
        self.log("train/loss", loss.detach(), batch_size=len(batch.utterances))
        self.log_step(loss, rate)
        return loss

    # ---- validation -----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        assert self.recognizer is not None and self.tokenizer is not None
        model = self.recognizer.model
        english = model.kind == "whisper" and model.s2t is not None and not model.s2t.languages
        self.scores = DraftScores(data.normalize(english))
        self.spelling = Spelling(self.tokenizer, self.recognizer.tokenizer)
        if self.encoded_sample is None and not self.trainer.sanity_checking:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            own = data.dev_utterances()[: self.sample][rank::world]
            self.encoded_sample = EncodedSample.of(self.recognizer, self.layers, own)

    def validation_step(self, batch: HeadBatch, index: int) -> None:
        assert self.net is not None
        log_probs, frames = self.net(batch.states.float(), batch.frames)
        labelled = batch.target_lengths > 0
        if bool(labelled.any()):
            losses = _losses((log_probs, frames), batch)[labelled]
            self.scores.add_loss(float(losses.sum()), int(labelled.sum()))
        draft = greedy_draft(log_probs, frames, blank=0)
        for utterance, words in zip(batch.utterances, draft_words(draft, self.spelling), strict=True):
            self.scores.add(utterance.text or "", words)

    def on_validation_epoch_end(self) -> None:
        for name, value in DraftScores.results(self._sum(self.scores.totals())).items():
            self.log(name, value, prog_bar=name == "dev/wer")
        if self.encoded_sample is not None and self.sample:
            assert self.net is not None and self.tokenizer is not None
            head = Head(self.net, self.tokenizer, self.spelling, self.layers)
            wrong, words = self._sum(list(self.encoded_sample.errors(head, self.scores.normalize)))
            if words:
                self.log("dev/par_wer", wrong / words)


def _losses(output: tuple[Tensor, Tensor], batch: HeadBatch) -> Tensor:
    """CTC losses (B,) of log-posteriors (B, T, V) and their frames; one that no path can emit is 0."""
    log_probs, frames = output
    targets = batch.targets.clamp(min=0)
    return ctc_loss(
        log_probs.transpose(0, 1), targets, frames, batch.target_lengths, reduction="none", zero_infinity=True
    )
