"""Fusion: a decoder's options ``lm`` and ``phrases`` as scorers of rows, or as scores of given tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from parlab.decode.fused.automaton import Automaton, TokenRows
from parlab.decode.fused.ngrams import ngram_automaton
from parlab.decode.fused.phrases import Phrases, phrase_automaton, read_phrases
from parlab.decode.scorers import AnyScorer
from parlab.decode.scorers.automata import NgramScorer, PhraseScorer
from parlab.decode.scorers.language_model import LanguageModelScorer
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.model.language_model import LanguageModel, read_language_model
from parlab.text.padding import pad_tokens
from parlab.text.tokenizer import Tokenizer
from parlab.transfer import to_device


class Fused(Protocol):
    """The options of a decoder that are fused."""

    @property
    def lm(self) -> str | None: ...
    @property
    def lm_weight(self) -> float: ...
    @property
    def phrases(self) -> str | None: ...
    @property
    def phrase_weight(self) -> float: ...


@dataclass(frozen=True)
class Contexts:
    """What stands around G texts that are looked for.

    Attributes:
        before: the tokens before each, from the beginning of the utterance's text.
        after: what follows each: its stop token first, then the tokens of the utterance that come after it, ``<eos>`` at last.
    """

    before: TokenRows
    after: TokenRows

    @staticmethod
    def whole(count: int, eos: int) -> Contexts:
        """Of texts that are whole utterances."""
        return Contexts([()] * count, [(eos,)] * count)

    @property
    def stops(self) -> list[int]:
        """The stop token of each."""
        return [row[0] for row in self.after]


class Fusion(ABC):
    """What is added to the scores of texts, with its weight, on a device."""

    @abstractmethod
    def scorer(self, contexts: Contexts) -> AnyScorer:
        """The scorer of a search for G texts."""

    @abstractmethod
    def scores(self, contexts: Contexts, texts: TokenRows) -> Tensor:
        """What is added (N,) to the scores of N texts, their stop tokens included."""


@dataclass(frozen=True)
class LanguageFusion(Fusion):
    """Shallow fusion of a language model, which reads the start symbol ``sos`` first."""

    model: LanguageModel
    weight: float
    sos: int
    device: torch.device

    def scorer(self, contexts: Contexts) -> LanguageModelScorer:
        return LanguageModelScorer(self.model, self._begun(contexts), self.weight, self.device)

    def scores(self, contexts: Contexts, texts: TokenRows) -> Tensor:
        prefixes = self._begun(contexts)
        rows = [[*p, *text, stop] for p, text, stop in zip(prefixes, texts, contexts.stops, strict=True)]
        starts = torch.tensor([len(p) for p in prefixes])
        tokens, lengths, first = to_device(self.device, *pad_tokens(rows), starts)
        scores = (
            torch.log_softmax(self.model.scores(tokens[:, :-1]), -1).gather(2, tokens[:, 1:].unsqueeze(2)).squeeze(2)
        )
        position = torch.arange(1, tokens.size(1), device=self.device)
        counted = (position >= first.unsqueeze(1)) & (position < lengths.unsqueeze(1))
        return self.weight * scores.masked_fill(~counted, 0.0).sum(1)

    def _begun(self, contexts: Contexts) -> list[tuple[int, ...]]:
        return [(self.sos, *before) for before in contexts.before]


@dataclass(frozen=True)
class PhraseFusion(Fusion):
    """Boosts of phrases. What follows a text counts as far as a phrase may reach into it, less what it holds by itself."""

    phrases: Phrases
    weight: float

    def scorer(self, contexts: Contexts) -> PhraseScorer:
        first = self.phrases.after(contexts.before)
        after, lengths, alone = self._following(contexts)
        return PhraseScorer(self.phrases, first, after, lengths, alone, self.weight)

    def scores(self, contexts: Contexts, texts: TokenRows) -> Tensor:
        tokens, lengths = to_device(self.phrases.device, *pad_tokens(texts))
        inside, state = self.phrases.along(self.phrases.after(contexts.before), tokens, lengths)
        after, lengths, alone = self._following(contexts)
        return self.weight * (inside + self.phrases.along(state, after, lengths)[0] - alone)

    def _following(self, contexts: Contexts) -> tuple[Tensor, Tensor, Tensor]:
        """What follows each text (G, A), how much of it counts (G,), and what it adds by itself (G,)."""
        rows = [list(islice(row, self.phrases.memory)) for row in contexts.after]
        width = self.phrases.memory if any(len(row) > 1 for row in rows) else 1  # few widths: a graph serves all of one
        padded, lengths = pad_tokens(rows)
        padded = torch.nn.functional.pad(padded, (0, width - padded.size(1)))
        tokens, lengths = to_device(self.phrases.device, padded, lengths)
        root = torch.zeros_like(lengths)
        return tokens, lengths, self.phrases.along(root, tokens, lengths)[0]


@dataclass(frozen=True)
class NgramFusion(Fusion):
    """N-grams over tokens, among the candidates that the decoder ranks first."""

    ngrams: Automaton
    weight: float

    def scorer(self, contexts: Contexts) -> NgramScorer:
        return NgramScorer(self.ngrams, self.ngrams.after(contexts.before), self.weight)

    def scores(self, contexts: Contexts, texts: TokenRows) -> Tensor:
        rows = [[*text, stop] for text, stop in zip(texts, contexts.stops, strict=True)]
        tokens, lengths = to_device(self.ngrams.device, *pad_tokens(rows))
        return self.weight * self.ngrams.along(self.ngrams.after(contexts.before), tokens, lengths)[0]


def language_fusion(lm: str, weight: float, model: HybridModel, device: torch.device) -> Fusion:
    """A language model: n-grams of an ARPA file or of a binary file of KenLM, or the network in a folder.

    Raises:
        UserError: neither is there, or it does not fit the model's vocabulary.
    """
    if Path(lm).expanduser().is_file():
        return NgramFusion(ngram_automaton(lm, model.token_list, model.special.eos, device), weight)
    return LanguageFusion(read_language_model(lm, model.vocab_size, device), weight, model.special.sos, device)


def fusions(options: Fused, model: HybridModel, encoded: Encoded) -> tuple[Fusion, ...]:
    """What the options of a decoder fuse, on the device of the batch; files are read once per process.

    Raises:
        UserError: a file cannot be read, or does not fit the model's vocabulary.
    """
    found: list[Fusion] = []
    if options.lm is not None and options.lm_weight != 0:
        found.append(language_fusion(options.lm, options.lm_weight, model, encoded.device))
    if options.phrases is not None and options.phrase_weight != 0:
        phrases = phrase_automaton(options.phrases, tokenizer_of(encoded), model.vocab_size, encoded.device)
        found.append(PhraseFusion(phrases, options.phrase_weight))
    return tuple(found)


def tokenizer_of(encoded: Encoded) -> Tokenizer:
    """The tokenizer of a batch.

    Raises:
        UserError: it has none.
    """
    if encoded.tokenizer is None:
        raise UserError("phrases need the model's tokenizer, but the batch has none; encode it with a Recognizer")
    return encoded.tokenizer


def prepare_fusion(options: Fused, model: HybridModel, device: torch.device) -> None:
    """Read the files of the options before the first batch.

    Raises:
        UserError: one cannot be read, or is no such file.
    """
    if options.lm is not None and options.lm_weight != 0:
        language_fusion(options.lm, options.lm_weight, model, device)
    if options.phrases is not None:
        read_phrases(options.phrases)


def fused_scores(added: Sequence[Fusion], contexts: Contexts, texts: TokenRows) -> Tensor | float:
    """What all fusions together add (N,) to the scores of N texts; 0 without one."""
    total: Tensor | float = 0.0
    for fusion in added:
        total = total + fusion.scores(contexts, texts)
    return total
