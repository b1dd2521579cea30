"""PAR with drafts in another vocabulary, fills that see fills, and rounds, by the letter of docs/par.md.

One segment at a time, one hypothesis at a time, everything recomputed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from parlab.decode import PAR
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer
from tests.reference import ctc, letters
from tests.reference.par import draft_of, masks_of, next_log_probs

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

    ``word`` are the tokens after it whose scores count, the stop token first; ``limit`` the tokens of a fill at most, stop included.
    """

    fill: Tokens
    word: Tokens
    limit: int
    total: Callable[[Tokens], float]  # CTC's log-probability that the window holds exactly a fill
    prefix: Callable[[Tokens], float]
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
    parts: list[Tokens | Spot] = field(default_factory=list)

    @property
    def spots(self) -> list[Spot]:
        return [part for part in self.parts if isinstance(part, Spot)]

    def before(self, spot: Spot) -> list[int]:
        """Prompt and text before a segment, as it is now."""
        text = list(self.prompt)
        for part in self.parts:
            if part is spot:
                break
            text += part.fill if isinstance(part, Spot) else part
        return text

    def log_probs(self, before: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """The decoder's log-probability of each of ``tokens`` after ``before``, by one plain forward pass over both."""
        row = torch.tensor([[*before, *tokens]])
        frames = torch.tensor([len(self.states)])
        logits, _ = self.model.decoder(self.states.unsqueeze(0), frames, row, torch.tensor([row.size(1)]))
        scores = torch.log_softmax(logits[0].double(), -1)
        return [float(scores[len(before) + i - 1, token]) for i, token in enumerate(tokens)]

    def after(self, spot: Spot) -> list[int]:
        """The text after a segment, as it is now."""
        text: list[int] = []
        for part in reversed(self.parts):
            if part is spot:
                break
            text = [*(part.fill if isinstance(part, Spot) else part), *text]
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
        options, weight = self.options, self.options.ctc_weight
        in_search = options.ctc_mode == "prefix"
        w = weight if in_search else 0.0
        special = self.model.special
        banned = {*special.never, special.unk} - {spot.word[0]}
        live: list[tuple[float, Tokens]] = [(0.0, ())]
        ended: list[tuple[float, Tokens]] = []
        for _ in range(spot.limit):
            grown = []
            for score, tokens in live:
                row = next_log_probs(self.model, self.states, [*before, *tokens])
                ranked = sorted((v for v in range(len(row)) if v not in banned), key=lambda v: -row[v])
                if 0 < w < 1:
                    ranked = sorted({*ranked[: int(1.5 * options.beam_size)], spot.word[0]})
                for v in ranked:
                    gain = (1 - w) * row[v]
                    if w > 0:
                        new = spot.total(tokens) if v == spot.word[0] else spot.prefix((*tokens, v))
                        old = spot.prefix(tokens)
                        gain += w * (new - old) if min(new, old) > -math.inf else -math.inf
                    grown.append((score + gain, tokens, v))
            best = sorted((g for g in grown if g[0] > -math.inf), key=lambda g: -g[0])[: options.beam_size]
            ended += [(score, tokens) for score, tokens, v in best if v == spot.word[0]]
            live = [(score, (*tokens, v)) for score, tokens, v in best if v != spot.word[0]]
            if not live:
                break
        per_token = options.length_normalize
        # The n-best that ended are judged by the whole next word.
        ended = sorted(ended, key=lambda e: -e[0] / (len(e[1]) + 1 if per_token else 1))[: self.nbest]
        judged = [
            (score + (1 - w) * sum(self.log_probs([*before, *tokens, spot.word[0]], spot.word[1:])), tokens)
            for score, tokens in ended
        ]
        around = before, after
        judged = [(score + (1 - w) * self.mixed(around, tokens, spot.word), tokens) for score, tokens in judged]

        def rank(hypothesis: tuple[float, Tokens]) -> float:
            return hypothesis[0] / (len(hypothesis[1]) + len(spot.word) if per_token else 1)

        if weight == 0:
            score, tokens = max(judged or live[:1], key=rank)
            return tokens, score
        if not in_search:
            judged = [((1 - weight) * score + weight * spot.total(tokens), tokens) for score, tokens in judged]
        attention = sum(self.log_probs(before, [*spot.fill, *spot.word])) + self.mixed(around, spot.fill, spot.word)
        own = (1 - weight) * attention + weight * spot.total(spot.fill)
        score, tokens = max(judged, key=rank, default=(-math.inf, ()))
        return (spot.fill, own) if rank((own, spot.fill)) >= rank((score, tokens)) else (tokens, score)

    def unsure(self, spot: Spot) -> bool:
        """Whether the decoder gives a token of the fill, or the stop token, less than the threshold."""
        scores = self.log_probs(self.before(spot), [*spot.fill, spot.word[0]])
        return any(math.exp(score) < self.options.threshold for score in scores)

    def run(self) -> Result:
        """All rounds."""
        searches = 0
        for number in range(self.options.rounds):
            chosen = [spot for spot in self.spots if number == 0 or self.unsure(spot)]
            old = [spot.fill for spot in self.spots]
            at_start = [(self.before(spot), self.after(spot)) for spot in chosen]  # all texts before the round
            for spot, around in zip(chosen, at_start, strict=True):
                now = (self.before(spot), self.after(spot)) if self.options.context == "fills" else around
                spot.fill, spot.score = self.search(spot, *now)
                searches += 1
            if [spot.fill for spot in self.spots] == old:
                break
        tokens = [t for part in self.parts for t in (part.fill if isinstance(part, Spot) else part)]
        return Result(tuple(tokens), [s.fill for s in self.spots], [s.score for s in self.spots], searches)


def decode(model: HybridModel, states: Tensor, log_probs: Tensor, options: PAR, prompt: Tokens) -> Result:
    """Decode one utterance, ``states`` (T, D) and CTC's ``log_probs`` (T, V) in the decoder's own tokens."""
    draft = draft_of(log_probs, model.special.blank)
    masked = masks_of(model, draft, options.threshold, options.mask_unit)
    units = [Unit((t.id,), m, t.first, t.last, t.id, t.id) for t, m in zip(draft, masked, strict=True)]
    again = (options.ctc_mode == "rescore" and options.ctc_weight > 0) or options.reverse_weight > 0
    utterance = Utterance(model, states, prompt, options, max(options.nbest, options.beam_size if again else 1))

    def scores(window: list[list[float]], left: int, right: int) -> tuple[Callable[[Tokens], float], ...]:
        return (
            lambda fill: ctc.forward_total(window, fill, left, right),
            lambda fill: ctc.forward_prefix(window, fill, left) if fill else 0.0,
        )

    utterance.parts = _parts(units, log_probs, options, model.special.eos, scores)
    return utterance.run()


# A head's vocabulary is a tokenizer, as the decoder's is.
def decode_head(
    model: HybridModel, states: Tensor, log_probs: Tensor, options: PAR, prompt: Tokens, own: Tokenizer, head: Tokenizer
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
    utterance = Utterance(model, states, prompt, options, max(options.nbest, options.beam_size))

    def scores(window: list[list[float]], left: int, right: int) -> tuple[Callable[[Tokens], float], ...]:
        seen = letters.Window(window, left, right)
        return (
            lambda fill: letters.total(seen, [own.token_list[t] for t in fill], head.token_list),
            lambda fill: letters.prefix(seen, [own.token_list[t] for t in fill], head.token_list),
        )

    utterance.parts = _parts(units, log_probs, options, model.special.eos, scores)
    return utterance.run()


def _parts(
    units: list[Unit],
    log_probs: Tensor,
    options: PAR,
    eos: int,
    scores: Callable[..., tuple[Callable[[Tokens], float], ...]],
) -> list[Tokens | Spot]:
    """Kept tokens and segments, in order."""
    parts: list[Tokens | Spot] = []
    i = 0
    while i < len(units):
        end = i + 1
        if not units[i].masked:
            parts.append(units[i].tokens)
        else:
            while end < len(units) and units[end].masked:
                end += 1
            before, after = units[i - 1] if i > 0 else None, units[end] if end < len(units) else None
            frames = log_probs[before.last + 1 if before else 0 : after.first if after else len(log_probs)]
            draft = tuple(t for unit in units[i:end] for t in unit.tokens)
            limit = len(draft) + options.margin + 1 if options.max_seq_len == "auto" else int(options.max_seq_len)
            total, prefix = scores(
                frames.double().tolist(), before.right if before else -1, after.left if after else -1
            )
            parts.append(Spot(draft, after.tokens if after else (eos,), limit, total, prefix))
        i = end
    return parts
