"""Fills: what replaces a segment, chosen among the search's hypotheses and the draft."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.beam import Ended
from parlab.decode.draft import Draft
from parlab.decode.scorers import Rows
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, PrefixState
from parlab.decode.segments import Segments
from parlab.model.rows import RowDecoder


@dataclass(frozen=True)
class Fill:
    """The tokens for a segment, with the score that chose them and a confidence each."""

    tokens: tuple[int, ...]
    confidence: tuple[float, ...]
    score: float
    forced: bool
    steps: int


@dataclass(frozen=True)
class DraftScores:
    """Scores (S,) of the segments' own draft tokens and stop token, by the decoder and by CTC on the window."""

    attention: Tensor
    ctc: Tensor
    language: Tensor | float = 0.0  # weighted already

    def joint(self, ctc_weight: float, in_search: bool) -> Tensor:
        """(1 - w) * attention + w * CTC + language model, which shares the factor 1 - w where fills are rescored."""
        language = self.language if in_search else (1 - ctc_weight) * self.language
        return (1 - ctc_weight) * self.attention + ctc_weight * self.ctc + language


def score_drafts(
    decoder: RowDecoder,
    hidden: Tensor,
    draft: Draft,
    segments: Segments,
    prefix_length: Tensor,
    stop: Tensor,
    ctc: CTCPrefixScorer,
) -> DraftScores:
    """Score the draft of every segment from the teacher-forced pass alone; no decoder step is made."""
    count = segments.end - segments.start + 1  # the stop token counts
    segment = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    place = torch.arange(len(segment), device=count.device) - (count.cumsum(0) - count)[segment]
    owner = segments.owner[segment]
    column = (segments.start[segment] + place).clamp(max=max(draft.tokens.size(1) - 1, 0))
    wanted = torch.where(place + 1 == count[segment], stop[segment], draft.tokens[owner, column])
    logits = decoder.logits(hidden[owner, prefix_length[segment] - 1 + place])
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
    ended: Ended,
    segments: Segments,
    draft: Draft,
    drafts: DraftScores | None,
    ctc: CTCPrefixScorer | None,
    ctc_weight: float,
    in_search: bool,
    normalize: bool,
) -> list[Fill]:
    """Choose each segment's fill; with CTC the draft is a candidate, and nothing is forced over it."""
    score = ended.score
    if ctc is not None:
        score = score.masked_fill(ended.forced, float("-inf"))
        if not in_search:
            score = _rescored(ended, ctc, ctc_weight)
    length = ended.lengths + 1
    rank = score / length if normalize else score
    best = rank.argmax(1)
    rows = torch.arange(len(best), device=best.device)
    keep_draft = torch.zeros_like(best, dtype=torch.bool)
    chosen = score[rows, best]
    if drafts is not None:
        own = drafts.joint(ctc_weight, in_search)
        own_rank = own / (segments.end - segments.start + 1) if normalize else own
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
