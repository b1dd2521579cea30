"""One setting on encoded utterances: errors, masks and work of each utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from parlab.decode import AR, PAR, Decoder
from parlab.metrics.wer import word_errors
from parlab.recognition.encodings import Encodings
from parlab.recognition.recognizer import Recognizer
from parlab.text.normalizer import Normalizer
from parlab.types import Hypothesis

# Tokens that a step costs besides its rows: it reads all weights of the decoder for few rows (benchmarks/README.md: 10 rows take
# as long on a CPU as 25 of 180 do; on a GPU a step costs more).
STEP = 10.0


@dataclass(frozen=True)
class Trial:
    """Results of a decoder on n utterances, sorted by id.

    Attributes:
        ids: of the utterances; ``speakers`` likewise, ``""`` where one is not known.
        errors, words: (n,) word errors, and words of the references.
        tokens, masked: (n,) draft tokens, and those that were masked; gaps have none.
        work: cost per draft token: tokens that the decoder read (a row of a search reads one a step), and ``STEP`` for each step.
        steps: of the searches, per draft token: those of an utterance follow one another.
        seconds: of encoding and decoding, as this run took them.
    """

    decoder: Decoder
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    errors: NDArray
    words: NDArray
    tokens: NDArray
    masked: NDArray
    work: float
    steps: float
    seconds: float

    @property
    def wer(self) -> float:
        """Word errors per word of the references."""
        return float(self.errors.sum() / max(self.words.sum(), 1))

    @property
    def masked_share(self) -> float:
        """Masked tokens per draft token."""
        return float(self.masked.sum() / max(self.tokens.sum(), 1))


@dataclass(frozen=True)
class Laboratory:
    """What trials share: a recognizer, encoded utterances that all have references, and the time that encoding them took (s)."""

    recognizer: Recognizer
    encodings: Encodings
    normalizer: Normalizer
    encode_seconds: float

    def decode(self, decoder: Decoder) -> dict[str, Hypothesis]:
        """The hypothesis of each utterance, by id, with text."""
        decoder.prepare(self.recognizer.model, self.recognizer.device)
        found: dict[str, Hypothesis] = {}
        for batch in self.encodings.on(self.recognizer.device):
            hypotheses = self.recognizer.decode(decoder, batch.encoded)
            for utterance, hypothesis in zip(batch.utterances, hypotheses, strict=True):
                found[utterance.id] = self.recognizer.named(hypothesis, utterance.id)
        return found

    def run(self, decoder: Decoder) -> Trial:
        """Decode everything with a decoder."""
        start = perf_counter()
        found = self.decode(decoder)
        seconds = self.encode_seconds + perf_counter() - start
        utterances = sorted((u for b in self.encodings.batches for u in b.utterances), key=lambda u: u.id)
        counts = [word_errors(self.normalizer(u.text or ""), self.normalizer(found[u.id].text)) for u in utterances]
        results = [found[u.id] for u in utterances]
        tokens, masked, steps = (
            np.array([float(h.counts.get(name, 0)) for h in results])
            for name in ("tokens", "masked_tokens", "decoder_steps")
        )
        total = max(tokens.sum(), 1.0)
        return Trial(
            decoder,
            tuple(u.id for u in utterances),
            tuple(u.speaker or "" for u in utterances),
            np.array([float(c.errors) for c in counts]),
            np.array([float(c.total) for c in counts]),
            tokens,
            masked,
            float(sum(_read(decoder, h) for h in results) + STEP * steps.sum()) / total,
            float(steps.sum()) / total,
            seconds,
        )


def _read(decoder: Decoder, hypothesis: Hypothesis) -> float:
    """Tokens that the decoder reads for an utterance: those of its passes, and a token per row and step.

    A segment's own steps are not counted; its utterance's are: the longest search of an utterance bounds them.
    """
    counts = hypothesis.counts
    steps = counts.get("decoder_steps", 0.0) * max(counts.get("segments", 1.0), 1.0)
    beam = decoder.beam_size if isinstance(decoder, (AR, PAR)) else 1
    passes = counts.get("decoder_passes", 0.0) if not isinstance(decoder, AR) else 0.0
    return passes * counts.get("tokens", 0.0) + steps * beam


def losses(trial: Trial, other: Trial, blocks: str) -> NDArray:
    """What ``trial`` loses against ``other``: the difference of the error rate of each unit, from -1 to 1.

    Args:
        blocks: the units: ``utterance`` or ``speaker``, whose utterances are pooled.
    """
    names: Sequence[str] = trial.ids if blocks == "utterance" else trial.speakers
    unit = np.unique(np.array(names), return_inverse=True)[1]
    difference, words = (np.bincount(unit, weights) for weights in (trial.errors - other.errors, trial.words))
    return np.clip(difference / np.maximum(words, 1.0), -1.0, 1.0)
