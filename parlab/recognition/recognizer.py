"""The one way from waveforms to encoded batches to hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from parlab.decode import Decoder, default_decoder
from parlab.metrics.speed import Stopwatch
from parlab.model.encoded import Encoded
from parlab.model.families.weights import hash_model
from parlab.model.folder import read_model
from parlab.model.heads.folder import Head, read_head
from parlab.model.heads.reading import Reading, Speech, encode_and_read
from parlab.model.hybrid import HybridModel
from parlab.recognition.finite import NO_NUMBERS, find_usable, has_numbers
from parlab.recognition.padded import PaddedWaves
from parlab.recognition.prompting import Prompting, PromptOptions
from parlab.text.spoken import filled_tokens, spoken_words
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure, Hypothesis


@dataclass(frozen=True)
class Recognizer:
    """A model with its tokenizer on a device, and what is asked of it.

    Every method that takes a ``watch`` adds its time to the watch's phases: ``encode`` (padding and copies to the device
    among it), ``ctc`` and ``search``.
    """

    model: HybridModel
    tokenizer: Tokenizer
    device: torch.device
    prompting: Prompting = field(default_factory=Prompting)
    head: Head | None = None

    @staticmethod
    def read(
        model: str | Path, device: torch.device, dtype: torch.dtype | None = None, head: str | Path | None = None
    ) -> Recognizer:
        """Read a model (folder, checkpoint or hub id) onto a device.

        Args:
            dtype: of encoder and decoder; the front end and the head stay float32.
            head: folder of a draft head, which writes the draft in place of the model's CTC head.

        Raises:
            UserError: nothing usable is there.
        """
        net, tokenizer = read_model(model)
        drafting = read_head(head, net, tokenizer).on(device) if head is not None else None
        return Recognizer(net.to_device(device, dtype), tokenizer, device, head=drafting)

    def asked(self, options: PromptOptions) -> Recognizer:
        """The recognizer with other prompts.

        Raises:
            UserError: the model cannot do what is asked.
        """
        return replace(self, prompting=Prompting.of(self.model, self.tokenizer, options))

    def default_decoder(self, transcribes: bool = True) -> Decoder:
        """The decoder where none is named; ``transcribes`` as for ``parlab.decode.default_decoder``."""
        return default_decoder(self.model, transcribes, drafts=self.head is not None)

    def model_hash(self) -> str:
        """The hash of the model's weights, which a head was checked against when they were read; else computed."""
        return self.head.model_hash if self.head is not None else hash_model(self.model)

    def seconds(self, wave: Tensor) -> float:
        """Duration of a waveform (samples,)."""
        return len(wave) / self.model.sample_rate

    # ---- waveforms to an encoded batch ----------------------------------------------------------

    @torch.inference_mode()
    def encode(self, waves: Sequence[Tensor], watch: Stopwatch | None = None) -> Encoded:
        """Encode waveforms, each (samples,), as one batch; no output depends on its neighbours in the batch."""
        watch = watch or Stopwatch(self.device)
        with watch.phase("encode"):
            speech, lengths = PaddedWaves.of(waves).on(self.device)
        return self.encode_padded(speech, lengths, watch)

    @torch.inference_mode()
    def encode_padded(self, speech: Tensor, lengths: Tensor, watch: Stopwatch | None = None) -> Encoded:
        """Encode ``speech`` (B, samples) of ``lengths`` (B,), which lie on the device already."""
        watch = watch or Stopwatch(self.device)
        if self.head is None:
            return self.encode_and_read(speech, lengths, (), watch)[0]
        encoded, read = self.encode_and_read(speech, lengths, self.head.layers, watch)
        with watch.phase("ctc"):
            drafted = self.head.draft(read)
        return replace(encoded, drafted=drafted)

    @torch.inference_mode()
    def encode_and_read(
        self, speech: Tensor, lengths: Tensor, layers: Sequence[int], watch: Stopwatch | None = None
    ) -> tuple[Encoded, Reading]:
        """Encode as ``encode_padded`` does, without a draft head, and what a head of ``layers`` reads."""
        watch = watch or Stopwatch(self.device)
        with watch.phase("encode"):
            given = Speech(speech, lengths, self.prompting.for_encoder(self.model, len(lengths)))
            states, frames, read = encode_and_read(self.model, given, layers)
        with watch.phase("ctc"):
            ctc = self.model.ctc_log_probs(states) if self.model.ctc is not None else None
        with watch.phase("search"):  # the decoder may be asked for the language
            prompts = self.prompting.for_decoder(self.model, states, frames)
        return Encoded(states, frames, ctc, prompts, tokenizer=self.tokenizer), read

    # ---- an encoded batch to hypotheses ---------------------------------------------------------

    @torch.inference_mode()
    def decode(self, decoder: Decoder, encoded: Encoded, watch: Stopwatch | None = None) -> list[Hypothesis]:
        """Search: a hypothesis of tokens per utterance (``named`` adds text and times)."""
        with (watch or Stopwatch(self.device)).phase("search"):
            return decoder.decode(self.model, encoded)

    def named(self, hypothesis: Hypothesis, name: str) -> Hypothesis:
        """A hypothesis with its text and words, its id, and times in seconds where frames or time symbols tell them."""
        model = self.model
        before = model.prompt_frames
        step = model.frame_seconds
        spans = [(max(first - before, 0), max(last - before, 0)) for first, last in hypothesis.token_frames]
        timed = model.s2t.timed(hypothesis.tokens) if model.s2t is not None and not before else []
        token_times = tuple((round(first * step, 3), round((last + 1) * step, 3)) for first, last in spans)
        texts = [self.tokenizer.token_list[i] for i in hypothesis.tokens]
        filled = filled_tokens(len(texts), hypothesis.segments)
        single = self.tokenizer.token_type in {"word", "phn"}
        return replace(
            hypothesis,
            text=self.tokenizer.decode(hypothesis.tokens),
            id=name,
            token_times=token_times,
            words=tuple(spoken_words(texts, token_times, hypothesis.token_confidence, filled, single)),
            times=tuple((start, end, self.tokenizer.decode(tokens)) for start, end, tokens in timed),
        )

    # ---- waveforms to hypotheses ----------------------------------------------------------------

    def recognize(
        self, decoder: Decoder, waves: Sequence[Tensor], watch: Stopwatch | None = None
    ) -> list[Hypothesis | Failure]:
        """Decode waveforms, each (samples,), as one batch.

        Where the memory does not suffice, half of the batch is decoded at a time. A ``Failure`` (without id) stands for
        an utterance that alone is too large, or whose encoder output or scores are no numbers.
        """
        watch = watch or Stopwatch(self.device)
        try:
            encoded = self.encode(waves, watch)
            with watch.phase("ctc"):
                usable = find_usable(encoded)
            if usable and len(usable) < len(waves):
                encoded = encoded.select(usable)
            found = self.decode(decoder, encoded, watch) if usable else []
        except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises a plain one
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
        else:
            results: list[Hypothesis | Failure] = [Failure("", NO_NUMBERS)] * len(waves)
            for i, hypothesis in zip(usable, found, strict=True):
                results[i] = hypothesis if has_numbers(hypothesis) else Failure("", NO_NUMBERS)
            return results
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(waves) == 1:
            return [Failure("", _too_long(self.seconds(waves[0])))]
        middle = len(waves) // 2
        return self.recognize(decoder, waves[:middle], watch) + self.recognize(decoder, waves[middle:], watch)

    def warm_up(self, decoder: Decoder, waves: Sequence[Tensor]) -> None:
        """Decode a batch in vain: the first one pays for kernels and caches, and should not be timed."""
        self.recognize(decoder, waves)


def _too_long(seconds: float) -> str:
    return (
        f"the memory does not suffice for its {seconds:.0f} s of audio, expected less; cut it at pauses (--long_audio true, "
        "transcribe_long)"
    )
