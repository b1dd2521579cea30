"""The decoder's passes over drafts, each of which corrects them for the next one.

Greedy decoding whose steps run side by side (Jacobi decoding: Santilli et al. 2023, arXiv:2305.10427), from CTC's draft and with words that
may be added and left out: a text in which the decoder refuses nothing, not the least doubt, is the one that it writes token by token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from parlab.decode.confidence.evidence import Agreement
from parlab.decode.corrections.redrafted import redrafted
from parlab.decode.corrections.rewriting import Reading, rewritten
from parlab.decode.corrections.words import DraftWords, Speller, Word, speller_of
from parlab.decode.ended import NEVER
from parlab.decode.filling.drafting import Drafting
from parlab.decode.filling.text import Text, token_scores
from parlab.decode.prefill import Prefill, pass_again, pass_over
from parlab.decode.segments import Segments
from parlab.decode.verification import TextRules
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.transfer import numbers_on, to_host


@dataclass(frozen=True)
class CorrectionOptions:
    """How far drafts are corrected.

    Attributes:
        rounds: of correcting at most, a pass each; one pass more reads the result.
        doubt: a token is refused where the decoder gives it so many nats less than its best one.
    """

    rounds: int
    doubt: float


@dataclass(frozen=True)
class Corrected:
    """Drafts of B utterances after the decoder's corrections.

    Attributes:
        drafting: of the corrected texts.
        agreement: what the decoder says of their tokens.
        first: its pass over the drafts as they were, whose cross caches serve again.
        passes: of each utterance.
    """

    drafting: Drafting
    agreement: Agreement
    first: Prefill
    passes: list[int]


def corrected(model: HybridModel, encoded: Encoded, drafting: Drafting, options: CorrectionOptions) -> Corrected:
    """Drafts as the decoder corrects them; an utterance is read until it stays as it is.

    Raises:
        UserError: nobody knows how the decoder's tokens are spelled.
    """
    tokenizer = encoded.tokenizer if drafting.spelling is None else drafting.spelling.target
    if tokenizer is None:
        raise UserError(
            "the option corrections needs the text of tokens, but the model has no tokenizer, expected one; leave it out"
        )
    speller, rules = speller_of(tokenizer), TextRules.of(model)
    texts = [_Correcting(speller.draft(h.tokens)) for h in drafting.greedy]
    live = list(range(len(texts)))
    found = first = pass_over(model, encoded, [text.tokens for text in texts])
    for number in range(options.rounds + 1):
        if number:
            kept = [texts[i].unread for i in live]
            found = pass_again(encoded, [text.tokens for text in texts], live, found, kept)
        chosen = {i: texts[i] for i in live}
        for i, reading in zip(live, _readings(encoded, found, chosen, rules), strict=True):
            texts[i].read(reading)
        if number < options.rounds:
            live = [i for i in live if texts[i].rewrite(options.doubt, speller, rules.stop)]
        if not live:
            break
    size = max(len(text.tokens) for text in texts)
    log_prob = torch.zeros(len(texts), size)
    for i, text in enumerate(texts):
        log_prob[i, : len(text.tokens)] = torch.tensor(text.own[:-1])
    words = [text.words for text in texts]
    drafting = redrafted(drafting, [text.draft for text in texts], words, log_prob.exp())
    return Corrected(drafting, Agreement(log_prob), first, [text.passes for text in texts])


class _Correcting:
    """The text of one utterance, and what the decoder has said of its tokens and its end."""

    def __init__(self, draft: DraftWords):
        self.draft = draft
        self.passes, self.unread = 0, 0  # the first token that no pass has read after the tokens before it
        self.own, self.best, self.chosen = list[float](), list[float](), list[int]()
        self.seen: set[tuple[int, ...]] = set()
        self._take(draft.words)

    def _take(self, words: Sequence[Word]) -> None:
        self.words = tuple(words)
        self.tokens = [token for word in self.words for token in word.tokens]
        self.seen.add(tuple(self.tokens))

    def read(self, found: Reading) -> None:
        """Take in what a pass says from ``unread`` on; of tokens that the decoder has no positions for it says nothing."""
        missing = len(self.tokens) + 1 - self.unread - len(found.own)
        known = ((self.own, found.own), (self.best, found.best), (self.chosen, found.tokens))
        for values, new in known:
            values[self.unread :] = [*new, *[0] * missing]  # type: ignore[list-item]
        self.passes += 1

    def rewrite(self, doubt: float, speller: Speller, stop: int) -> bool:
        """Correct the text once; false where nothing is to be corrected, and where a text comes back."""
        if not self.words:  # CTC heard nothing
            return False
        reading = Reading(self.own, self.best, self.chosen)
        words = rewritten(self.words, self.draft, reading, doubt, (speller, stop))
        tokens = [token for word in words for token in word.tokens]
        if tuple(tokens) in self.seen:
            return False
        self.unread = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tokens, self.tokens, strict=False)))
        self._take(words)
        return True


def _readings(encoded: Encoded, prefill: Prefill, texts: Mapping[int, _Correcting], rules: TextRules) -> list[Reading]:
    """What a pass over the texts of utterances says of their tokens from the first one on that was not read."""
    positions = prefill.decoder.spec.max_positions or math.inf
    starts = [text.unread for text in texts.values()]
    ends = [int(min(len(text.tokens), positions - len(encoded.prompts[i]))) for i, text in texts.items()]
    ends = [max(start, end) for start, end in zip(starts, ends, strict=True)]
    # 1. The scores of all tokens there, before any is ruled out.
    rows = [texts[i].tokens if i in texts else [] for i in range(len(encoded))]
    none = torch.zeros(len(texts), dtype=torch.long)
    spans = Segments(torch.tensor(list(texts)), torch.tensor(starts), torch.tensor(ends), none, none, none, none)
    found = token_scores(prefill, Text.of(rows), spans, none + 1, rules.stop)
    logits = found.logits
    # 2. The decoder's best token of those that it may write.
    begin = [sum(e - s + 1 for s, e in zip(starts[:i], ends[:i], strict=True)) for i, s in enumerate(starts) if s == 0]
    never, not_first, begins = numbers_on(logits.device, rules.never, rules.not_first, begin)
    at_stop = logits[:, rules.stop].clone()
    logits.index_fill_(1, never, NEVER)
    logits[:, rules.stop] = at_stop
    if len(begin) and len(rules.not_first):
        logits[begins.unsqueeze(1), not_first] = NEVER
    best, chosen = logits.max(1)
    # 3. Read from the device at once, then divided among the texts.
    columns = [x.tolist() for x in to_host(found.own, best - found.total, chosen)]
    readings, at = [], 0
    for start, end in zip(starts, ends, strict=True):
        part = slice(at, at := at + end - start + 1)
        readings.append(Reading(*(column[part] for column in columns)))
    return readings
