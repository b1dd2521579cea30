"""The attention decoder as a scorer of rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers import Rows, VocabularyScorer
from parlab.model.caches import CrossCache, PrefixCache, RowLayout, SuffixCache
from parlab.model.rows import RowDecoder

_BLOCK = 2**17  # elements that stay in a core's cache


def normalizer(logits: Tensor) -> Tensor:
    """Log-sum-exp (N, 1) of (N, V), on CPU by blocks of rows: what lies in the cache is twice as fast."""
    if logits.device.type != "cpu":
        return torch.logsumexp(logits, dim=1, keepdim=True)
    parts = logits.split(max(1, _BLOCK // logits.size(1)))
    return torch.cat([part[:, :1] - torch.log_softmax(part, dim=1)[:, :1] for part in parts])


@dataclass(frozen=True)
class AttentionState:
    """Hidden states (N, D) that predict the rows' next tokens, and the rows' own keys and values."""

    hidden: Tensor
    suffix: SuffixCache | None


@dataclass(frozen=True)
class AttentionScorer(VocabularyScorer[AttentionState]):
    """Decoder log-probabilities of G groups of rows.

    Attributes:
        cross, prefix: caches of the B utterances.
        owner: (G,) utterance of each group, sorted.
        prefix_length: (G,) prefix tokens that a group sees.
        hidden: (G, D) hidden state at the last prefix token: the first step, for free.
    """

    decoder: RowDecoder
    cross: CrossCache
    prefix: PrefixCache
    owner: Tensor
    prefix_length: Tensor
    hidden: Tensor
    weight: float = 1.0

    def start(self) -> AttentionState:
        return AttentionState(self.hidden, None)

    def score(self, state: AttentionState) -> tuple[Tensor, Tensor]:
        logits = self.decoder.logits(state.hidden)
        return logits, normalizer(logits)

    def advance(self, state: AttentionState, rows: Rows) -> AttentionState:
        layout = RowLayout.of(self.owner[rows.group], self.prefix_length[rows.group], self.cross.keys[0].size(0))
        suffix = state.suffix.select(rows.parents) if state.suffix is not None else None
        hidden, suffix = self.decoder.step(rows.tokens, layout, self.cross, self.prefix, suffix)
        return AttentionState(hidden, suffix)
