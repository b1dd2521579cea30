"""Fills: what replaces a segment, chosen among the search's hypotheses and the draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain

import torch
from torch import Tensor

from parlab.decode.ended import Ended
from parlab.decode.filling.text import Text, token_scores
from parlab.decode.prefill import Prefill
from parlab.decode.scorers import Rows
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer
from parlab.decode.scorers.letters import LetterScorer
from parlab.decode.segments import Segments
from parlab.transfer import to_device, to_host

WindowScorer = CTCPrefixScorer | LetterScorer


@dataclass(frozen=True)
class Fill:
    """What replaces a segment.

    Attributes:
        tokens, confidence: ids, with a probability each.
        score: the score that chose them.
        forced: no hypothesis emitted the stop token in time.
        steps: decoder steps of the segment's search.
    """

    tokens: tuple[int, ...]
    confidence: tuple[float, ...]
    score: float
    forced: bool
    steps: int


@dataclass(frozen=True)
class FillScoring:
    """How the fills of segments are scored.

    Attributes:
        ctc: scores a fill over its segment's window of frames; None leaves CTC out.
        ctc_weight: w of (1 - w) * decoder + w * CTC.
        in_search: whether CTC scored every step of the search, or is added to its n-best.
        length_normalize: choose by score per token, the stop token (or the next word) included.
        after: (S,) tokens after each segment whose scores count: 1, the stop token, or those of the next word; on the host.
        temperature: by which the logarithms of the tokens' confidences are divided; it chooses nothing.
    """

    ctc: WindowScorer | None
    ctc_weight: float
    in_search: bool
    length_normalize: bool
    after: Tensor
    temperature: float = 1.0


@dataclass(frozen=True)
class DraftScores:
    """Scores (S,) of the segments' own draft tokens and stop tokens.

    Attributes:
        attention: the decoder's log-probability.
        ctc: CTC's log-probability on the window.
        fused: what a language model and phrases add, weighted; 0 without them.
    """

    attention: Tensor
    ctc: Tensor
    fused: Tensor | float = 0.0

    def joint(self, scoring: FillScoring) -> Tensor:
        """The score (S,) that a fill of the same tokens would have."""
        w = scoring.ctc_weight
        if scoring.in_search:
            return (1 - w) * self.attention + w * self.ctc + self.fused
        return (1 - w) * (self.attention + self.fused) + w * self.ctc  # of the search's score only 1 - w counts


def score_drafts(prefill: Prefill, text: Text, segments: Segments, scoring: FillScoring, eos: int) -> DraftScores:
    """Score the segments' own tokens, and what follows them, from the teacher-forced pass alone.

    Args:
        segments: on the host.
        scoring: with CTC.
    """
    assert scoring.ctc is not None
    scores = token_scores(prefill, text, segments, scoring.after, eos)
    own, length = to_device(scores.own.device, text.own(segments), segments.end - segments.start)
    attention = scores.own.new_zeros(len(length)).index_add_(0, scores.segment, scores.own)
    return DraftScores(attention, window_scores(scoring.ctc, list(own.unbind(1)), length))


def window_scores(ctc: WindowScorer, tokens: list[Tensor], lengths: Tensor, group: Tensor | None = None) -> Tensor:
    """CTC log-probability (N,) that row n's window holds exactly its first ``lengths[n]`` tokens.

    Args:
        tokens: the rows' first, second, ... tokens, each (N,).
        lengths: (N,) tokens that count.
        group: (N,) window of each row; by default row n has window n.
    """
    group = torch.arange(len(lengths), device=lengths.device) if group is None else group
    if isinstance(ctc, LetterScorer):
        return ctc.totals(tokens, lengths, group).float()
    state = ctc.rows(group)
    total = torch.where(lengths == 0, ctc.total(state), float("-inf"))
    rows = torch.arange(len(lengths), device=lengths.device)
    for i, column in enumerate(tokens):
        state = ctc.advance(state, Rows(rows, column, group))
        total = torch.where(lengths == i + 1, ctc.total(state), total)
    return total.float()


@dataclass(frozen=True)
class Choice:
    """The winners of S segments, where the search was made.

    Attributes:
        keep_draft: (S,) true where the draft is as good as every hypothesis of the search, or none is left.
        score: (S,) the winner's.
        tokens, chances: (S, L) the best hypothesis of the search, of which ``lengths`` (S,) tokens count.
        forced: (S,) its stop token was appended unscored.
        steps: (S,) decoder steps.
    """

    keep_draft: Tensor
    score: Tensor
    tokens: Tensor
    chances: Tensor
    lengths: Tensor
    forced: Tensor
    steps: Tensor


def choose_fills(ended: Ended, segments: Segments, drafts: DraftScores | None, scoring: FillScoring) -> Choice:
    """Choose each segment's fill; with CTC (``drafts``) the draft is a candidate, and nothing is forced over it.

    Args:
        ended: n-best of the search, a group per segment.
        segments: on the host.
        drafts: scores of the segments' drafts; None leaves them out.
    """
    best, keep_draft, score = _choose(ended, segments, drafts, scoring)
    rows = torch.arange(len(best), device=best.device)
    tokens = ended.tokens[rows, best]
    scores = ended.token_scores[rows, best] / scoring.temperature
    chances = scores.exp().clamp(max=1.0)  # boosts are no chances
    lengths, forced = ended.lengths[rows, best], ended.forced[rows, best]
    return Choice(keep_draft, score, tokens, chances, lengths, forced, ended.steps)


def read_fills(choices: Sequence[Choice], own: Sequence[Fill]) -> list[Fill]:
    """The fills of all segments, read from the device at once.

    Args:
        choices: winners of the segments, in parts that follow one another.
        own: what each segment holds: its draft, or its fill so far.
    """
    numbers = to_host(*(getattr(choice, field.name) for choice in choices for field in fields(Choice)))
    size = len(fields(Choice))
    parts = (zip(*(x.tolist() for x in numbers[i : i + size]), strict=True) for i in range(0, len(numbers), size))
    fills = []
    for kept, (keep, score, tokens, chances, n, forced, steps) in zip(own, chain(*parts), strict=True):
        if keep:
            fills.append(Fill(kept.tokens, kept.confidence, score, False, steps))
        else:
            fills.append(Fill(tuple(tokens[:n]), tuple(chances[:n]), score, forced, steps))
    return fills


def _choose(
    ended: Ended, segments: Segments, drafts: DraftScores | None, scoring: FillScoring
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of S segments: the best hypothesis of the search, whether the draft is as good, and the winner's score."""
    score = ended.score
    if scoring.ctc is not None:
        score = score.masked_fill(ended.forced, float("-inf"))
        if not scoring.in_search:
            score = _rescored(ended, scoring.ctc, scoring.ctc_weight)
    # The best hypothesis of the search ...
    rank = score
    if scoring.length_normalize:
        [after] = to_device(score.device, scoring.after)
        rank = score / (ended.lengths + after.unsqueeze(1))
    best = rank.argmax(1)
    rows = torch.arange(len(best), device=best.device)
    chosen = score[rows, best]
    if drafts is None:  # unscored, the draft stays where every hypothesis was dropped
        lost = chosen == float("-inf")
        return best, lost, chosen.masked_fill(lost, 0.0)
    # ... unless the draft is as good.
    own = drafts.joint(scoring)
    own_rank = own
    if scoring.length_normalize:
        [length] = to_device(own.device, segments.end - segments.start + scoring.after)
        own_rank = own / length
    keep_draft = own_rank >= rank[rows, best]
    return best, keep_draft, torch.where(keep_draft, own, chosen)


def _rescored(ended: Ended, ctc: WindowScorer, ctc_weight: float) -> Tensor:
    """(1 - w) * search score + w * CTC on the window, for all n-best of all segments in one call."""
    groups, nbest, size = ended.tokens.shape
    group = torch.arange(groups, device=ended.tokens.device).unsqueeze(1).expand(groups, nbest).flatten()
    tokens = list(ended.tokens.view(groups * nbest, size).unbind(1))
    total = window_scores(ctc, tokens, ended.lengths.flatten(), group).view(groups, nbest)
    score = (1 - ctc_weight) * ended.score + ctc_weight * total
    return score.masked_fill((ended.score == float("-inf")) | ended.forced, float("-inf"))
