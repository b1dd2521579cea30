"""One batch: load, encode, CTC, search, each timed; a broken file costs that file only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from parlab.data.audio import load_audio
from parlab.data.checks import check_duration
from parlab.data.sources import Utterance
from parlab.decode.base import Decoder
from parlab.decode.prompts import Prompting
from parlab.errors import UserError
from parlab.metrics.speed import Stopwatch
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Loaded:
    """Waveforms of a batch (each (samples,)), their utterances, what failed, and the seconds it took."""

    waves: list[Tensor]
    utterances: list[Utterance]
    failed: list[tuple[str, str]]
    seconds: float


@dataclass(frozen=True)
class Predicted:
    """Results of a batch, in its order; ``timing`` holds each utterance's share of every phase, and its latency."""

    utterances: list[Utterance]
    hypotheses: list[Hypothesis]
    durations: list[float]
    timing: list[dict[str, float]]
    failed: list[tuple[str, str]]


class PredictionSet(Dataset):
    """Batches of utterances, loaded on demand."""

    def __init__(
        self, batches: Sequence[Sequence[Utterance]], sample_rate: int, min_samples: int, max_seconds: float | None
    ):
        self.batches = batches
        self.sample_rate, self.min_samples, self.max_seconds = sample_rate, min_samples, max_seconds

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Loaded:
        watch = Stopwatch(torch.device("cpu"))
        waves: list[Tensor] = []
        good: list[Utterance] = []
        failed: list[tuple[str, str]] = []
        with watch.phase("load"):
            for u in self.batches[index]:
                try:
                    wave = load_audio(
                        u.audio, self.sample_rate, u.start, u.duration, self.min_samples, self.max_seconds
                    )
                    check_duration(u, len(wave) / self.sample_rate)
                except UserError as error:
                    failed.append((u.id, str(error)))
                    continue
                waves.append(wave)
                good.append(u)
        return Loaded(waves, good, failed, watch.seconds["load"])


def predict_batch(module: Any, batch: Loaded) -> Predicted:
    """The LightningModule's predict step: decode a loaded batch with the module's decoder."""
    if not batch.waves:
        return Predicted([], [], [], [], batch.failed)
    if not module.warm:  # the first call pays for kernels and caches; it is made twice, and timed once
        _decode_halving(module, batch.waves, Stopwatch(module.device))
        module.warm = True
    watch = Stopwatch(module.device)
    found = _decode_halving(module, batch.waves, watch)
    rate = module.net.sample_rate
    utterances, hypotheses, durations, failed = [], [], [], list(batch.failed)
    for u, wave, h in zip(batch.utterances, batch.waves, found, strict=True):
        if h is None:
            failed.append((u.id, f"the memory does not suffice for its {len(wave) / rate:.0f} s of audio; cut it"))
            continue
        utterances.append(u)
        hypotheses.append(readable(h, module.net, module.tokenizer, u.id))
        durations.append(len(wave) / rate)
    phases = {"load": batch.seconds, **watch.seconds}
    latency = sum(watch.seconds.values())
    whole = sum(durations)
    timing = [{**{k: v * d / whole for k, v in phases.items()}, "latency": latency} for d in durations]
    return Predicted(utterances, hypotheses, durations, timing, failed)


def _decode_halving(module: Any, waves: list[Tensor], watch: Stopwatch) -> list[Hypothesis | None]:
    """Decode; where the memory does not suffice, half the batch at a time; None for one that alone is too large."""
    try:
        return list(decode_waves(module.net, module.decoder, waves, watch, module.prompting))
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(waves) == 1:
        return [None]
    middle = len(waves) // 2
    return _decode_halving(module, waves[:middle], watch) + _decode_halving(module, waves[middle:], watch)


def readable(hypothesis: Hypothesis, model: HybridModel, tokenizer: Tokenizer, name: str) -> Hypothesis:
    """A decoder's result with its text, its name, and times in seconds where frames or time symbols tell them."""
    # The frames of OWSM-CTC start with those of the prompt.
    before = 2 if model.s2t is not None and model.s2t.encoder_prompt else 0
    at = model.frame_seconds
    spans = [(max(first - before, 0), max(last - before, 0)) for first, last in hypothesis.token_frames]
    timed = model.s2t.timed(hypothesis.tokens) if model.s2t is not None and not before else []
    return replace(
        hypothesis,
        text=tokenizer.decode(hypothesis.tokens),
        id=name,
        token_times=tuple((round(first * at, 3), round((last + 1) * at, 3)) for first, last in spans),
        times=tuple((start, end, tokenizer.decode(tokens)) for start, end, tokens in timed),
    )


def make_prompting(
    model: HybridModel,
    tokenizer: Tokenizer,
    language: str | None = None,
    task: str = "asr",
    timestamps: bool = False,
    text_prompt: str = "",
) -> Prompting:
    """What is asked of an S2T model, checked against it before any work.

    Raises:
        UserError: it is no S2T model, or it lacks the language, the task or time symbols.
    """
    wanted = Prompting(language, task, timestamps, tuple(tokenizer.encode(text_prompt)) if text_prompt else ())
    wanted.for_encoder(model, 1)
    if model.s2t is not None:
        model.s2t.prompt(None if language == "auto" else language, task, timestamps, wanted.previous)
    return wanted


@torch.inference_mode()
def decode_waves(
    model: HybridModel,
    decoder: Decoder,
    waves: Sequence[Tensor],
    watch: Stopwatch,
    prompting: Prompting = Prompting(),
) -> list[Hypothesis]:
    """Decode waveforms (each (samples,)) as one batch; ``watch`` gets the phases encode, ctc and search."""
    device = watch.device
    lengths = torch.tensor([len(w) for w in waves], device=device)
    speech = torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True).to(device)
    with watch.phase("encode"):
        states, frames = model.encode(speech, lengths, prompting.for_encoder(model, len(waves)))
    with watch.phase("ctc"):
        log_probs = model.ctc_log_probs(states) if model.ctc is not None else None
    with watch.phase("search"):
        prompt = prompting.for_decoder(model, states, frames)
        return decoder.decode(model, states, frames, prompt, log_probs)
