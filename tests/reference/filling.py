"""PAR with drafts in another vocabulary, fills that see fills, rounds, fusion and Whisper's rules, by the letter of docs/par.md.

One segment at a time, one hypothesis at a time, everything recomputed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from parlab.decode import PAR
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer
from tests.reference import ctc, letters
from tests.reference.fused import NOTHING, Added
from tests.reference.par import draft_of, masks_of, row_log_probs

Tokens = tuple[int, ...]


@dataclass
class Unit:
    """What is kept or masked as one: a draft token, or the decoder tokens of a word of a head.

    ``first`` and ``last`` frame; ``left`` and ``right``: its first and last token in CTC's vocabulary.
    """

    tokens: Tokens
    masked: bool
    first: int
    last: int
    left: int
    right: int


@dataclass
class Spot:
    """A segment: what stands in it now, and what does not change of it.

    ``word`` are the tokens after it whose scores count, the stop token first; ``limit`` the tokens of a fill at most, stop included;
    ``draft`` what stood there at first, ``units`` the same.
    """

    fill: Tokens
    word: Tokens
    limit: int
    total: Callable[[Tokens], float]  # CTC's log-probability that the window holds exactly a fill
    prefix: Callable[[Tokens], float]
    units: list[Unit]
    draft: Tokens
    score: float = 0.0


@dataclass
class Result:
    tokens: Tokens
    fills: list[Tokens]
    scores: list[float]
    searches: int  # segments that were searched, in all rounds


@dataclass
class Utterance:
    """One utterance: kept tokens and segments, in order, and the decoder that fills them."""

    model: HybridModel
    states: Tensor
    prompt: Tokens
    options: PAR
    nbest: int
    size: Callable[[int], int]  # letters of a token
    spot: Callable[[list[Unit], Unit | None, Unit | None], Spot]  # a segment of some units, from its neighbours
    parts: list[Unit | Spot] = field(default_factory=list)
    added: Added = NOTHING

    @property
    def positions(self) -> float:
        """Tokens that the decoder can read."""
        return self.model.rows.spec.max_positions or math.inf

    @property
    def spots(self) -> list[Spot]:
        return [part for part in self.parts if isinstance(part, Spot)]

    def before(self, spot: Spot) -> list[int]:
        """Prompt and text before a segment, as it is now."""
        text = list(self.prompt)
        for part in self.parts:
            if part is spot:
                break
            text += part.fill if isinstance(part, Spot) else part.tokens
        return text

    @property
    def text(self) -> Tokens:
        return tuple(t for part in self.parts for t in (part.fill if isinstance(part, Spot) else part.tokens))

    def rows(self, before: Sequence[int], tokens: Sequence[int]) -> list[list[float]]:
        """The decoder's log-probabilities (n, V) in place of each of n ``tokens`` after ``before``, by one plain forward pass over both."""
        if not tokens:
            return []
        scores = row_log_probs(self.model, self.states, [*before, *tokens][:-1])
        return scores[len(before) - 1 : len(before) + len(tokens) - 1].tolist()

    def log_probs(self, before: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """The decoder's log-probability of each of ``tokens`` after ``before``."""
        return [row[token] for row, token in zip(self.rows(before, tokens), tokens, strict=True)]

    def after(self, spot: Spot) -> list[int]:
        """The text after a segment, as it is now."""
        text: list[int] = []
        for part in reversed(self.parts):
            if part is spot:
                break
            text = [*(part.fill if isinstance(part, Spot) else part.tokens), *text]
        return text

    def mixed(self, around: tuple[Sequence[int], Sequence[int]], tokens: Tokens, word: Tokens) -> float:
        """What the decoder from right to left makes more or less of a fill than the other one, with its share.

        It has read the text after the fill from its end; its stop token is the token before the fill, or ``<eos>``.
        """
        share = self.options.reverse_weight
        if not share:
            return 0.0
        before, after = around
        said = list(before)[len(self.prompt) :]
        backward = [*tokens[::-1], said[-1] if said else self.model.special.eos]
        row = torch.tensor([[*self.prompt, *reversed(after), *backward]])
        frames = torch.tensor([len(self.states)])
        model: Any = self.model
        logits, _ = model.right_decoder(self.states.unsqueeze(0), frames, row, torch.tensor([row.size(1)]))
        scores = torch.log_softmax(logits[0].double(), -1)
        first = row.size(1) - len(backward)
        other = sum(float(scores[first + i - 1, token]) for i, token in enumerate(backward))
        return share * (other - sum(self.log_probs(before, [*tokens, *word])))

    def search(self, spot: Spot, before: Sequence[int], after: Sequence[int]) -> tuple[Tokens, float]:
        """The best fill and its score: beam search, the whole next word, and with CTC the fill so far as a candidate."""
        options, weight, stop = self.options, self.options.ctc_weight, spot.word[0]
        in_search = options.ctc_mode == "prefix"
        w = weight if in_search else 0.0
        said = tuple(before[len(self.prompt) :])
        around = said, (*after, self.model.special.eos)
        refined = 0 < w < 1 or self.added.refines
        live: list[tuple[float, Tokens, float]] = [(0.0, (), 0.0)]  # score, tokens, what was paid for phrases
        ended: list[tuple[float, Tokens]] = []
        room = int(min(spot.limit, max(self.positions - len(before) - len(spot.word), 1)))
        for _ in range(room):
            grown = []
            for score, tokens, paid in live:
                row = row_log_probs(self.model, self.states, [*before, *tokens])[-1].tolist()
                boosts, boosted = self.added.ranked(around, tokens, len(row), paid)
                gains = [(1 - w) * a + b for a, b in zip(row, boosts, strict=True)]
                allowed = [v for v in range(len(row)) if self.may_write(v, stop, first=not said and not tokens)]
                ranked = sorted(allowed, key=lambda v: -gains[v])
                if refined:
                    ranked = sorted({*ranked[: int(1.5 * options.beam_size)], *({stop} & {*allowed})})
                for v in ranked:
                    gain = gains[v] + self.added.refined(around, tokens, v)
                    if w > 0:
                        new = spot.total(tokens) if v == stop else spot.prefix((*tokens, v))
                        old = spot.prefix(tokens)
                        gain += w * (new - old) if min(new, old) > -math.inf else -math.inf
                    grown.append((score + gain, tokens, v, boosted[v]))
            best = sorted((g for g in grown if g[0] > -math.inf), key=lambda g: -g[0])[: options.beam_size]
            ended += [(score, tokens) for score, tokens, v, _ in best if v == stop and not self.is_short(spot, tokens)]
            live = [
                (score, (*tokens, v), paid)
                for score, tokens, v, paid in best
                if v != stop or (not refined and w == 0 and self.goes_on(spot, tokens))
            ]
            within = [x for x in live if not self.is_long(spot, x[1])]
            if not within:  # all of them have written too much, or none is left
                break
            live = within
        per_token = options.length_normalize
        # The n-best that ended are judged by the whole next word.
        ended = sorted(ended, key=lambda e: -e[0] / (len(e[1]) + 1 if per_token else 1))[: self.nbest]
        judged = [
            (score + (1 - w) * sum(self.log_probs([*before, *tokens, spot.word[0]], spot.word[1:])), tokens)
            for score, tokens in ended
        ]
        sides = before, after
        judged = [(score + (1 - w) * self.mixed(sides, tokens, spot.word), tokens) for score, tokens in judged]

        def rank(hypothesis: tuple[float, Tokens]) -> float:
            return hypothesis[0] / (len(hypothesis[1]) + len(spot.word) if per_token else 1)

        if weight == 0:
            forced = [(score, tokens) for score, tokens, _ in live[:1]]
            score, tokens = max(judged or forced, key=rank, default=(0.0, spot.fill))
            return tokens, score
        if not in_search:
            judged = [((1 - weight) * score + weight * spot.total(tokens), tokens) for score, tokens in judged]
        attention = sum(self.log_probs(before, [*spot.fill, *spot.word])) + self.mixed(sides, spot.fill, spot.word)
        fused = self.added.whole(around, spot.fill, stop)
        own = (1 - weight) * attention + weight * spot.total(spot.fill) + (fused if in_search else (1 - weight) * fused)
        score, tokens = max(judged, key=rank, default=(-math.inf, ()))
        return (spot.fill, own) if rank((own, spot.fill)) >= rank((score, tokens)) else (tokens, score)

    def may_write(self, token: int, stop: int, first: bool) -> bool:
        """Whether a token may come next, ``first`` of the text or not; the stop token stands in the text already.

        Whisper's rules: some tokens are never written, some not first; so no text is empty where the end is one of these.
        """
        special = self.model.special
        rules = self.model.s2t.rules if self.model.s2t is not None else None
        if (
            first
            and rules is not None
            and token in rules.begin_suppressed
            and token in (special.eos, *{token} - {stop})
        ):
            return False
        return token == stop or token not in (*special.never, special.unk)

    def fits(self, spot: Spot) -> bool:
        """Whether the decoder has positions for what stands in a segment, and the word after it."""
        return len(self.before(spot)) + max(len(spot.fill), 1) + len(spot.word) <= self.positions

    def letters(self, tokens: Tokens) -> int:
        return sum(self.size(token) for token in tokens)

    def is_short(self, spot: Spot, tokens: Tokens) -> bool:
        """Whether a fill must not end yet."""
        share = self.options.length_tolerance
        return share is not None and self.letters(tokens) < (1 - share) * self.letters(spot.draft) - 3

    def goes_on(self, spot: Spot, tokens: Tokens) -> bool:
        """Whether the stop token after ``tokens`` is a word like others."""
        return self.is_short(spot, tokens) and spot.word[0] != self.model.special.eos

    def is_long(self, spot: Spot, tokens: Tokens) -> bool:
        """Whether a fill has run on for too long."""
        share = self.options.length_tolerance
        return share is not None and self.letters(tokens) > (1 + share) * self.letters(spot.draft) + 3

    def unsure(self, spot: Spot) -> bool:
        """Whether the decoder gives a token of the fill, or the stop token, less than the threshold."""
        scores = self.log_probs(self.before(spot), [*spot.fill, spot.word[0]])
        return any(math.exp(score) < self.options.threshold for score in scores)

    def is_held_back(self, spot: Spot) -> bool:
        """Whether the decoder gives a token of the fill less than a share of what it gives its best token there."""
        rows = self.rows(self.before(spot), spot.fill)
        return any(
            math.exp(row[token] - max(row)) < self.options.widen for row, token in zip(rows, spot.fill, strict=True)
        )

    def mask_again(self) -> None:
        """Mask what was sure and is no longer, and what follows a fill that it holds back; join what stands side by side."""
        text = self.text
        seen = text[: int(min(len(text), self.positions - len(self.prompt) + 1))]
        chance = [math.exp(score) for score in self.log_probs(self.prompt, seen)] + [1.0] * (len(text) - len(seen))
        parts: list[list[Unit | Spot]] = []  # masked ones that stand side by side are together
        place, before, held = 0, False, False
        for part in self.parts:
            size = len(part.fill if isinstance(part, Spot) else part.tokens)
            doubted = held or isinstance(part, Spot) or min(chance[place : place + size]) < self.options.threshold
            held = isinstance(part, Spot) and self.is_held_back(part)
            if doubted and before:
                parts[-1].append(part)
            else:
                parts.append([part])
            if isinstance(part, Unit) and doubted:
                part.masked = True
            place, before = place + size, doubted
        flat = [unit for part in self.parts for unit in (part.units if isinstance(part, Spot) else [part])]
        self.parts = []
        for run in parts:
            if len(run) == 1 and (isinstance(run[0], Spot) or not run[0].masked):
                self.parts.append(run[0])
                continue
            units = [unit for part in run for unit in (part.units if isinstance(part, Spot) else [part])]
            first, last = (next(i for i, unit in enumerate(flat) if unit is own) for own in (units[0], units[-1]))
            spot = self.spot(
                units, flat[first - 1] if first else None, flat[last + 1] if last + 1 < len(flat) else None
            )
            spot.fill = tuple(t for part in run for t in (part.fill if isinstance(part, Spot) else part.tokens))
            self.parts.append(spot)

    def run(self) -> Result:
        """All rounds."""
        searches = 0
        for number in range(self.options.rounds):
            if number:
                self.mask_again()
            chosen = [spot for spot in self.spots if number == 0 or (self.fits(spot) and self.unsure(spot))]
            old = self.text
            at_start = [(self.before(spot), self.after(spot)) for spot in chosen]  # all texts before the round
            fitted = [self.fits(spot) for spot in chosen]
            for spot, around, fits in zip(chosen, at_start, fitted, strict=True):
                if not (self.fits(spot) if self.options.context == "fills" else fits):
                    continue
                now = (self.before(spot), self.after(spot)) if self.options.context == "fills" else around
                spot.fill, spot.score = self.search(spot, *now)
                searches += 1
            if self.text == old:
                break
        return Result(self.text, [s.fill for s in self.spots], [s.score for s in self.spots], searches)


def decode(model: HybridModel, states: Tensor, log_probs: Tensor, options: PAR, prompt: Tokens) -> Result:
    """Decode one utterance, ``states`` (T, D) and CTC's ``log_probs`` (T, V) in the decoder's own tokens."""
    draft = draft_of(log_probs, model.special.blank)
    masked = masks_of(model, draft, options.threshold, options.mask_unit)
    units = [Unit((t.id,), m, t.first, t.last, t.id, t.id) for t, m in zip(draft, masked, strict=True)]
    again = (options.ctc_mode == "rescore" and options.ctc_weight > 0) or options.reverse_weight > 0
    nbest = max(options.nbest, options.beam_size if again else 1)

    def scores(window: list[list[float]], left: int, right: int) -> tuple[Callable[[Tokens], float], ...]:
        return (
            lambda fill: ctc.forward_total(window, fill, left, right),
            lambda fill: ctc.forward_prefix(window, fill, left) if fill else 0.0,
        )

    spot = _spot_of(log_probs, options, model.special.eos, scores)
    return Utterance(model, states, prompt, options, nbest, lambda token: 1, spot, _parts(units, spot)).run()


# A head's vocabulary is a tokenizer, as the decoder's is.
def decode_head(
    model: HybridModel,
    states: Tensor,
    log_probs: Tensor,
    options: PAR,
    prompt: Tokens,
    own: Tokenizer,
    head: Tokenizer,
    added: Added = NOTHING,
) -> Result:
    """The same where a head with characters of its own drafts: ``log_probs`` (T', V') of ``head``, fills in tokens of ``own``."""
    units: list[Unit] = []
    word: list[tuple[int, str, float, int, int]] = []  # character: id, text, confidence, first and last frame

    def close() -> None:
        if word:
            text = "".join(c[1] for c in word)
            wordy = [i for i, c in enumerate(word) if c[1].isalnum()] or [0, len(word) - 1]
            inner = [c[2] for c in word[wordy[0] : wordy[-1] + 1]]
            tokens = tuple(own.encode(text))
            units.append(Unit(tokens, min(inner) < options.threshold, word[0][3], word[-1][4], word[0][0], word[-1][0]))
            word.clear()

    for token in draft_of(log_probs, 0):
        if head.token_list[token.id] == "<space>":
            close()
        else:
            word.append((token.id, head.token_list[token.id], token.confidence, token.first, token.last))
    close()

    def scores(window: list[list[float]], left: int, right: int) -> tuple[Callable[[Tokens], float], ...]:
        seen = letters.Window(window, left, right)
        return (
            lambda fill: letters.total(seen, [own.token_list[t] for t in fill], head.token_list),
            lambda fill: letters.prefix(seen, [own.token_list[t] for t in fill], head.token_list),
        )

    def size(token: int) -> int:
        return letters.size(own.token_list[token], head.token_list)

    spot = _spot_of(log_probs, options, model.special.eos, scores)
    nbest = max(options.nbest, options.beam_size)
    return Utterance(model, states, prompt, options, nbest, size, spot, _parts(units, spot), added).run()


def _spot_of(
    log_probs: Tensor, options: PAR, eos: int, scores: Callable[..., tuple[Callable[[Tokens], float], ...]]
) -> Callable[[list[Unit], Unit | None, Unit | None], Spot]:
    """How a segment is made of masked units and their neighbours."""

    def spot(units: list[Unit], before: Unit | None, after: Unit | None) -> Spot:
        frames = log_probs[before.last + 1 if before else 0 : after.first if after else len(log_probs)]
        draft = tuple(t for unit in units for t in unit.tokens)
        limit = len(draft) + options.margin + 1 if options.max_seq_len == "auto" else int(options.max_seq_len)
        total, prefix = (
            cache(score)
            for score in scores(frames.double().tolist(), before.right if before else -1, after.left if after else -1)
        )
        return Spot(draft, after.tokens if after else (eos,), limit, total, prefix, units, draft)

    return spot


def _parts(units: list[Unit], spot: Callable[[list[Unit], Unit | None, Unit | None], Spot]) -> list[Unit | Spot]:
    """Kept units and segments, in order."""
    parts: list[Unit | Spot] = []
    i = 0
    while i < len(units):
        end = i + 1
        if not units[i].masked:
            parts.append(units[i])
        else:
            while end < len(units) and units[end].masked:
                end += 1
            parts.append(spot(units[i:end], units[i - 1] if i else None, units[end] if end < len(units) else None))
        i = end
    return parts
