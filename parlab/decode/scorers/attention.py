"""The attention decoder as a scorer of rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers import Rows, VocabularyScorer
from parlab.decode.search.plan import FIRST_CAPACITY, Plan, bucket, padded
from parlab.model.caches import CrossCache, FixedSuffix, PrefixCache, RowLayout, SharedSuffix, Suffix
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
    suffix: Suffix | None


@dataclass(frozen=True)
class AttentionScorer(VocabularyScorer[AttentionState]):
    """Decoder log-probabilities of G groups of rows.

    Attributes:
        cross, prefix: caches of the B utterances.
        owner: (G,) utterance of each group, sorted.
        owner_on_host: the same on the host.
        prefix_length: (G,) prefix tokens that a group sees.
        hidden: (G, D) hidden state at the last prefix token: the first step, for free.
    """

    decoder: RowDecoder
    cross: CrossCache
    prefix: PrefixCache
    owner: Tensor
    owner_on_host: Tensor
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
        if state.suffix is None and len(self.owner) == 1:  # the hypotheses of one beam share most of their tokens
            state = AttentionState(state.hidden, SharedSuffix.empty(self.prefix))
        return self.advance_in(layout, state, rows)

    def grid_of(self, group: Tensor) -> tuple[int, Tensor | None]:
        """What the host knows of the layout of rows of sorted groups (N,): ``RowLayout.grid_of``."""
        return RowLayout.grid_of(self.owner_on_host[group], self.cross.keys[0].size(0))

    def advance_in(self, layout: RowLayout, state: AttentionState, rows: Rows) -> AttentionState:
        """``advance`` in a layout that is known: the host waits for nothing."""
        suffix = None if state.suffix is None else state.suffix.select(rows.parents)
        hidden, suffix = self.decoder.step(rows.tokens, layout, self.cross, self.prefix, suffix)
        return AttentionState(hidden, suffix)

    def fixed(self, plan: Plan) -> FixedAttention:
        owner, prefix_length = self.owner[plan.source], self.prefix_length[plan.source]
        of_tile = plan.per_tile(owner)
        cross, prefix = self.cross, self.prefix
        frames, size = bucket(cross.keys[0].size(2)), bucket(prefix.keys[0].size(2))
        mask = cross.mask
        if mask is None:
            mask = torch.ones(len(cross.keys[0]), 1, 1, cross.keys[0].size(2), dtype=torch.bool, device=owner.device)
        rows = plan.rows()
        return FixedAttention(
            decoder=self.decoder,
            cross=CrossCache(
                [padded(k[of_tile], 2, frames) for k in cross.keys],
                [padded(v[of_tile], 2, frames) for v in cross.values],
                padded(mask[of_tile], 3, frames),
            ),
            prefix=PrefixCache(
                [padded(k[of_tile], 2, size) for k in prefix.keys], [padded(v[of_tile], 2, size) for v in prefix.values]
            ),
            layout=RowLayout(prefix_length[rows], len(of_tile), plan.tile * plan.beam, None),
            hidden=self.hidden[plan.source][rows],
            weight=self.weight,
        )


@dataclass(frozen=True)
class FixedAttention(VocabularyScorer[AttentionState]):
    """``AttentionScorer`` of a plan's slots: as many rows in every step, in tiles that share an utterance's caches.

    Attributes:
        cross, prefix: caches of each tile.
        layout: of the N rows.
        hidden: (N, D) hidden state at the last prefix token.
    """

    decoder: RowDecoder
    cross: CrossCache
    prefix: PrefixCache
    layout: RowLayout
    hidden: Tensor
    weight: float = 1.0

    def start(self) -> AttentionState:
        return AttentionState(self.hidden, FixedSuffix.empty(self.prefix, len(self.hidden), FIRST_CAPACITY))

    def score(self, state: AttentionState) -> tuple[Tensor, Tensor]:
        logits = self.decoder.logits(state.hidden)
        return logits, normalizer(logits)

    def advance(self, state: AttentionState, rows: Rows) -> AttentionState:
        assert state.suffix is not None, "a fixed search starts with room for tokens"
        suffix = state.suffix.select(rows.parents)
        hidden, suffix = self.decoder.step(rows.tokens, self.layout, self.cross, self.prefix, suffix)
        return AttentionState(hidden, suffix)

    def with_room(self, state: AttentionState, size: int) -> AttentionState:
        assert isinstance(state.suffix, FixedSuffix)
        return AttentionState(state.hidden, state.suffix.with_room(size))
