"""Rounds of filling: which segments are searched together, and what each of them sees before it.

A round searches segments in waves. With the context ``"draft"`` one wave has all of them; with ``"fills"`` wave i has the i-th segment of
every utterance, so that each sees the fills before it. Before a wave the decoder passes over the texts as they are then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from parlab.decode.filling.backward import Backward
from parlab.decode.filling.drafting import Drafting
from parlab.decode.filling.judged import judged
from parlab.decode.filling.segment_search import Part, SegmentSearch
from parlab.decode.filling.text import Text
from parlab.decode.filling.written import Place, Spot, Written, drafted_fill, joined, places
from parlab.decode.fills import Fill, read_fills
from parlab.decode.masking import Masks
from parlab.decode.prefill import Passed, Prefill, pass_over
from parlab.decode.segments import Segments, find_segments
from parlab.model.encoded import Encoded

CONTEXTS = ("draft", "fills")


@dataclass(frozen=True)
class RoundOptions:
    """Options of ``par`` that say in which order segments are searched.

    Attributes:
        context: what a segment sees before it: ``"draft"`` or ``"fills"``.
        rounds: of drafting, masking and filling.
        threshold: tokens to which the decoder gives less are masked in the next round; ``mask_unit``: whether with their words.
        widen: a segment with a token to which the decoder gives less than this share of what it gives its best one takes the next
            token in.
        parallel: segments searched at a time, -1 for all.
    """

    context: str
    rounds: int
    threshold: float
    widen: float
    mask_unit: str
    parallel: int


@dataclass
class Progress:
    """The fills so far, and what the decoder has done for each utterance.

    Attributes:
        segments: that are filled; a round may add and join some.
        fills: of the S segments, at first their drafts.
        passes, steps: decoder passes and steps of each of B utterances.
    """

    segments: Segments
    fills: list[Fill]
    passes: list[int]
    steps: list[int]


class Rounds:
    """The filling of a batch.

    Args:
        segments: of the drafts, on the host.
        passed: the decoder's passes over the drafts that were made already.
    """

    def __init__(
        self,
        search: SegmentSearch,
        encoded: Encoded,
        segments: Segments,
        options: RoundOptions,
        passed: Passed,
    ):
        self.search, self.encoded, self.options = search, encoded, options
        self.drafted, self.earlier = passed.drafts, passed.caches
        self.drafting: Drafting = search.drafting
        self.backward: Backward | None = None
        self.seen: dict[Place, Spot] = {}  # where a segment stood when it was searched last
        self.progress = Progress(segments, [], list(passed.counts), [0] * len(self.drafting.greedy))
        self._take(segments, [drafted_fill(self.drafting.greedy, place) for place in places(segments)])

    def _take(self, segments: Segments, fills: list[Fill]) -> None:
        """Go on with these segments."""
        self.segments = self.progress.segments = segments
        self.progress.fills = fills
        self.places = places(segments)
        self.after = self.drafting.word_lengths[segments.owner, segments.end]
        self.left, self.right = self.drafting.neighbours(segments)
        self.sizes = self.search.sizes_of(segments)

    def run(self) -> Progress:
        """Search all segments in the first round; in the following ones mask again, and search what has another text before it."""
        chosen, prefill = list(range(len(self.segments))), self.drafted
        owners: list[int] = []  # utterances whose texts have changed
        for index in range(self.options.rounds):
            if index > 0:
                prefill = self._pass(owners, now := self._written())
                chosen = self._mask_again(owners, prefill, now)
            last = index + 1 == self.options.rounds
            before = [] if last else self._written().texts
            for wave in self._waves(chosen):
                now = self._written()
                if fitting := self._fitting(wave, now):
                    self._fill(fitting, self._pass(self._owners(fitting), now) if prefill is None else prefill, now)
                    prefill = None
            if last:
                break
            # An utterance depends on itself only: one whose text stayed is done.
            after = self._written().texts
            owners = [i for i in self._owners(chosen) if after[i] != before[i]]
            if not owners:
                break
        return self.progress

    def _owners(self, chosen: Sequence[int]) -> list[int]:
        """The utterances of segments."""
        return list(dict.fromkeys(self.places[i].owner for i in chosen))

    # ---- texts as they are now ----------------------------------------------------------------------

    def _written(self) -> Written:
        """The texts with the fills in place of the segments."""
        return Written.of(self.drafting.greedy, self.places, self.progress.fills)

    def _spot(self, i: int, now: Written) -> Spot:
        """Where a segment stands."""
        start = now.starts[i]
        return Spot(now.texts[self.places[i].owner], start, start + len(self.progress.fills[i].tokens))

    def _pass(self, owners: Sequence[int], now: Written) -> Prefill:
        """One teacher-forced pass over the texts of utterances."""
        for owner in owners:
            self.progress.passes[owner] += 1
        found = pass_over(self.search.model, self.encoded, now.texts, owners, self.earlier)
        self.earlier = self.earlier or found  # the first pass is over all utterances with segments
        return found

    def _part(self, chosen: Sequence[int], now: Written) -> tuple[Text, Part]:
        """The texts, and the chosen segments in them."""
        index = torch.tensor(list(chosen), dtype=torch.long)
        start = torch.tensor([now.starts[i] for i in chosen], dtype=torch.long)
        length = torch.tensor([len(self.progress.fills[i].tokens) for i in chosen], dtype=torch.long)
        segments = replace(self.segments.select(index), start=start, end=start + length)
        drafted = (self.segments.end - self.segments.start)[index]
        numbers = (x[index] for x in (self.sizes, self.after, self.left, self.right))
        return Text.of(now.texts), Part(segments, drafted, *numbers)

    def _fitting(self, chosen: Sequence[int], now: Written) -> list[int]:
        """The chosen segments that the decoder has positions for, with the tokens after them; the others stay as they are."""
        positions = self.search.model.rows.spec.max_positions
        if positions is None:
            return list(chosen)
        after = self.after.tolist()

        def fits(i: int) -> bool:
            own = max(len(self.progress.fills[i].tokens), 1)
            return len(self.encoded.prompts[self.places[i].owner]) + now.starts[i] + own + after[i] <= positions

        return [i for i in chosen if fits(i)]

    # ---- which segments, and their search -----------------------------------------------------------

    def _waves(self, chosen: Sequence[int]) -> list[list[int]]:
        """The chosen segments in the order of their search."""
        if self.options.context == "draft":
            return [list(chosen)] if chosen else []
        waves: list[list[int]] = []
        rank: dict[int, int] = {}
        for i in chosen:
            number = rank.get(self.places[i].owner, 0)
            rank[self.places[i].owner] = number + 1
            if number == len(waves):
                waves.append([])
            waves[number].append(i)
        return waves

    def _mask_again(self, owners: Sequence[int], prefill: Prefill, now: Written) -> list[int]:
        """Mask what the decoder, after all fills, gives less than the threshold; the segments that are to be searched."""
        options = self.options
        found = judged(prefill, {i: now.texts[i] for i in owners}, self.search.model.special.eos)
        # 1. Draft tokens that were sure become masks, and their words.
        size = self.drafting.draft.tokens.shape
        masked, gaps = (torch.zeros(size[0], size[1] + i, dtype=torch.bool) for i in (0, 1))
        for owner in owners:
            for run, at in now.kept[owner]:
                values = torch.tensor(found[owner].chance[at : at + len(run)])
                masked[owner, run.start : run.stop] = values < options.threshold
        for i, place in enumerate(self.places):
            # A stop token that holds the decoder back may itself be wrong.
            held = place.owner in found and found[place.owner].is_held_back(self._spot(i, now), options.widen)
            held = held and place.end < len(self.drafting.greedy[place.owner].tokens)
            masked[place.owner, place.start : place.end + held] = True
            gaps[place.owner, place.start] |= place.start == place.end
        masks = self.drafting.masked(self.search.model, Masks(masked, gaps), options.mask_unit)
        segments = find_segments(self.drafting.draft, masks.tokens, masks.gaps)
        # 2. Segments that are unsure, and whose search read another text.
        old = dict(zip(self.places, self.progress.fills, strict=True))
        greedy = self.drafting.greedy
        self._take(segments, [old[p] if p in old else joined(greedy, p, old) for p in places(segments)])
        now = self._written()
        both = self.search.options.reverse_weight > 0

        def is_asked(i: int) -> bool:
            spot, read = self._spot(i, now), self.seen.get(self.places[i])
            other = read is None or read.around(both) != spot.around(both)
            return other and found[self.places[i].owner].is_unsure(spot, options.threshold)

        chosen = [i for i, place in enumerate(self.places) if place.owner in found]
        return [i for i in self._fitting(chosen, now) if is_asked(i)]

    def _fill(self, wave: Sequence[int], prefill: Prefill, now: Written) -> None:
        """Search the segments of a wave, all at once or some at a time."""
        text, part = self._part(wave, now)
        self.seen.update({self.places[i]: self._spot(i, now) for i in wave})
        size = len(part) if self.options.parallel < 0 else self.options.parallel
        owners = self._owners(wave)
        backward = self.search.backward(self.encoded, now.texts, owners, self.backward)
        self.backward = self.backward or backward  # the first pass is over all utterances with segments
        for owner in owners if backward is not None else []:
            self.progress.passes[owner] += 1
        choices = [
            self.search.fill(prefill, text, part.chunk(i, i + size), backward) for i in range(0, len(part), size)
        ]
        longest: dict[int, int] = {}
        for i, fill in zip(wave, read_fills(choices, [self.progress.fills[i] for i in wave]), strict=True):
            longest[self.places[i].owner] = max(longest.get(self.places[i].owner, 0), fill.steps)
            self.progress.fills[i] = fill
        for owner, steps in longest.items():
            self.progress.steps[owner] += steps
