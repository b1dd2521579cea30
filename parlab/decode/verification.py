"""What the decoder says of given tokens: one teacher-forced pass, no search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.model.caches import CrossCache
from parlab.model.rows import RowDecoder
from parlab.text.padding import pad_tokens
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
    width = max(len(found) for found in candidates)
    rows, starts = [], []
    for prompt, found in zip(prompts, candidates, strict=True):
        for k in range(width):  # utterances with fewer candidates repeat their first one
            rows.append([*prompt, *found[k if k < len(found) else 0], stop])
            starts.append(len(prompt))
    tokens, lengths = pad_tokens(rows, cross.keys[0].device)
    hidden, _ = decoder.prefill(tokens[:, :-1], cross, copies=width)
    place = torch.arange(1, tokens.size(1), device=tokens.device)
    first = torch.tensor(starts, device=tokens.device).unsqueeze(1)
    counted = (place >= first) & (place < lengths.unsqueeze(1))
    row, column = counted.nonzero(as_tuple=True)
    logits = decoder.logits(hidden[row, column])
    wanted = tokens[:, 1:][row, column]
    scores = logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - torch.logsumexp(logits, 1)
    return scores.new_zeros(len(rows)).index_add_(0, row, scores).view(len(prompts), width)


@dataclass(frozen=True)
class Continuations:
    """What the decoder would say after each of n places of a row.

    Attributes:
        tokens: (n) its best token.
        best: (n) the log-probability of that token.
        own: (n) the log-probability of the row's own next token; 0 at the last place, which has none.
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
    """For each row, what the decoder would say after each of its places from ``since`` on.

    Of the special tokens only the end of the text may be said.
    """
    tokens, lengths = pad_tokens(rows, cross.keys[0].device)
    hidden, _ = decoder.prefill(tokens, cross)
    place = torch.arange(tokens.size(1), device=tokens.device)
    first = torch.tensor(list(since), device=tokens.device).unsqueeze(1)
    row, column = ((place >= first - 1) & (place < lengths.unsqueeze(1))).nonzero(as_tuple=True)
    logits = decoder.logits(hidden[row, column])
    normalizer = torch.logsumexp(logits, 1)
    following = tokens[row, (column + 1).clamp(max=tokens.size(1) - 1)]
    own = logits.gather(1, following.unsqueeze(1)).squeeze(1) - normalizer
    if special.never:
        at_stop = logits[:, special.eos].clone()
        logits[:, list(special.never)] = float("-inf")
        logits[:, special.eos] = at_stop
    best, said = logits.max(1)
    counts = [n - max(f - 1, 0) for n, f in zip(lengths.tolist(), since, strict=True)]
    columns = (said.split(counts), (best - normalizer).split(counts), own.split(counts))
    return [Continuations(*(part.tolist() for part in parts)) for parts in zip(*columns, strict=True)]
