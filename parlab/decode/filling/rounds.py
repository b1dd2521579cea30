"""Rounds of filling: which segments are searched together, and what each of them sees before it.

A round searches segments in waves. With the context ``"draft"`` one wave has all of them; with ``"fills"`` wave i has the i-th segment of
every utterance, so that each sees the fills before it. Before a wave the decoder passes over the texts as they are then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from parlab.decode.filling.drafting import Drafting
from parlab.decode.filling.segment_search import Part, SegmentSearch
from parlab.decode.filling.text import Text, token_scores
from parlab.decode.fills import Fill, read_fills
from parlab.decode.prefill import Prefill
from parlab.decode.segments import Segments
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.transfer import to_host

CONTEXTS = ("draft", "fills")


@dataclass(frozen=True)
class RoundOptions:
    """Options of ``par`` that say in which order segments are searched.

    Attributes:
        context: what a segment sees before it: ``"draft"`` or ``"fills"``.
        rounds: of drafting, masking and filling.
        threshold: fills whose tokens the decoder gives less are searched again in the next round.
        parallel: segments searched at a time, -1 for all.
    """

    context: str
    rounds: int
    threshold: float
    parallel: int


@dataclass
class Progress:
    """The fills so far, and what the decoder has done for each utterance.

    Attributes:
        fills: of the S segments, at first their drafts.
        passes, steps: decoder passes and steps of each of B utterances.
    """

    fills: list[Fill]
    passes: list[int]
    steps: list[int]


@dataclass(frozen=True)
class Written:
    """What is written at a time: the B texts, and where each segment starts in its text."""

    texts: list[list[int]]
    starts: list[int]


class Rounds:
    """The filling of a batch.

    Args:
        segments: of the drafts, on the host.
        drafted: the decoder's pass over the drafts of all utterances, where it was made already.
    """

    def __init__(
        self,
        search: SegmentSearch,
        encoded: Encoded,
        segments: Segments,
        options: RoundOptions,
        drafted: Prefill | None = None,
    ):
        self.search, self.encoded, self.segments, self.options = search, encoded, segments, options
        self.drafted = drafted
        self.drafting: Drafting = search.drafting
        self.owners: list[int] = segments.owner.tolist()
        self.starts: list[int] = segments.start.tolist()
        self.ends: list[int] = segments.end.tolist()
        self.after = self.drafting.word_lengths[segments.owner, segments.end]
        self.left, self.right = self.drafting.neighbours(segments)
        count = len(self.drafting.greedy)
        drafts = []
        for owner, start, end in zip(self.owners, self.starts, self.ends, strict=True):
            draft = self.drafting.greedy[owner]
            drafts.append(Fill(draft.tokens[start:end], draft.token_confidence[start:end], 0.0, False, 0))
        self.progress = Progress(drafts, [0 if drafted is None else 1] * count, [0] * count)

    def run(self) -> Progress:
        """Search all segments in the first round, the unsure ones in the following rounds."""
        chosen = list(range(len(self.segments)))
        for index in range(self.options.rounds):
            before = [fill.tokens for fill in self.progress.fills]
            prefill = self.drafted if index == 0 else None
            if index > 0:
                now = self._written()
                prefill = self._pass(chosen, now)
                chosen = self._unsure(prefill, self._fitting(chosen, now), now)
            for wave in self._waves(chosen):
                now = self._written()
                if fitting := self._fitting(wave, now):
                    self._fill(fitting, self._pass(fitting, now) if prefill is None else prefill, now)
                    prefill = None
            # A fill depends on the fills of its own utterance only: one whose fills all stayed is done.
            changed = {self.owners[i] for i in chosen if self.progress.fills[i].tokens != before[i]}
            chosen = [i for i, owner in enumerate(self.owners) if owner in changed]
            if not chosen:
                break
        return self.progress

    # ---- texts as they are now ----------------------------------------------------------------------

    def _written(self) -> Written:
        """The texts with the fills in place of the segments."""
        texts: list[list[int]] = [[] for _ in self.drafting.greedy]
        kept = [0] * len(texts)
        starts = []
        for i, owner in enumerate(self.owners):
            tokens = self.drafting.greedy[owner].tokens
            texts[owner] += tokens[kept[owner] : self.starts[i]]
            starts.append(len(texts[owner]))
            texts[owner] += self.progress.fills[i].tokens
            kept[owner] = self.ends[i]
        for owner, draft in enumerate(self.drafting.greedy):
            texts[owner] += draft.tokens[kept[owner] :]
        return Written(texts, starts)

    def _pass(self, chosen: Sequence[int], now: Written) -> Prefill:
        """One teacher-forced pass over the texts of the chosen segments' utterances."""
        owners = list(dict.fromkeys(self.owners[i] for i in chosen))
        for owner in owners:
            self.progress.passes[owner] += 1
        return pass_over(self.search.model, self.encoded, now.texts, owners)

    def _part(self, chosen: Sequence[int], now: Written) -> tuple[Text, Part]:
        """The texts, and the chosen segments in them."""
        index = torch.tensor(list(chosen), dtype=torch.long)
        start = torch.tensor([now.starts[i] for i in chosen], dtype=torch.long)
        length = torch.tensor([len(self.progress.fills[i].tokens) for i in chosen], dtype=torch.long)
        segments = replace(self.segments.select(index), start=start, end=start + length)
        drafted = (self.segments.end - self.segments.start)[index]
        return Text.of(now.texts), Part(segments, drafted, self.after[index], self.left[index], self.right[index])

    def _fitting(self, chosen: Sequence[int], now: Written) -> list[int]:
        """The chosen segments that the decoder has positions for, with the tokens after them; the others stay as they are."""
        positions = self.search.model.rows.spec.max_positions
        if positions is None:
            return list(chosen)
        after = self.after.tolist()

        def fits(i: int) -> bool:
            own = max(len(self.progress.fills[i].tokens), 1)
            return len(self.encoded.prompts[self.owners[i]]) + now.starts[i] + own + after[i] <= positions

        return [i for i in chosen if fits(i)]

    # ---- which segments, and their search -----------------------------------------------------------

    def _waves(self, chosen: Sequence[int]) -> list[list[int]]:
        """The chosen segments in the order of their search."""
        if self.options.context == "draft":
            return [list(chosen)] if chosen else []
        waves: list[list[int]] = []
        rank: dict[int, int] = {}
        for i in chosen:
            number = rank.get(self.owners[i], 0)
            rank[self.owners[i]] = number + 1
            if number == len(waves):
                waves.append([])
            waves[number].append(i)
        return waves

    def _unsure(self, prefill: Prefill, chosen: Sequence[int], now: Written) -> list[int]:
        """The segments of which the decoder, after all fills, gives a token or the stop token less than the threshold."""
        text, part = self._part(chosen, now)
        ones = torch.ones_like(part.after)
        scores, segment = token_scores(prefill, text, part.segments, ones, self.search.model.special.eos)
        least = scores.new_zeros(len(part)).scatter_reduce_(0, segment, scores, "amin")
        [sure] = to_host(least.exp() >= self.options.threshold)
        return [i for i, kept in zip(chosen, sure.tolist(), strict=True) if not kept]

    def _fill(self, wave: Sequence[int], prefill: Prefill, now: Written) -> None:
        """Search the segments of a wave, all at once or some at a time."""
        text, part = self._part(wave, now)
        size = len(part) if self.options.parallel < 0 else self.options.parallel
        owners = list(dict.fromkeys(self.owners[i] for i in wave))
        backward = self.search.backward(self.encoded, now.texts, owners)
        for owner in owners if backward is not None else []:
            self.progress.passes[owner] += 1
        choices = [
            self.search.fill(prefill, text, part.chunk(i, i + size), backward) for i in range(0, len(part), size)
        ]
        longest: dict[int, int] = {}
        for i, fill in zip(wave, read_fills(choices, [self.progress.fills[i] for i in wave]), strict=True):
            longest[self.owners[i]] = max(longest.get(self.owners[i], 0), fill.steps)
            self.progress.fills[i] = fill
        for owner, steps in longest.items():
            self.progress.steps[owner] += steps


def pass_over(
    model: HybridModel, encoded: Encoded, texts: Sequence[Sequence[int]], utterances: Sequence[int] | None = None
) -> Prefill:
    """One teacher-forced pass over the texts (B) of the given utterances, or of all, as far as the decoder has positions."""
    positions = model.rows.spec.max_positions
    if positions is not None:
        room = [positions - len(prompt) for prompt in encoded.prompts]
        texts = [text[:n] for text, n in zip(texts, room, strict=True)]
    return Prefill.of(model.rows, encoded, texts, utterances)
