"""parlab from Python: ``parlab.load(...)`` and ``asr.transcribe(...)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from parlab.decode import Decoder
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.options.decoders import make_decoder
from parlab.options.devices import device_for
from parlab.recognition.long_audio import LongAudio, cut_recording, shifted
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from parlab.recognition.waveforms import Audio, is_single, read_waveform
from parlab.text.tokenizer import Tokenizer
from parlab.types import Hypothesis, Segment

_PROMPT = tuple(f.name for f in fields(PromptOptions))


@dataclass(frozen=True)
class ASR:
    """A model with its tokenizer on a device."""

    recognizer: Recognizer

    @property
    def model(self) -> HybridModel:
        """The network."""
        return self.recognizer.model

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.recognizer.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.recognizer.device

    def transcribe(
        self,
        audio: Audio | Sequence[Audio],
        decoder: str | Decoder = "par",
        batch_size: int = 8,
        **options: Any,
    ) -> list[Hypothesis]:
        """Transcribe files or ``(samples, rate)`` pairs; returns hypotheses in input order.

        Recordings longer than an S2T model's window (30 s) are for ``transcribe_long``.

        Args:
            audio: one or several paths, or pairs of a (samples,) or (samples, channels) array and its rate.
            decoder: a name of ``parlab.decode.DECODERS``, or a decoder object.
            batch_size: utterances decoded together; it changes no result.
            options: the decoder's options, as ``threshold=0.99``; and for S2T (OWSM) models ``language`` (``"eng"`` or
                ``"auto"``), ``task`` (``"asr"`` or ``"st_deu"``), ``timestamps`` (whether ``ar`` writes times) and
                ``text_prompt`` (a text that comes before).

        Raises:
            UserError: unusable audio, an unknown decoder or option.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}, expected at least 1; correct it")
        recognizer, chosen = self._prepared(decoder, options)
        items: list[Audio] = [audio] if is_single(audio) else list(audio)  # type: ignore[arg-type]
        waves = [read_waveform(item, self.model) for item in items]
        # Similar lengths are decoded together.
        order = sorted(range(len(waves)), key=lambda i: -len(waves[i]))
        found: dict[int, Hypothesis] = {}
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for i, hypothesis in zip(batch, recognizer.recognize(chosen, [waves[i] for i in batch]), strict=True):
                if hypothesis is None:
                    raise UserError(
                        f"the memory does not suffice for {recognizer.seconds(waves[i]):.0f} s of audio, expected less; "
                        "use transcribe_long"
                    )
                found[i] = recognizer.named(hypothesis, _name(items[i], i))
        return [found[i] for i in range(len(items))]

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
        longest = LongAudio(True, piece_seconds).longest(self.model.window_seconds)
        pieces = cut_recording(audio, longest, self.model.sample_rate)
        out: list[Hypothesis] = []
        for first in range(0, len(pieces), batch_size):
            batch = pieces[first : first + batch_size]
            found = self.transcribe([piece.read() for piece in batch], decoder, batch_size, **options)
            out += [shifted(h, piece.start) for h, piece in zip(found, batch, strict=True)]
        return [replace(h, id=str(n)) for n, h in enumerate(out)]

    def segment_texts(self, hypothesis: Hypothesis) -> list[tuple[Segment, str, str]]:
        """The masked segments of a hypothesis, each with the text of its draft and of what replaced it."""
        return [(s, self.tokenizer.decode(s.draft), self.tokenizer.decode(s.fill)) for s in hypothesis.segments]

    def _prepared(self, decoder: str | Decoder, options: dict[str, Any]) -> tuple[Recognizer, Decoder]:
        """The recognizer with what is asked of an S2T model, and the decoder with its options."""
        prompt = PromptOptions(**{name: options.pop(name) for name in _PROMPT if name in options})
        chosen = make_decoder(decoder, **options) if isinstance(decoder, str) else decoder
        recognizer = self.recognizer.asked(prompt)
        chosen.prepare(self.model, self.device)
        return recognizer, chosen


def _name(item: Audio, index: int) -> str:
    return Path(item).stem if isinstance(item, (str, Path)) else str(index)


def load(path: str | Path, device: str | None = None, dtype: torch.dtype | str | None = None) -> ASR:
    """Load a model: an ESPnet-format folder, a run folder, a checkpoint or a hub id.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; the best there is by default.
        dtype: of encoder and decoder, as ``torch.bfloat16`` or ``"bfloat16"``; the front end stays float32.

    Raises:
        UserError: nothing usable is there, or there is no such device or type.
    """
    chosen = device_for(device)
    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(wanted, torch.dtype) and wanted.is_floating_point):
        raise UserError(f"the dtype is {dtype!r}, expected 'float32', 'bfloat16', 'float16' or None; correct it")
    return ASR(Recognizer.read(path, chosen, wanted))
