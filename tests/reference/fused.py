"""What a language model, phrases and n-grams add to a fill, by definition: whole texts are scored each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from parlab.model.language_model import LanguageModel
from tests.reference.ngrams import Grams, log_probability
from tests.reference.phrases import Boost

Tokens = Sequence[int]
Around = tuple[Tokens, Tokens]  # the text before a fill, and that after it, the stop token first


@dataclass(frozen=True)
class Added:
    """What is fused.

    Attributes:
        lm, lm_weight: a network, which reads the start symbol ``sos`` first.
        boost: phrases, weighted.
        grams, gram_weight: n-grams over ``names``, the words of the tokens.
    """

    lm: LanguageModel | None = None
    lm_weight: float = 0.0
    sos: int = 0
    boost: Boost | None = None
    grams: Grams | None = None
    gram_weight: float = 0.0
    names: Sequence[str] = ()

    @property
    def refines(self) -> bool:
        """Whether only candidates of the decoder are scored."""
        return self.grams is not None

    def ranked(self, around: Around, tokens: Tokens, size: int, paid: float) -> tuple[list[float], list[float]]:
        """What each of ``size`` next tokens adds beside its n-grams; and what phrases have added with it in all, ``paid`` without.

        A stop token is scored as the end.
        """
        (before, after), gains = around, [0.0] * size
        if self.lm is not None:
            row = torch.tensor([[self.sos, *before, *tokens]])
            gains = (self.lm_weight * torch.log_softmax(self.lm.scores(row)[0, -1].double(), -1)).tolist()
        if self.boost is None:
            return gains, [0.0] * size
        boosts = [self.boost.so_far(before, (*tokens, v)) for v in range(size)]
        boosts[after[0]] = self.boost.ended(before, tokens, after)
        return [gain + boost - paid for gain, boost in zip(gains, boosts, strict=True)], boosts

    def refined(self, around: Around, tokens: Tokens, token: int) -> float:
        """What the n-grams of a next token add."""
        if self.grams is None:
            return 0.0
        before = [self.names[t] for t in (*around[0], *tokens)]
        return self.gram_weight * log_probability(self.grams, before, [self.names[token]])

    def whole(self, around: Around, tokens: Tokens, stop: int) -> float:
        """What all of a fill and its stop token add."""
        total = 0.0
        for i, token in enumerate([*tokens, stop]):
            lm, _ = Added(self.lm, self.lm_weight, self.sos).ranked(around, tokens[:i], max(*tokens, stop) + 1, 0.0)
            total += lm[token] + self.refined(around, tokens[:i], token)
        return total + (self.boost.ended(around[0], tokens, around[1]) if self.boost is not None else 0.0)


NOTHING = Added()
