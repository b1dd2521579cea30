"""Whisper's rules on the scores of its decoder: suppressed tokens, and where times may stand.

OpenAI's ``decoding.py`` and transformers' ``WhisperTimeStampLogitsProcessor`` have the same rules. A text with times begins with one;
times stand in pairs (one ends a part, the next begins one) except before the end, and never decrease. Where all times together
are more probable than any other token, a time comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.ended import NEVER
from parlab.decode.scorers import Rows, VocabularyScorer
from parlab.decode.scorers.attention import AttentionScorer, AttentionState, FixedAttention
from parlab.decode.search.plan import Plan
from parlab.model.hybrid import HybridModel
from parlab.text.s2t import S2TSymbols, WhisperRules
from parlab.transfer import numbers_on


@dataclass(frozen=True)
class WhisperState:
    """The decoder's state of N rows, and of each (N,): its tokens so far, the newest time or -1, whether a time is the newest
    token, or the one before it, and its group."""

    decoder: AttentionState
    count: Tensor
    newest: Tensor
    at_time: Tensor
    before_time: Tensor
    group: Tensor


@dataclass(frozen=True)
class WhisperScorer(VocabularyScorer[WhisperState]):
    """Decoder log-probabilities, minus infinity where the rules forbid a token.

    Attributes:
        decoder: scores without rules.
        symbols: ids of times, and how late the first may be.
        suppressed, begin_suppressed: (n,) and (m,) ids that are never written, or not first.
        timed: (G,) whether a group writes times; ``any_timed``: whether one does.
        stop: the token that ends a hypothesis.
        not_first: (G, m) which of ``begin_suppressed`` a group may not write first: those that begin a text.
        copies: rows that a group starts with.
    """

    decoder: AttentionScorer | FixedAttention
    symbols: S2TSymbols
    suppressed: Tensor
    begin_suppressed: Tensor
    timed: Tensor
    any_timed: bool
    stop: int
    not_first: Tensor
    copies: int = 1

    @property
    def weight(self) -> float:  # type: ignore[override]
        """The decoder's."""
        return self.decoder.weight

    def start(self) -> WhisperState:
        group = torch.arange(len(self.timed) * self.copies, device=self.timed.device) // self.copies
        none = torch.zeros_like(group)
        return WhisperState(self.decoder.start(), none, none - 1, none.bool(), none.bool(), group)

    def score(self, state: WhisperState) -> tuple[Tensor, Tensor]:
        logits, normalizer = self.decoder.score(state.decoder)
        logits = logits.index_fill(1, self.suppressed, NEVER)
        not_now = self.not_first[state.group] & (state.count == 0).unsqueeze(1)
        first = logits[:, self.begin_suppressed].masked_fill(not_now, NEVER)
        logits = logits.index_copy_(1, self.begin_suppressed, first)
        if self.any_timed:
            logits = self._with_times(logits, state)
        return logits, normalizer

    def advance(self, state: WhisperState, rows: Rows) -> WhisperState:
        first = self.symbols.first_time
        at_time = rows.tokens >= first if first is not None else torch.zeros_like(rows.tokens, dtype=torch.bool)
        return WhisperState(
            decoder=self.decoder.advance(state.decoder, rows),
            count=state.count[rows.parents] + 1,
            newest=torch.where(at_time, rows.tokens, state.newest[rows.parents]),
            at_time=at_time,
            before_time=state.at_time[rows.parents],
            group=rows.group,
        )

    def fixed(self, plan: Plan) -> WhisperScorer:
        assert isinstance(self.decoder, AttentionScorer), "a scorer of fixed shapes is made once"
        timed, not_first = self.timed[plan.source], self.not_first[plan.source]
        return replace(self, decoder=self.decoder.fixed(plan), timed=timed, not_first=not_first, copies=plan.beam)

    def with_room(self, state: WhisperState, size: int) -> WhisperState:
        assert isinstance(self.decoder, FixedAttention)
        return replace(state, decoder=self.decoder.with_room(state.decoder, size))

    def _with_times(self, logits: Tensor, state: WhisperState) -> Tensor:
        """The scores (N, V) of rows that write times."""
        first = self.symbols.first_time
        assert first is not None, "a prompt for times needs time symbols"
        ids = torch.arange(logits.size(1), device=logits.device)
        times = ids >= first
        # 1. After two times comes text; after one that ends a part, another time or the end.
        pair = state.before_time | (state.count < 2)
        forbidden = (state.at_time & pair).unsqueeze(1) & times
        closing = state.at_time & ~pair
        forbidden = forbidden | (closing.unsqueeze(1) & (ids < self.stop)) | (ids == self.symbols.notimestamps)
        # 2. Times do not decrease; only the one that begins a part may repeat the one before.
        least = torch.where(closing, state.newest, state.newest + 1).unsqueeze(1)
        forbidden = forbidden | (times & (ids < least))
        # 3. The first token is a time, and no late one.
        last = self.symbols.rules.last_initial if self.symbols.rules is not None else None
        late = ids > (last if last is not None else len(ids))
        forbidden = forbidden | ((state.count == 0).unsqueeze(1) & (~times | late))
        ruled = logits.masked_fill(forbidden, NEVER)
        # 4. A time comes where all of them together beat every other token.
        sum_of_times = torch.logsumexp(ruled[:, first:], 1)
        comes = sum_of_times > ruled[:, :first].amax(1)
        ruled = ruled.masked_fill(comes.unsqueeze(1) & ~times, NEVER)
        return torch.where(self.timed[state.group].unsqueeze(1), ruled, logits)


def own_rules(model: HybridModel) -> WhisperRules | None:
    """The rules that a model comes with, where it has some."""
    return model.s2t.rules if model.s2t is not None else None


def ruled(
    attention: AttentionScorer, model: HybridModel, timed: Sequence[bool], begins: Sequence[bool], suppress: bool = True
) -> AttentionScorer | WhisperScorer:
    """The decoder's scorer, under the model's own rules where it has some.

    Args:
        attention: of G groups.
        timed: which of them write times.
        begins: which of them begin a text.
        suppress: whether the tokens that the model is not to write are forbidden.
    """
    symbols, rules = model.s2t, own_rules(model)
    if symbols is None or rules is None:
        return attention
    never = (rules.suppressed, rules.begin_suppressed) if suppress else ((), ())
    suppressed, begin, times, first = numbers_on(attention.owner.device, *never, timed, begins)
    not_first = first.bool().unsqueeze(1).expand(-1, len(begin))
    return WhisperScorer(
        attention, symbols, suppressed, begin, times.bool(), any(timed), model.special.eos, not_first=not_first
    )


def ruled_fills(
    attention: AttentionScorer, model: HybridModel, begins: Sequence[bool], stop: Sequence[int]
) -> AttentionScorer | WhisperScorer:
    """The decoder's scorer of G fills under the model's own rules, which do not hold for their stop tokens: those stand in the text.

    Only the end of a text that would be empty is ruled out. What the model never writes the search bans (``SpecialTokens.never``),
    stop tokens left out.
    """
    scorer = ruled(attention, model, [False] * len(begins), begins)
    if not isinstance(scorer, WhisperScorer):
        return scorer
    [stops] = numbers_on(attention.owner.device, stop)
    free = (scorer.begin_suppressed == stops.unsqueeze(1)) & (scorer.begin_suppressed != scorer.stop)
    return replace(scorer, suppressed=scorer.suppressed[:0], not_first=scorer.not_first & ~free)
