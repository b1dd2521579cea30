"""parlab from Python: ``parlab.load(...)`` and ``asr.transcribe(...)``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from parlab.data.plan import prediction_batches
from parlab.data.utterance import Utterance
from parlab.decode import DECODERS, Decoder
from parlab.errors import TranscriptionError, UserError
from parlab.model.hybrid import HybridModel
from parlab.options.decoder_names import TUNED, find_tuned
from parlab.options.decoders import make_decoder, with_usual
from parlab.options.devices import device_for, warn_of_slow_bfloat16
from parlab.recognition.long_audio import LongAudio, cut_recording, shifted
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from parlab.recognition.waveforms import Audio, is_single, name_of, read_waveform
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure, Hypothesis, Segment

_WINDOW = 8  # batches whose audio is read together: similar lengths are decoded together, and little is in memory
_PROMPT = tuple(f.name for f in fields(PromptOptions))


@dataclass(frozen=True)
class ASR:
    """A model with its tokenizer on a device."""

    recognizer: Recognizer
    tuned: Path | None = None  # the configuration of a decoder that ``tune`` left beside the model or its head

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

    @overload
    def transcribe(
        self,
        audio: Audio | Iterable[Audio],
        decoder: str | Decoder | None = ...,
        batch_size: int = ...,
        errors: Literal["raise"] = ...,
        **options: Any,
    ) -> list[Hypothesis]: ...

    @overload
    def transcribe(
        self,
        audio: Audio | Iterable[Audio],
        decoder: str | Decoder | None = ...,
        batch_size: int = ...,
        *,
        errors: Literal["return"],
        **options: Any,
    ) -> list[Hypothesis | Failure]: ...

    def transcribe(
        self,
        audio: Audio | Iterable[Audio],
        decoder: str | Decoder | None = None,
        batch_size: int = 8,
        errors: str = "raise",
        **options: Any,
    ) -> list[Any]:
        """Transcribe one or several recordings; returns hypotheses in input order.

        Audio is read as it is needed. A recording that fails stops no other. Recordings longer than the model's window
        (30 s) are for ``transcribe_long``.

        Args:
            audio: one or several (a list, a generator) of: a path; an array or tensor (samples,) or (samples, channels) at
                the model's rate; a pair of an array and its rate; an open file; a Hugging Face dictionary with ``array``
                and ``sampling_rate``. Signed integers are scaled.
            decoder: a name of ``parlab.decode.DECODERS``, a decoder object, or ``"tuned"`` for what ``tune`` left beside the model (or its
                head), which is also the default where there is one. Else the default is ``par`` for a hybrid model or one with a draft head, ``greedy``
                for one without a decoder, ``ar`` without CTC for one without a CTC head (Whisper) and where times or a
                translation are asked for.
            batch_size: utterances decoded together, fewer where one is long, as in ``predict``; it changes no result.
            errors: what becomes of recordings that fail: ``"raise"`` ends with a ``TranscriptionError`` that carries the
                results of the others; ``"return"`` puts a ``Failure`` in the list.
            options: the decoder's options, as ``threshold=0.99``; and for S2T (OWSM, Whisper) models ``language`` (``"eng"``, Whisper
                ``"en"``, or ``"auto"``), ``task`` (``"asr"`` or ``"st_deu"``), ``timestamps`` (whether ``ar`` writes times) and
                ``text_prompt`` (a text that comes before).

        Raises:
            TranscriptionError: unusable audio, too much of it for the memory, or scores that are not finite (float16).
            UserError: an unknown decoder or option.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}, expected at least 1; correct it")
        if errors not in {"raise", "return"}:
            raise UserError(f"errors is {errors!r}, expected 'raise' or 'return'; correct it")
        recognizer, chosen = self._prepared(decoder, options)
        items = iter([audio] if is_single(audio) else audio)  # type: ignore[arg-type]
        found: list[Hypothesis | Failure] = []
        while window := list(islice(items, _WINDOW * batch_size)):
            found += _transcribe(recognizer, chosen, window, batch_size, len(found))
        failures = [f for f in found if isinstance(f, Failure)]
        if failures and errors == "raise":
            raise TranscriptionError([None if isinstance(f, Failure) else f for f in found], failures)
        return found

    def transcribe_long(
        self,
        audio: Audio,
        decoder: str | Decoder | None = None,
        batch_size: int = 8,
        piece_seconds: float | None = None,
        **options: Any,
    ) -> list[Hypothesis]:
        """Transcribe one recording of any length: cut at pauses, decoded in batches, times counted from its start.

        Args:
            audio: a path, or a pair of samples and rate. A file is read piece by piece.
            piece_seconds: longest piece; by default the model's window, else 20 s.
            options: as for ``transcribe``.

        Returns:
            a hypothesis per piece, in order; their texts joined are the transcript, ``token_times`` run through.
        """
        longest = LongAudio(True, piece_seconds).longest(self.model.longest_seconds)
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

    def _prepared(self, decoder: str | Decoder | None, options: dict[str, Any]) -> tuple[Recognizer, Decoder]:
        """The recognizer with what is asked of an S2T model, and the decoder with its options."""
        prompt = PromptOptions(**{name: options.pop(name) for name in _PROMPT if name in options})
        if decoder == TUNED and self.tuned is None:
            raise UserError(
                f"the decoder is '{TUNED}', but tune left none beside this model; name another, or run tune --beside_model true"
            )
        plain = prompt.task == "asr" and not prompt.timestamps
        if self.tuned is not None and (decoder == TUNED or (decoder is None and plain)):
            decoder = str(self.tuned)
        if decoder is None:
            own = self.recognizer.default_decoder(plain)
            decoder, options = own.name, own.changed() | options
        elif isinstance(decoder, str) and decoder in DECODERS:
            options = with_usual(DECODERS[decoder], options, self.recognizer.head is not None)
        chosen = make_decoder(decoder, **options) if isinstance(decoder, str) else decoder
        recognizer = self.recognizer.asked(prompt)
        chosen.prepare(self.model, self.device)
        return recognizer, chosen


def _transcribe(
    recognizer: Recognizer, decoder: Decoder, items: Sequence[Audio], batch_size: int, first: int
) -> list[Hypothesis | Failure]:
    """Results of some recordings, in their order; ``first`` is the index of the first of them."""
    names = [name_of(item, first + i) for i, item in enumerate(items)]
    found: dict[int, Hypothesis | Failure] = {}
    waves: dict[int, Tensor] = {}
    for i, item in enumerate(items):
        try:
            waves[i] = read_waveform(item, recognizer.model)
        except UserError as error:
            found[i] = Failure(names[i], str(error))
    lengths = [Utterance(str(i), Path(), duration=recognizer.seconds(wave)) for i, wave in waves.items()]
    for planned in prediction_batches(lengths, batch_size):
        batch = [int(utterance.id) for utterance in planned]
        for i, result in zip(batch, recognizer.recognize(decoder, [waves[i] for i in batch]), strict=True):
            if isinstance(result, Failure):
                found[i] = replace(result, id=names[i])
            else:
                found[i] = recognizer.named(result, names[i])
    return [found[i] for i in range(len(items))]


def load(
    path: str | Path,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
    head: str | Path | None = None,
) -> ASR:
    """Load a model: an ESPnet-format folder, a run folder, a checkpoint, a Whisper folder (Hugging Face's layout) or a hub id.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; the best there is by default. Whether CUDA rounds float32 products to TF32 is left to
            torch's flags; ``predict`` turns that off (``parlab.options.devices.set_tf32``).
        dtype: of encoder and decoder, as ``torch.bfloat16`` or ``"bfloat16"``; the front end stays float32.
        head: folder of a draft head of this model.

    Raises:
        UserError: nothing usable is there, or there is no such device or type.
    """
    chosen = device_for(device)
    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(wanted, torch.dtype) and wanted.is_floating_point):
        raise UserError(f"the dtype is {dtype!r}, expected 'float32', 'bfloat16', 'float16' or None; correct it")
    warn_of_slow_bfloat16(chosen, wanted)
    return ASR(Recognizer.read(path, chosen, wanted, head), find_tuned(path, head))
