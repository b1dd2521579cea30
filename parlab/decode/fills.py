"""Fills: what replaces a segment, chosen among the search's hypotheses and the draft."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.draft import Draft
from parlab.decode.ended import Ended
from parlab.decode.prefill import Prefill
from parlab.decode.scorers import Rows
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, PrefixState
from parlab.decode.segments import Segments


@dataclass(frozen=True)
class Fill:
    """The tokens for a segment, with the score that chose them and a confidence each."""

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
        length_normalize: choose by score per token, the stop token included.
    """

    ctc: CTCPrefixScorer | None
    ctc_weight: float
    in_search: bool
    length_normalize: bool


@dataclass(frozen=True)
class DraftScores:
    """Scores (S,) of the segments' own draft tokens and stop tokens.

    Attributes:
        attention: the decoder's log-probability.
        ctc: CTC's log-probability on the window.
        language: the language model's log-probability times its weight, as a search adds it; 0 without one.
    """

    attention: Tensor
    ctc: Tensor
    language: Tensor | float = 0.0

    def joint(self, scoring: FillScoring) -> Tensor:
        """What a fill of the same tokens would score."""
        w = scoring.ctc_weight
        if scoring.in_search:
            return (1 - w) * self.attention + w * self.ctc + self.language
        return (1 - w) * (self.attention + self.language) + w * self.ctc  # of the search's score only 1 - w counts


def score_drafts(prefill: Prefill, draft: Draft, segments: Segments, stop: Tensor, ctc: CTCPrefixScorer) -> DraftScores:
    """Score the draft of every segment from the teacher-forced pass alone; no decoder step is made.

    ``stop`` (S,) is each segment's stop token, which counts.
    """
    count = segments.end - segments.start + 1
    segment = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    place = torch.arange(len(segment), device=count.device) - (count.cumsum(0) - count)[segment]
    owner = segments.owner[segment]
    column = (segments.start[segment] + place).clamp(max=max(draft.tokens.size(1) - 1, 0))
    wanted = torch.where(place + 1 == count[segment], stop[segment], draft.tokens[owner, column])
    before = prefill.prompt_lengths[owner] + segments.start[segment] - 1
    logits = prefill.decoder.logits(prefill.hidden[owner, before + place])
    scores = logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - torch.logsumexp(logits, 1)
    attention = scores.new_zeros(len(count)).index_add_(0, segment, scores)
    tokens = [
        draft.tokens[segments.owner, (segments.start + i).clamp(max=draft.tokens.size(1) - 1)]
        for i in range(int(count.max()) - 1)
    ]
    return DraftScores(attention, window_scores(ctc, tokens, count - 1))


def window_scores(ctc: CTCPrefixScorer, tokens: list[Tensor], lengths: Tensor, group: Tensor | None = None) -> Tensor:
    """CTC log-probability (N,) that row n's window holds exactly its first ``lengths[n]`` tokens.

    ``tokens`` lists the rows' first, second, ... tokens, each (N,); ``group`` (N,) names their windows.
    """
    state = ctc.start()
    group = torch.arange(len(lengths), device=lengths.device) if group is None else group
    state = PrefixState(state.ends_token[group], state.ends_blank[group], state.last[group], state.score[group], group)
    total = torch.where(lengths == 0, ctc.total(state), float("-inf"))
    rows = torch.arange(len(lengths), device=lengths.device)
    for i, column in enumerate(tokens):
        state = ctc.advance(state, Rows(rows, column, group))
        total = torch.where(lengths == i + 1, ctc.total(state), total)
    return total.float()


def best_fills(
    ended: Ended, segments: Segments, draft: Draft, drafts: DraftScores | None, scoring: FillScoring
) -> list[Fill]:
    """Choose each segment's fill; with CTC (``drafts``) the draft is a candidate, and nothing is forced over it."""
    score = ended.score
    if scoring.ctc is not None:
        score = score.masked_fill(ended.forced, float("-inf"))
        if not scoring.in_search:
            score = _rescored(ended, scoring.ctc, scoring.ctc_weight)
    # The best hypothesis of the search ...
    rank = score / (ended.lengths + 1) if scoring.length_normalize else score
    best = rank.argmax(1)
    rows = torch.arange(len(best), device=best.device)
    chosen = score[rows, best]
    # ... unless the draft is as good.
    keep_draft = torch.zeros_like(best, dtype=torch.bool)
    if drafts is not None:
        own = drafts.joint(scoring)
        own_rank = own / (segments.end - segments.start + 1) if scoring.length_normalize else own
        keep_draft = own_rank >= rank[rows, best]
        chosen = torch.where(keep_draft, own, chosen)
    columns = zip(
        segments.owner.tolist(),
        segments.start.tolist(),
        segments.end.tolist(),
        keep_draft.tolist(),
        chosen.tolist(),
        ended.tokens[rows, best].tolist(),
        ended.token_scores[rows, best].exp().tolist(),
        ended.lengths[rows, best].tolist(),
        ended.forced[rows, best].tolist(),
        ended.steps.tolist(),
        strict=True,
    )
    fills = []
    for owner, start, end, keep, value, tokens, confidence, n, forced, steps in columns:
        if keep:
            tokens, confidence = draft.tokens[owner, start:end].tolist(), draft.confidence[owner, start:end].tolist()
            n, forced = end - start, False
        fills.append(Fill(tuple(tokens[:n]), tuple(confidence[:n]), value, bool(forced), steps))
    return fills


def _rescored(ended: Ended, ctc: CTCPrefixScorer, ctc_weight: float) -> Tensor:
    """(1 - w) * search score + w * CTC on the window, for all n-best of all segments in one call."""
    groups, nbest, size = ended.tokens.shape
    group = torch.arange(groups, device=ended.tokens.device).repeat_interleave(nbest)
    tokens = list(ended.tokens.view(groups * nbest, size).unbind(1))
    total = window_scores(ctc, tokens, ended.lengths.flatten(), group).view(groups, nbest)
    score = (1 - ctc_weight) * ended.score + ctc_weight * total
    return score.masked_fill((ended.score == float("-inf")) | ended.forced, float("-inf"))
