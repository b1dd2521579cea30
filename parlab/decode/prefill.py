"""The one teacher-forced pass over a batch of prefixes, and the scorer that searches make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers.attention import AttentionScorer
from parlab.model.caches import CrossCache, PrefixCache
from parlab.model.encoded import Encoded
from parlab.model.rows import RowDecoder
from parlab.text.padding import pad_tokens


@dataclass(frozen=True)
class Prefill:
    """Caches and hidden states of B prefixes: a prompt each, with or without a draft after it.

    Attributes:
        decoder: the decoder that made the states.
        cross: keys and values of the encoder's states.
        prefix: keys and values of the prefix tokens.
        hidden: (B, P, D); position i predicts token i + 1.
        prompt_lengths: (B,) tokens of each prompt.
    """

    decoder: RowDecoder
    cross: CrossCache
    prefix: PrefixCache
    hidden: Tensor
    prompt_lengths: Tensor

    @staticmethod
    def of(decoder: RowDecoder, encoded: Encoded, drafts: Sequence[Sequence[int]] = ()) -> Prefill:
        """One pass over the prompts, each with its draft after it where ``drafts`` (B of them) are given."""
        prompt_lengths = torch.tensor([len(prompt) for prompt in encoded.prompts], device=encoded.device)
        rows: list[Sequence[int]] = list(encoded.prompts)
        if drafts:
            rows = [[*prompt, *draft] for prompt, draft in zip(encoded.prompts, drafts, strict=True)]
        tokens, _ = pad_tokens(rows, encoded.device)
        cross = decoder.cross_cache(encoded.states, encoded.frames)
        hidden, prefix = decoder.prefill(tokens, cross)
        return Prefill(decoder, cross, prefix, hidden, prompt_lengths)

    def scorer(self, owner: Tensor, prefix_length: Tensor, weight: float) -> AttentionScorer:
        """The decoder as a scorer of G groups: utterance ``owner`` (G,), of which each sees ``prefix_length`` (G,) tokens."""
        first = self.hidden[owner, prefix_length - 1]
        return AttentionScorer(self.decoder, self.cross, self.prefix, owner, prefix_length, first, weight)
