"""One batch: load, encode, CTC, search, each timed; a broken file costs that file only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from parlab.data.audio import load_audio
from parlab.data.sources import Utterance
from parlab.decode.base import Decoder
from parlab.errors import UserError
from parlab.metrics.speed import Stopwatch
from parlab.model.hybrid import HybridModel
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
                    wave = load_audio(u.audio, self.sample_rate, u.start, u.duration, self.min_samples, self.max_seconds)
                    check_length(u, len(wave) / self.sample_rate)
                except UserError as error:
                    failed.append((u.id, str(error)))
                    continue
                waves.append(wave)
                good.append(u)
        return Loaded(waves, good, failed, watch.seconds["load"])


def check_length(utterance: Utterance, seconds: float) -> None:
    """Refuse audio that is shorter than its manifest says; rounded durations are fine.

    Raises:
        UserError: more than half a second and 2 % are missing.
    """
    wanted = utterance.duration or 0.0
    if seconds < wanted - 0.5 - 0.02 * wanted:
        raise UserError(
            f"the audio file {utterance.audio} is truncated: {seconds:.2f} s are there, expected {wanted:.2f} s as its "
            "manifest says; copy it again or correct the duration"
        )


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
        hypotheses.append(replace(h, text=module.tokenizer.decode(h.tokens), id=u.id))
        durations.append(len(wave) / rate)
    phases = {"load": batch.seconds, **watch.seconds}
    latency = sum(watch.seconds.values())
    whole = sum(durations)
    timing = [{**{k: v * d / whole for k, v in phases.items()}, "latency": latency} for d in durations]
    return Predicted(utterances, hypotheses, durations, timing, failed)


def _decode_halving(module: Any, waves: list[Tensor], watch: Stopwatch) -> list[Hypothesis | None]:
    """Decode; where the memory does not suffice, half the batch at a time; None for one that alone is too large."""
    try:
        return list(decode_waves(module.net, module.decoder, waves, watch))
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(waves) == 1:
        return [None]
    middle = len(waves) // 2
    return _decode_halving(module, waves[:middle], watch) + _decode_halving(module, waves[middle:], watch)


@torch.inference_mode()
def decode_waves(model: HybridModel, decoder: Decoder, waves: Sequence[Tensor], watch: Stopwatch) -> list[Hypothesis]:
    """Decode waveforms (each (samples,)) as one batch; ``watch`` gets the phases encode, ctc and search."""
    device = watch.device
    lengths = torch.tensor([len(w) for w in waves], device=device)
    speech = torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True).to(device)
    with watch.phase("encode"):
        states, frames = model.encode(speech, lengths)
    with watch.phase("ctc"):
        log_probs = model.ctc_log_probs(states) if model.ctc is not None else None
    with watch.phase("search"):
        return decoder.decode(model, states, frames, ctc_log_probs=log_probs)
