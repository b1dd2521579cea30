"""The search of segments: one beam search for all of them, and the choice of their fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.filling.backward import Backward
from parlab.decode.filling.drafting import Drafting
from parlab.decode.filling.next_word import with_next_word
from parlab.decode.filling.text import Text
from parlab.decode.fills import Choice, FillScoring, WindowScorer, choose_fills, score_drafts
from parlab.decode.fusion import Contexts, Fusion, fused_scores
from parlab.decode.prefill import Prefill
from parlab.decode.scorers import AnyScorer, CandidateScorer
from parlab.decode.scorers.attention import AttentionScorer
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, Windows
from parlab.decode.scorers.letters import Letters, LetterScorer, letters_of
from parlab.decode.scorers.whisper import ruled_fills
from parlab.decode.search.extent import Extent
from parlab.decode.segments import Segments
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.families.wenet.model import reverse_rows
from parlab.model.hybrid import HybridModel
from parlab.transfer import to_device

_LETTERS = 3  # that a fill may have more or fewer than its share


@dataclass(frozen=True)
class FillOptions:
    """Options of ``par`` that a search of segments reads (``parlab/decode/strategies/par.py`` explains them)."""

    beam_size: int
    max_seq_len: int | str
    margin: int
    ctc_weight: float
    ctc_mode: str
    length_normalize: bool
    nbest: int
    allow_unk: bool
    length_tolerance: float | None
    reverse_weight: float
    fill_temperature: float


def check_letters(options: FillOptions, drafting: Drafting) -> None:
    """Refuse CTC scores of fills where the head does not write characters, whether or not anything is masked.

    Raises:
        UserError: so it is.
    """
    if drafting.spelling is not None and options.ctc_weight > 0 and not drafting.spelling.by_letters:
        raise UserError(
            "CTC scores a fill by its characters, but the draft head writes pieces of words, expected a head of characters; "
            "set --decoder.ctc_weight 0"
        )


@dataclass(frozen=True)
class Part:
    """Segments that are searched at once, on the host.

    Attributes:
        segments: in the texts as they are now.
        lengths: (S,) tokens of their drafts, which limit their fills.
        sizes: (S,) letters of their drafts (``Drafting.sizes``).
        after: (S,) tokens after each whose scores count.
        left, right: (S,) neighbours in CTC's vocabulary, -1 at the edges of an utterance.
    """

    segments: Segments
    lengths: Tensor
    sizes: Tensor
    after: Tensor
    left: Tensor
    right: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def chunk(self, begin: int, end: int) -> Part:
        """The segments ``begin`` to ``end`` (exclusive)."""
        numbers = (self.lengths, self.sizes, self.after, self.left, self.right)
        return Part(self.segments.chunk(begin, end), *(x[begin:end] for x in numbers))


@dataclass(frozen=True)
class SegmentSearch:
    """What all searches of segments of a batch share.

    Attributes:
        drafting: CTC's posteriors, and how it spells words.
        letters: how the decoder's tokens are spelled in CTC's characters, where vocabularies differ.
        sizes: (V,) letters of each of the decoder's tokens (``Drafting.sizes``), where the length of fills is bounded.
        added: what is fused: a language model, phrases.
    """

    options: FillOptions
    model: HybridModel
    drafting: Drafting
    letters: Letters | None
    sizes: Tensor | None
    added: tuple[Fusion, ...]

    @staticmethod
    def of(options: FillOptions, model: HybridModel, drafting: Drafting, added: tuple[Fusion, ...]) -> SegmentSearch:
        """The search for a batch of drafts; ``check_letters`` has passed them."""
        letters, spelling = None, drafting.spelling
        if spelling is not None and options.ctc_weight > 0:
            letters = letters_of(spelling, drafting.log_probs.device)
        sizes = None if options.length_tolerance is None else drafting.sizes(model.vocab_size)
        return SegmentSearch(options, model, drafting, letters, sizes, added)

    def sizes_of(self, segments: Segments) -> Tensor:
        """Letters (S,) that CTC wrote in segments, on the host; 0 where nobody asks for them."""
        return torch.zeros_like(segments.start) if self.sizes is None else self.drafting.heard_in(segments, self.sizes)

    def backward(
        self, encoded: Encoded, texts: Sequence[Sequence[int]], utterances: Sequence[int], earlier: Backward | None
    ) -> Backward | None:
        """The pass from right to left over the texts (B) of the given utterances, where fills are judged by it.

        Args:
            earlier: such a pass over these utterances at least, whose cross caches serve again.
        """
        if self.options.reverse_weight == 0:
            return None
        decoder, caches = reverse_rows(self.model), None if earlier is None else earlier.prefill
        turned = [list(text)[::-1] for text in texts]
        prefill = Prefill.of(decoder, encoded, turned, utterances, caches)
        return Backward(self.options.reverse_weight, prefill, Text.of(turned), self.model.special.eos)

    def fill(self, prefill: Prefill, text: Text, part: Part, backward: Backward | None = None) -> Choice:
        """The best fill of each segment of texts that the decoder has passed over; ``backward`` judges the n-best."""
        options, segments, eos = self.options, part.segments, self.model.special.eos
        stop = segments.stops(eos)
        ctc = self._ctc(part)
        in_search = ctc is not None and options.ctc_mode == "prefix"
        scoring = FillScoring(
            ctc, options.ctc_weight, in_search, options.length_normalize, part.after, options.fill_temperature
        )
        whole_words = bool((part.after > 1).any())
        around = _around(text, segments, eos) if self.added else None
        # With CTC the text as it is is a candidate: its score is the one to beat.
        drafts = bound = None
        if ctc is not None:
            drafts = score_drafts(prefill, text, segments, scoring, eos)
            if backward is not None:
                drafts = replace(drafts, attention=backward.drafts(segments, drafts.attention))
            if around is not None:
                drafts = replace(drafts, fused=fused_scores(self.added, *around))
            best_alone = options.nbest == 1 or self.drafting.spelling
            # What judges afterwards may raise a score above the draft's again.
            if in_search and not options.length_normalize and best_alone and backward is None:
                bound = drafts.joint(scoring)
        limits = self._limits(prefill, part)
        decoder = self._decoder(prefill, segments, scoring)
        scorers = self._scorers(decoder, segments, scoring, None if around is None else around[0])
        extent = self._extent(part, scorers)
        groups = Groups(stop, limits, bound=bound, owner=segments.owner, extent=extent)
        groups = groups.on_device(self.drafting.log_probs.device)
        ended = beam_search(scorers, groups, self._beam(scoring))
        if whole_words or backward is not None:
            words = text.following(segments, part.after, eos)
        if whole_words:  # the whole next word counts, not its first token only
            [moved] = to_device(decoder.hidden.device, words)
            ended = with_next_word(ended, decoder, moved, part.after, bound)
        if backward is not None:
            ended = backward.judged(ended, decoder, segments, (words, part.after))
        return choose_fills(ended, segments, drafts, scoring)

    def _limits(self, prefill: Prefill, part: Part) -> Tensor:
        """Tokens (S,) of a fill at most, the stop token included."""
        if self.options.max_seq_len == "auto":
            limits = part.lengths + self.options.margin + 1
        else:
            limits = torch.full_like(part.lengths, int(self.options.max_seq_len))
        positions = self.model.rows.spec.max_positions
        if positions is not None:
            room = positions - prefill.prompt_lengths[part.segments.owner] - part.segments.start - part.after
            limits = torch.minimum(limits, room.clamp(min=1))
        return limits

    def _extent(self, part: Part, scorers: Sequence[AnyScorer]) -> Extent | None:
        """How much fills may write. CTC and n-grams score a stop token as the end, so that it cannot be a word too."""
        tolerance, drafted = self.options.length_tolerance, part.sizes.double()
        if tolerance is None or self.sizes is None:
            return None
        least = ((1.0 - tolerance) * drafted - _LETTERS).ceil().clamp(min=0).long()
        most = ((1.0 + tolerance) * drafted + _LETTERS).floor().long()
        most = most.masked_fill(part.sizes == 0, torch.iinfo(torch.long).max)  # a gap: nobody knows how much is missing
        ends = any(isinstance(scorer, CandidateScorer) for scorer in scorers)
        return Extent(self.sizes, least, most, self.model.special.eos, goes_on=not ends)

    def _beam(self, scoring: FillScoring) -> BeamOptions:
        """As many ended hypotheses as are asked for, or as will be judged again; no special symbols in fills."""
        options, special = self.options, self.model.special
        rescored = scoring.ctc is not None and not scoring.in_search
        again = rescored or self.drafting.spelling is not None or options.reverse_weight > 0
        nbest = max(options.nbest, options.beam_size) if again else options.nbest
        banned = special.never if options.allow_unk or special.unk is None else (*special.never, special.unk)
        return BeamOptions(options.beam_size, nbest, banned, options.length_normalize)

    def _decoder(self, prefill: Prefill, segments: Segments, scoring: FillScoring) -> AttentionScorer:
        """The decoder, which reads prompt and text before each segment."""
        weight = 1.0 - scoring.ctc_weight if scoring.in_search else 1.0
        return prefill.scorer(segments.owner, prefill.prompt_lengths[segments.owner] + segments.start, weight)

    def _scorers(
        self, decoder: AttentionScorer, segments: Segments, scoring: FillScoring, contexts: Contexts | None
    ) -> list[AnyScorer]:
        """The decoder, under its model's own rules, and the scorers that the options ask for."""
        begins, stops = (x.tolist() for x in (segments.start == 0, segments.stops(self.model.special.eos)))
        scorers: list[AnyScorer] = [ruled_fills(decoder, self.model, begins, stops)]
        if contexts is not None:
            scorers += [fusion.scorer(contexts) for fusion in self.added]
        if scoring.ctc is not None and scoring.in_search:
            scorers.append(scoring.ctc)
        return scorers

    def _ctc(self, part: Part) -> WindowScorer | None:
        """CTC over the segments' windows."""
        if self.options.ctc_weight == 0:
            return None
        segments, drafting = part.segments, self.drafting
        length = segments.last - segments.first + 1
        windows = Windows(
            drafting.log_probs, segments.owner, segments.first, length, part.left, part.right, drafting.blank
        )
        if self.letters is not None:
            return LetterScorer.of(windows, self.letters, self.options.ctc_weight)
        return CTCPrefixScorer(windows, self.options.ctc_weight)


def _around(text: Text, segments: Segments, eos: int) -> tuple[Contexts, list[list[int]]]:
    """What stands around each segment, and the tokens in it."""
    ranges = list(zip(segments.owner.tolist(), segments.start.tolist(), segments.end.tolist(), strict=True))
    texts = text.rows()
    before = [texts[owner][:start] for owner, start, _ in ranges]
    after = [[*texts[owner][end:], eos] for owner, _, end in ranges]
    return Contexts(before, after), [texts[owner][start:end] for owner, start, end in ranges]
