"""Fills judged by what follows them: WeNet's U2++ has a decoder that reads a text from its end, and has read a fill's right context."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Ended
from parlab.decode.filling.reading import Reading, joined
from parlab.decode.filling.text import Text, token_scores
from parlab.decode.prefill import Prefill
from parlab.decode.scorers.attention import AttentionScorer
from parlab.decode.segments import Segments
from parlab.transfer import to_device, to_host


@dataclass(frozen=True)
class Backward:
    """The pass of the decoder from right to left over texts, from their ends to their starts.

    A fill's log-probability is that of its tokens from its last to its first, and of the token before them (``<eos>`` at the start of
    a text), after all that follows the segment: the mirror image of the decoder's.

    Attributes:
        weight: its share in the decoder's score of a fill.
        prefill: of the texts, read from their ends.
        text: the texts from their ends to their starts.
        eos: stands before the first token.
    """

    weight: float
    prefill: Prefill
    text: Text
    eos: int

    def drafts(self, segments: Segments, attention: Tensor) -> Tensor:
        """Scores (S,) of the segments' own tokens by both decoders, of which ``attention`` (S,) is the other's; no step is made."""
        mirrored = self._mirrored(segments)
        scores = token_scores(self.prefill, self.text, mirrored, torch.ones_like(mirrored.start), self.eos)
        own = attention.new_zeros(len(segments)).index_add_(0, scores.segment, scores.own.to(attention.dtype))
        return torch.lerp(attention, own, self.weight)

    def judged(self, ended: Ended, decoder: AttentionScorer, segments: Segments, words: tuple[Tensor, Tensor]) -> Ended:
        """Ended hypotheses whose scores have both decoders in place of one, weighted as that one is; the steps are counted.

        Args:
            ended: n-best of S segments.
            decoder: from left to right, of the segments.
            words: (S, A) the tokens after each segment that ``ended`` scores, of which (S,) count; on the host.
        """
        # 1. The hypotheses that have ended, a row each, sorted by segment.
        asked, own = to_host((ended.score > NEVER) & ~ended.forced, ended.lengths)
        rows = asked.nonzero()
        if len(rows) == 0:
            return ended
        index, own = rows[:, 0], own[rows[:, 0], rows[:, 1]]
        mirrored = self._mirrored(segments)
        before = self.text.following(mirrored, torch.ones_like(mirrored.start), self.eos)
        start = self.prefill.prompt_lengths[segments.owner] + mirrored.start
        scorer = self.prefill.scorer(segments.owner, start, 1.0)
        device = decoder.hidden.device
        group, rank, length, following, before = to_device(device, *rows.unbind(1), own, words[0], before)
        fills = ended.tokens[group, rank]
        # 2. One decoder reads each fill and what follows, the other the fill from its end and what stands before it.
        zeros = torch.zeros_like(own)
        forth = Reading(index, zeros, own + words[1][index])
        back = Reading(index, zeros, own + 1)
        one = forth.scores(decoder, joined(fills, length, following[group]))
        turned = (length.unsqueeze(1) - 1 - torch.arange(fills.size(1), device=device)).clamp(min=0)
        turned = fills.gather(1, turned) if fills.size(1) else fills
        two = back.scores(scorer, joined(turned, length, before[group]))
        # 3. What the mixture has more or less than the first alone.
        score = ended.score.clone()
        score[group, rank] += decoder.weight * self.weight * (two - one)
        [read] = to_device(device, forth.total + back.total - 2)
        return replace(
            ended, score=score, steps=ended.steps + torch.zeros_like(ended.steps).scatter_reduce(0, group, read, "amax")
        )

    def _mirrored(self, segments: Segments) -> Segments:
        """The segments in the texts from their ends; what was on the right stands on the left."""
        size = self.text.lengths[segments.owner]
        start, end = size - segments.end, size - segments.start
        return replace(segments, start=start, end=end, left=segments.right, right=segments.left)
