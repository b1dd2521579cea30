"""The Python door: ``parlab.load(...)`` and ``asr.transcribe(...)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parlab.data.audio import audio_seconds, check_waveform, load_audio, resample
from parlab.data.pauses import cut_points, envelope, read_blocks
from parlab.decode import Decoder
from parlab.errors import UserError
from parlab.metrics.speed import Stopwatch
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel
from parlab.options.arguments import make_decoder
from parlab.options.devices import device_for
from parlab.predictions.pieces import PIECE_SECONDS
from parlab.recognition.prediction import decode_waves, make_prompting, readable
from parlab.text.tokenizer import Tokenizer
from parlab.types import Hypothesis, Segment

Audio = str | Path | tuple[np.ndarray | torch.Tensor, int]


@dataclass(frozen=True)
class ASR:
    """A model with its tokenizer on a device."""

    model: HybridModel
    tokenizer: Tokenizer
    device: torch.device

    def transcribe(
        self,
        audio: Audio | Sequence[Audio],
        decoder: str | Decoder = "par",
        batch_size: int = 8,
        language: str | None = None,
        task: str = "asr",
        timestamps: bool = False,
        text_prompt: str = "",
        **options: Any,
    ) -> list[Hypothesis]:
        """Transcribe files or ``(samples, rate)`` pairs; returns hypotheses in input order.

        Recordings longer than an S2T model's window (30 s) are for ``transcribe_long``.

        Args:
            audio: one or several paths, or pairs of a (samples,) or (samples, channels) array and its rate.
            decoder: a name of ``parlab.decode.DECODERS``, or a decoder object.
            batch_size: utterances decoded together; it changes no result.
            language, task, timestamps, text_prompt: for S2T (OWSM) models: ``"eng"`` or ``"auto"``, ``"asr"`` or
                ``"st_deu"``, whether ``ar`` writes times, and a text that comes before.
            options: the decoder's options, as ``threshold=0.99``.

        Raises:
            UserError: unusable audio, an unknown decoder or option.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}, expected at least 1; correct it")
        single = isinstance(audio, (str, Path)) or (
            isinstance(audio, tuple) and not isinstance(audio[0], (str, Path, tuple))
        )
        items: list[Any] = [audio] if single else list(audio)  # type: ignore[list-item, arg-type]
        how = make_decoder(decoder, **options) if isinstance(decoder, str) else decoder
        asked = make_prompting(self.model, self.tokenizer, language, task, timestamps, text_prompt)
        waves = [self._load(item) for item in items]
        order = sorted(range(len(waves)), key=lambda i: -len(waves[i]))
        out: list[Hypothesis | None] = [None] * len(waves)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            found = decode_waves(self.model, how, [waves[i] for i in chosen], Stopwatch(self.device), asked)
            for i, hypothesis in zip(chosen, found, strict=True):
                name = Path(items[i]).stem if isinstance(items[i], (str, Path)) else str(i)
                out[i] = readable(hypothesis, self.model, self.tokenizer, name)
        return [h for h in out if h is not None]

    def transcribe_long(
        self,
        audio: Audio,
        decoder: str | Decoder = "par",
        batch_size: int = 8,
        piece_seconds: float | None = None,
        **options: Any,
    ) -> list[Hypothesis]:
        """Transcribe one recording of any length: cut at pauses, decoded in batches, times counted from its start.

        Args:
            audio: a path, or a pair of samples and rate. A file is read piece by piece.
            piece_seconds: longest piece; by default an S2T model's window, else 20 s.
            options: as for ``transcribe``.

        Returns:
            a hypothesis per piece, in order; their texts joined are the transcript, ``token_times`` run through.
        """
        window = self.model.window_seconds
        longest = min(piece_seconds or window or PIECE_SECONDS, window or float("inf"))
        if isinstance(audio, tuple):
            samples, rate = waveform(audio[0]), int(audio[1])
            duration = len(samples) / rate
            cuts = cut_points(envelope([(samples, rate)]), longest)
        else:
            duration = audio_seconds(audio)
            cuts = cut_points(envelope(read_blocks(audio, 0.0, None)), longest)
        out: list[Hypothesis] = []
        edges = list(pairwise([0.0, *cuts, duration]))
        for first in range(0, len(edges), batch_size):
            chosen = edges[first : first + batch_size]
            if isinstance(audio, tuple):
                waves: list[Audio] = [(samples[round(a * rate) : round(b * rate)], rate) for a, b in chosen]
            else:
                at = self.model.sample_rate
                waves = [(load_audio(audio, at, a, b - a), at) for a, b in chosen]
            found = self.transcribe(waves, decoder, batch_size, **options)
            out += [_later(h, a) for h, (a, _) in zip(found, chosen, strict=True)]
        return [replace(h, id=str(n)) for n, h in enumerate(out)]

    def segment_texts(self, hypothesis: Hypothesis) -> list[tuple[Segment, str, str]]:
        """The masked segments of a hypothesis, each with the text of its draft and of what replaced it."""
        return [(s, self.tokenizer.decode(s.draft), self.tokenizer.decode(s.fill)) for s in hypothesis.segments]

    def _load(self, item: Any) -> torch.Tensor:
        rate = self.model.sample_rate
        if isinstance(item, tuple):
            samples = waveform(item[0])
            wave = check_waveform(resample(samples, int(item[1]), rate), "an array", rate, self.model.min_samples)
        else:
            wave = load_audio(item, rate, min_samples=self.model.min_samples)
        window = self.model.window_seconds
        if window is not None and len(wave) > round(window * rate):
            raise UserError(
                f"the audio is {len(wave) / rate:.0f} s long, expected at most the {window:.0f} s of this S2T model's window; "
                "use transcribe_long"
            )
        return wave


def _later(hypothesis: Hypothesis, seconds: float) -> Hypothesis:
    """Times moved from a piece to its recording."""
    return replace(
        hypothesis,
        token_times=tuple((round(a + seconds, 3), round(b + seconds, 3)) for a, b in hypothesis.token_times),
        times=tuple((round(a + seconds, 3), round(b + seconds, 3), text) for a, b, text in hypothesis.times),
    )


def waveform(samples: Any) -> np.ndarray:
    """An array or tensor of samples, (samples,) or (samples, channels), as mono float32; integers are scaled to [-1, 1].

    Raises:
        UserError: it has another shape.
    """
    array = np.asarray(samples.detach().cpu() if isinstance(samples, torch.Tensor) else samples)
    if array.ndim not in (1, 2):
        raise UserError(
            f"the audio is an array of shape {array.shape}, expected (samples,) or (samples, channels); reshape it"
        )
    if array.ndim == 2 and array.shape[0] < array.shape[1]:
        raise UserError(
            f"the audio is an array of shape {array.shape}, expected (samples, channels) with more samples than channels; "
            "transpose it"
        )
    scale = 1.0 / (np.iinfo(array.dtype).max + 1) if np.issubdtype(array.dtype, np.signedinteger) else 1.0
    mono = array.mean(axis=1) if array.ndim == 2 else array
    return (mono * scale).astype(np.float32)


def load(path: str | Path, device: str | None = None, dtype: torch.dtype | str | None = None) -> ASR:
    """Load a model: an ESPnet-format folder, a run folder, a checkpoint or a hub id.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; the best there is by default.
        dtype: of encoder and decoder, as ``torch.bfloat16`` or ``"bfloat16"``; the front end stays float32.

    Raises:
        UserError: nothing usable is there, or there is no such device or type.
    """
    place = device_for(device)
    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(wanted, torch.dtype) and wanted.is_floating_point):
        raise UserError(f"the dtype is {dtype!r}, expected 'float32', 'bfloat16', 'float16' or None; correct it")
    model, tokenizer = read_model(path)
    return ASR(model.to_device(place, wanted), tokenizer, place)
