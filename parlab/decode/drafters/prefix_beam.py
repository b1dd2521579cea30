"""The best text of CTC's prefix beam search, with n-grams or without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.draft import Draft, Posteriors
from parlab.decode.drafters.drafter import Drafter
from parlab.decode.fused.automaton import Automaton, file_stamp
from parlab.decode.fused.ngrams import ngram_automaton
from parlab.decode.fused.per_token import PerToken
from parlab.decode.prefixes import PrefixBeam, best_paths, check_beam, path_hypotheses, prefix_beam
from parlab.decode.search.frames import Automata
from parlab.errors import UserError
from parlab.text.padding import pad_tokens
from parlab.transfer import to_host
from parlab.types import Hypothesis


@dataclass(frozen=True)
class PrefixBeamDraft(Drafter):
    """The best prefix, by the sum over its alignments and by n-grams over CTC's tokens (a draft head's, where there is one).

    A token's confidence is its highest posterior until the next token, its frames are those around that peak in which it is the best
    label. N-grams change what is written and say nothing of how sure CTC is: the score is CTC's.

    Attributes:
        beam_size: prefixes kept per utterance.
        token_beam: tokens that may extend a prefix at a frame, the most probable ones.
        lm: ARPA or KenLM file; empty: none.
        lm_weight: of its log-probability.
        bonus: nats for each token, because n-grams prefer short texts.
    """

    name: ClassVar[str] = "prefix_beam"
    beam_size: int = 10
    token_beam: int = 20
    lm: str = ""
    lm_weight: float = 0.5
    bonus: float = 0.0

    def __post_init__(self) -> None:
        check_beam(self.beam_size, 1, self.token_beam)
        if not (self.lm_weight >= 0.0 and math.isfinite(self.bonus)):
            raise UserError(
                f"the drafter prefix_beam has lm_weight {self.lm_weight} and bonus {self.bonus}, expected a weight from 0 and a number "
                "of nats; correct them"
            )

    def check(self) -> None:
        if self.lm:
            file_stamp(self.lm)

    def draft(self, posteriors: Posteriors) -> Draft:
        log_probs, frames = posteriors.log_probs, posteriors.frames
        added: list[tuple[Automaton, float]] = []
        if self.lm and self.lm_weight:
            grams = ngram_automaton(self.lm, posteriors.tokens, posteriors.stop, log_probs.device)
            added.append((grams, self.lm_weight))
        if self.bonus:
            added.append((PerToken(log_probs.device), self.bonus))
        automata = Automata(tuple(a for a, _ in added), tuple(w for _, w in added), posteriors.stop, counted=False)
        options = PrefixBeam(self.beam_size, self.token_beam, automata=automata)
        paths = best_paths(prefix_beam(log_probs, frames, posteriors.blank, options), log_probs, nbest=1)
        *paths_read, labels, count = to_host(*paths, log_probs.argmax(-1), frames)  # the one wait for the device
        return _draft(path_hypotheses(paths_read, count, listed=False), labels, count)


def _draft(found: Sequence[Hypothesis], labels: Tensor, frames: Tensor) -> Draft:
    """Hypotheses whose tokens have one frame each as drafts.

    Args:
        labels: (B, T) the best label of each frame of ``frames`` (B,).
    """
    tokens, lengths = pad_tokens([h.tokens for h in found])
    size = max((len(h.tokens) for h in found), default=0)
    confidence = torch.ones(len(found), size)
    spans = torch.zeros(2, len(found), size, dtype=torch.long)
    for i, hypothesis in enumerate(found):
        if hypothesis.tokens:
            confidence[i, : len(hypothesis.tokens)] = torch.tensor(hypothesis.token_confidence)
            spans[:, i, : len(hypothesis.tokens)] = torch.tensor(_runs(hypothesis, labels[i].tolist())).T
    score = torch.tensor([h.score for h in found])
    return Draft(tokens[:, :size], lengths, confidence, spans[0], spans[1], frames, score)


def _runs(hypothesis: Hypothesis, labels: Sequence[int]) -> list[tuple[int, int]]:
    """First and last frame around each token's peak in which it is the best label; the peak alone where it is not that there."""
    peaks = [peak for peak, _ in hypothesis.token_frames]
    edges = [-1, *peaks, len(labels)]
    spans = []
    for token, before, peak, after in zip(hypothesis.tokens, edges, peaks, edges[2:], strict=False):
        first = last = peak
        while first - 1 > before and labels[first - 1] == token:
            first -= 1
        while last + 1 < after and labels[last + 1] == token:
            last += 1
        spans.append((first, last))
    return spans
