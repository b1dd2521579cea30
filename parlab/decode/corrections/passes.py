"""The decoder's passes over drafts, each of which corrects them for the next one.

Greedy decoding whose steps run side by side (Jacobi decoding: Santilli et al. 2023, arXiv:2305.10427), from CTC's draft and with words that
may be added and left out: a text in which the decoder refuses nothing, not the least doubt, is the one that it writes token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from parlab.decode.confidence.evidence import Agreement
from parlab.decode.corrections.redrafted import redrafted
from parlab.decode.corrections.rewriting import Reading, rewritten
from parlab.decode.corrections.words import DraftWords, Speller, Word, speller_of, tokens_of
from parlab.decode.filling.drafting import Drafting
from parlab.decode.filling.text import text_scores
from parlab.decode.prefill import Prefill, pass_again, pass_over
from parlab.decode.verification import TextRules, best_allowed
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
        for i, reading in zip(live, _readings(found, chosen, rules), strict=True):
            texts[i].read(reading)
        if number < options.rounds:
            live = [i for i in live if texts[i].rewrite(options.doubt, speller, rules.stop)]
        if not live:
            break
    size = max(len(text.tokens) for text in texts)
    log_prob = torch.zeros(len(texts), size)
    for i, text in enumerate(texts):
        log_prob[i, : len(text.tokens)] = torch.tensor(text.reading.own[:-1])
    drafts, words = [text.draft for text in texts], [text.words for text in texts]
    drafting = redrafted(drafting, drafts, words, log_prob.exp())
    return Corrected(drafting, Agreement(log_prob), first, [text.passes for text in texts])


class _Correcting:
    """The text of one utterance, and what the decoder has said of its tokens and its end."""

    def __init__(self, draft: DraftWords):
        self.draft = draft
        self.passes, self.unread = 0, 0  # the first token that no pass has read after the tokens before it
        self.reading = Reading([], [], [])
        self.words: Sequence[Word] = draft.words
        self.tokens = tokens_of(draft.words)
        self.seen = {tuple(self.tokens)}

    def read(self, found: Reading) -> None:
        """Take in what a pass says from ``unread`` on; of tokens that the decoder has no positions for it says nothing."""
        missing = [0] * (len(self.tokens) + 1 - self.unread - len(found.own))
        columns = zip(self.reading, found, strict=True)
        self.reading = Reading(*([*known[: self.unread], *new, *missing] for known, new in columns))  # type: ignore[arg-type]
        self.passes += 1

    def rewrite(self, doubt: float, speller: Speller, stop: int) -> bool:
        """Correct the text once; false where nothing is to be corrected, and where a text comes back."""
        if not self.words:  # CTC heard nothing
            return False
        words = rewritten(self.words, self.draft, self.reading, doubt, (speller, stop))
        tokens = tokens_of(words)
        if tuple(tokens) in self.seen:
            return False
        self.seen.add(tuple(tokens))
        self.unread = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tokens, self.tokens, strict=False)))
        self.words, self.tokens = words, tokens
        return True


def _readings(prefill: Prefill, texts: Mapping[int, _Correcting], rules: TextRules) -> list[Reading]:
    """What a pass over the texts of utterances says of their tokens from the first one on that was not read."""
    # 1. The scores of all tokens there, before any is ruled out.
    starts = [text.unread for text in texts.values()]
    found, counts = text_scores(prefill, {i: text.tokens for i, text in texts.items()}, starts, rules.stop)
    # 2. The decoder's best token of those that it may write.
    begins = [int(start == 0 and i == 0) for start, count in zip(starts, counts, strict=True) for i in range(count)]
    ids = numbers_on(found.logits.device, rules.never, rules.not_first, begins)
    best, chosen = best_allowed(found.logits, rules.stop, *ids)
    # 3. Read from the device at once, then divided among the texts.
    columns = [x.split(counts) for x in to_host(found.own, best - found.total, chosen)]
    return [Reading(*(x.tolist() for x in parts)) for parts in zip(*columns, strict=True)]
