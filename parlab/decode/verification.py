"""Scores of given tokens by the decoder: one teacher-forced pass, no search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.ended import NEVER
from parlab.decode.scorers.whisper import own_rules
from parlab.model.caches import CrossCache
from parlab.model.hybrid import HybridModel
from parlab.model.rows import RowDecoder
from parlab.text.padding import pad_tokens
from parlab.transfer import to_device, to_host


def sequence_scores(
    decoder: RowDecoder,
    cross: CrossCache,
    prompts: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[Sequence[int]]],
    stop: int,
) -> Tensor:
    """Decoder log-probability (B, K) of K candidates per utterance, each with its stop token.

    All candidates of all utterances go through in one pass and share their utterance's cross cache.
    """
    # 1. A row per candidate: prompt, tokens, stop. Utterances with fewer candidates repeat their first one.
    width = max(len(listed) for listed in candidates)
    rows, starts = [], []
    for prompt, listed in zip(prompts, candidates, strict=True):
        for k in range(width):
            rows.append([*prompt, *listed[k if k < len(listed) else 0], stop])
            starts.append(len(prompt))
    # 2. One pass.
    padded, lengths = pad_tokens(rows)
    position = torch.arange(1, padded.size(1))
    counted = (position >= torch.tensor(starts).unsqueeze(1)) & (position < lengths.unsqueeze(1))
    tokens, row, column = to_device(cross.keys[0].device, padded, *counted.nonzero(as_tuple=True))
    hidden, _ = decoder.prefill(tokens[:, :-1], cross, copies=width)
    # 3. Sum over the tokens after each prompt.
    logits = decoder.logits(hidden[row, column])
    wanted = tokens[row, column + 1]
    scores = logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - torch.logsumexp(logits, 1)
    return scores.new_zeros(len(rows)).index_add_(0, row, scores).view(len(prompts), width)


@dataclass(frozen=True)
class TextRules:
    """Which tokens the decoder may write.

    Attributes:
        never, not_first: ids that it never writes, and that it does not write first.
        stop: ends a text; among ``never`` it does not count.
    """

    never: tuple[int, ...]
    not_first: tuple[int, ...]
    stop: int

    @staticmethod
    def of(model: HybridModel) -> TextRules:
        """A model's own rules where it has some (Whisper); else special tokens are never written."""
        special, rules = model.special, own_rules(model)
        if rules is None:
            return TextRules(special.never, (), special.eos)
        return TextRules(tuple(rules.suppressed), tuple(rules.begin_suppressed), special.eos)


@dataclass(frozen=True)
class Proposal:
    """A row that the decoder passes over: a prompt, tokens that it wrote, and tokens that are proposed after them."""

    prompt: Sequence[int]
    written: Sequence[int]
    proposed: Sequence[int]

    @property
    def tokens(self) -> list[int]:
        """All of them."""
        return [*self.prompt, *self.written, *self.proposed]


@dataclass(frozen=True)
class Continuations:
    """The decoder's next token after what it wrote, and after each of n - 1 proposed tokens.

    Attributes:
        tokens: (n) its best token.
        best: (n) the log-probability of that token.
        own: (n) the log-probability of the proposed token; meaningless at the last position, which has none.
    """

    tokens: list[int]
    best: list[float]
    own: list[float]


def best_allowed(logits: Tensor, stop: int, never: Tensor, not_first: Tensor, begins: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and ids (n,) of the best tokens that may be written; ``logits`` (n, V) are written over.

    Args:
        stop, never, not_first: ids, as of ``TextRules``.
        begins: (n,) 1 where a text begins, else 0.
    """
    at_stop = logits[:, stop].clone()
    logits.index_fill_(1, never, NEVER)
    logits[:, stop] = at_stop
    logits.index_copy_(1, not_first, logits[:, not_first].masked_fill(begins.bool().unsqueeze(1), NEVER))
    best, chosen = logits.max(1)
    return best, chosen


def greedy_continuations(
    decoder: RowDecoder, cross: CrossCache, rows: Sequence[Proposal], rules: TextRules
) -> list[Continuations]:
    """For each row, the decoder's best next token after what it wrote and after each proposed token."""
    # 1. One pass; the positions that are asked for, and which of them begin a text.
    padded, lengths = pad_tokens([row.tokens for row in rows])
    position = torch.arange(padded.size(1))
    before = torch.tensor([len(row.prompt) + len(row.written) - 1 for row in rows]).unsqueeze(1)
    begins = torch.tensor([not row.written for row in rows]).unsqueeze(1) & (position == before)
    index = ((position >= before) & (position < lengths.unsqueeze(1))).nonzero(as_tuple=True)
    ids = (torch.tensor(listed, dtype=torch.long) for listed in (rules.never, rules.not_first))
    device = cross.keys[0].device
    tokens, row, column, first, never, not_first = to_device(device, padded, *index, begins[index].long(), *ids)
    hidden, _ = decoder.prefill(tokens, cross)
    logits = decoder.logits(hidden[row, column])
    normalizer = torch.logsumexp(logits, 1)
    # 2. The proposed token, scored before tokens are ruled out.
    following = tokens[row, (column + 1).clamp(max=tokens.size(1) - 1)]
    own = logits.gather(1, following.unsqueeze(1)).squeeze(1) - normalizer
    # 3. The decoder's best one.
    best, chosen = best_allowed(logits, rules.stop, never, not_first, first)
    # 4. Read from the device at once, then divided among the rows.
    chosen_ids, scores, own_scores = (x.tolist() for x in to_host(chosen, best - normalizer, own))
    found, begin = [], 0
    for proposal in rows:
        end = begin + 1 + len(proposal.proposed)
        found.append(Continuations(chosen_ids[begin:end], scores[begin:end], own_scores[begin:end]))
        begin = end
    return found
