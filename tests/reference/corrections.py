"""Corrections of one draft, every token of every text scored by itself."""

from __future__ import annotations

import math

from torch import Tensor

from parlab.decode.corrections.rewriting import Reading, rewritten
from parlab.decode.corrections.words import Speller
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer
from tests.reference.par import next_log_probs


def read(model: HybridModel, states: Tensor, tokens: list[int]) -> Reading:
    """What the decoder says of a text, one token at a time."""
    eos = model.special.eos
    allowed = [v for v in range(model.vocab_size) if v == eos or v not in model.special.never]
    own, best, chosen = [], [], []
    for i, token in enumerate([*tokens, eos]):
        scores = next_log_probs(model, states, [*model.prompt, *tokens[:i]])
        own.append(scores[token])
        chosen.append(max(allowed, key=lambda v: scores[v]))
        best.append(scores[chosen[-1]])
    return Reading(own, best, chosen)


def correct(
    model: HybridModel, states: Tensor, tokenizer: Tokenizer, tokens: list[int], rounds: int, share: float
) -> tuple[list[int], int, Reading]:
    """The corrected text of a draft, the passes that it took, and what the decoder says of it."""
    speller = Speller(tokenizer)
    draft = speller.draft(tokens)
    words, seen, passes = list(draft.words), [tokens], 1
    reading = read(model, states, tokens)
    for _ in range(rounds):
        if not words:
            break
        words = rewritten(words, draft, reading, -math.log(share), (speller, model.special.eos))
        text = [token for word in words for token in word.tokens]
        if text in seen:
            break
        tokens, passes = text, passes + 1
        seen.append(text)
        reading = read(model, states, tokens)
    return tokens, passes, reading
