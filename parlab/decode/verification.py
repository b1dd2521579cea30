"""Scores of given tokens by the decoder: one teacher-forced pass, no search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.model.caches import CrossCache
from parlab.model.rows import RowDecoder
from parlab.text.padding import pad_tokens
from parlab.transfer import to_device, to_host
from parlab.types import SpecialTokens


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
class Continuations:
    """The decoder's next token after each of n positions of a row.

    Attributes:
        tokens: (n) its best token.
        best: (n) the log-probability of that token.
        own: (n) the log-probability of the row's own next token; meaningless at the last position, which has none.
    """

    tokens: list[int]
    best: list[float]
    own: list[float]


def greedy_continuations(
    decoder: RowDecoder,
    cross: CrossCache,
    rows: Sequence[Sequence[int]],
    since: Sequence[int],
    special: SpecialTokens,
) -> list[Continuations]:
    """For each row, the decoder's best next token after each of its tokens, from the one before ``since`` on.

    Of the special tokens only the end of the text counts.

    Args:
        rows: prompts, each with tokens after it.
        since: the position in each row of the first token that is of interest.
    """
    # 1. One pass; the positions that are asked for.
    padded, lengths = pad_tokens(rows)
    position, first = torch.arange(padded.size(1)), torch.tensor(list(since)).unsqueeze(1)
    index = ((position >= first - 1) & (position < lengths.unsqueeze(1))).nonzero(as_tuple=True)
    special_ids = torch.tensor(special.never, dtype=torch.long)
    tokens, row, column, never = to_device(cross.keys[0].device, padded, *index, special_ids)
    hidden, _ = decoder.prefill(tokens, cross)
    logits = decoder.logits(hidden[row, column])
    normalizer = torch.logsumexp(logits, 1)
    # 2. The row's own next token, scored before special tokens are ruled out.
    following = tokens[row, (column + 1).clamp(max=tokens.size(1) - 1)]
    own = logits.gather(1, following.unsqueeze(1)).squeeze(1) - normalizer
    # 3. The decoder's best one.
    if special.never:
        at_stop = logits[:, special.eos].clone()
        logits.index_fill_(1, never, float("-inf"))
        logits[:, special.eos] = at_stop
    best, chosen = logits.max(1)
    # 4. Read from the device at once, then divided among the rows.
    ids, scores, own_scores = (x.tolist() for x in to_host(chosen, best - normalizer, own))
    found, begin = [], 0
    for tokens_of_row, start in zip(rows, since, strict=True):
        end = begin + len(tokens_of_row) - max(start - 1, 0)
        found.append(Continuations(ids[begin:end], scores[begin:end], own_scores[begin:end]))
        begin = end
    return found
