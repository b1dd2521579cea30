"""PAR by the letter of docs/par.md: one segment, one hypothesis, everything recomputed each time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.model.hybrid import HybridModel
from tests.reference.ctc import forward_prefix, forward_total
from tests.reference.phrases import Boost


@dataclass
class Token:
    id: int
    confidence: float
    first: int
    last: int


@dataclass
class Result:
    tokens: tuple[int, ...]
    scores: list[float]
    fills: list[tuple[int, ...]]


def draft_of(log_probs: Tensor, blank: int) -> list[Token]:
    """Greedy CTC of (T, V), token by token."""
    best = log_probs.argmax(-1).tolist()
    tokens, t = [], 0
    for label, run in itertools.groupby(best):
        length = len(list(run))
        if label != blank:
            confidence = max(float(log_probs[i, label].exp()) for i in range(t, t + length))
            tokens.append(Token(label, confidence, t, t + length - 1))
        t += length
    return tokens


def masks_of(model: HybridModel, draft: list[Token], threshold: float, unit: str) -> list[bool]:
    """Which tokens are masked: those below the threshold, or all tokens of the words that have one."""
    words: list[list[int]] = []
    join = False  # the next token goes on with the word before it
    for i, token in enumerate(draft):
        text = model.token_list[token.id]
        alone = unit == "token" or text == "<space>" or (len(text) > 2 and text[0] == "<" and text[-1] == ">")
        alone = alone or model.config["token_type"] in ("word", "phn")
        if join and not alone and not (model.config["token_type"] == "bpe" and text[0] == "\u2581"):
            words[-1].append(i)
        else:
            words.append([i])
        join = not alone
    unsure = [word for word in words if any(draft[i].confidence < threshold for i in word)]
    return [any(i in word for word in unsure) for i in range(len(draft))]


def row_log_probs(model: HybridModel, states: Tensor, tokens: Sequence[int]) -> Tensor:
    """The log-probabilities (L, V) after each of L tokens: the toolkit's own decoder over states (T, D), no cache."""
    decoder, row, states = model.decoder, torch.tensor([list(tokens)]), states.unsqueeze(0)
    if model.family == "Whisper":
        hidden = decoder(input_ids=row, encoder_hidden_states=states).last_hidden_state
        logits = hidden @ decoder.embed_tokens.weight.T
    else:
        logits, _ = decoder(states, torch.tensor([states.size(1)]), row, torch.tensor([row.size(1)]))
    return torch.log_softmax(logits[0].double(), -1)


def next_log_probs(model: HybridModel, states: Tensor, tokens: Sequence[int]) -> list[float]:
    """The log-probabilities (V) after the last token."""
    return row_log_probs(model, states, tokens)[-1].tolist()


def search(
    model: HybridModel,
    states: Tensor,
    prefix: list[int],
    stop: int,
    limit: int,
    beam: int,
    weight: float = 0.0,
    window: list[list[float]] | None = None,
    left: int = -1,
    right: int = -1,
    banned: tuple[int, ...] = (),
    draft: tuple[int, ...] | None = None,
    boost: Boost | None = None,
    before: tuple[int, ...] = (),
    after: tuple[int, ...] = (),
) -> tuple[float, tuple[int, ...], bool]:
    """The best hypothesis of a segment: score, tokens, and whether the draft won.

    With ``weight`` the CTC score of the window is part of every step, over the candidates that the decoder ranks
    first (1.5 times the beam, and the stop token), and the draft is a candidate. A ``boost`` counts phrases between the tokens
    ``before`` and ``after``.
    """
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    ended: list[tuple[float, tuple[int, ...]]] = []

    def ctc(tokens: tuple[int, ...], ending: bool) -> float:
        assert window is not None
        if ending:
            return forward_total(window, tokens, left, right)
        return forward_prefix(window, tokens, left)

    for _ in range(limit):
        grown = []
        for score, tokens in live:
            log_probs = next_log_probs(model, states, [*prefix, *tokens])
            boosts = [0.0] * len(log_probs)
            if boost is not None:
                now = boost.so_far(before, tokens)
                boosts = [boost.so_far(before, (*tokens, v)) - now for v in range(len(log_probs))]
                boosts[stop] = boost.ended(before, tokens, after) - now
            ranks = [(1 - weight) * log_probs[v] + boosts[v] for v in range(len(log_probs))]
            allowed = [v for v in range(len(log_probs)) if v not in banned or v == stop]
            allowed.sort(key=lambda v: -ranks[v])
            if 0 < weight < 1:  # at 1 the decoder has no say, so it does not choose the candidates either
                allowed = sorted({*allowed[: int(1.5 * beam)], stop})
            for v in allowed:
                gain = ranks[v]
                if weight > 0:
                    new = ctc(tokens, True) if v == stop else ctc((*tokens, v), False)
                    old = ctc(tokens, False) if tokens else 0.0
                    gain += weight * (new - old) if new > -math.inf and old > -math.inf else -math.inf
                grown.append((score + gain, tokens, v))
        grown = sorted((g for g in grown if g[0] > -math.inf), key=lambda g: -g[0])[:beam]
        ended += [(score, tokens) for score, tokens, v in grown if v == stop]
        live = [(score, (*tokens, v)) for score, tokens, v in grown if v != stop]
        if not live:
            break
    if weight > 0:
        assert draft is not None
        own = sum(next_log_probs(model, states, [*prefix, *draft[:i]])[v] for i, v in enumerate([*draft, stop]))
        joint = (1 - weight) * own + weight * ctc(draft, True)
        joint += boost.ended(before, draft, after) if boost is not None else 0.0
        best = max(ended, default=(-math.inf, ()))
        return (joint, draft, True) if joint >= best[0] else (*best, False)
    if ended:
        return (*max(ended, key=lambda e: e[0]), False)
    if live:
        return (*max(live, key=lambda e: e[0]), False)
    return -math.inf, (), False


def decode(
    model: HybridModel,
    states: Tensor,
    log_probs: Tensor,
    threshold: float,
    beam: int,
    max_seq_len: int | str,
    margin: int = 3,
    weight: float = 0.0,
    prompt: tuple[int, ...] | None = None,
    unit: str = "token",
    chosen: list[bool] | None = None,
    gaps: set[int] | None = None,
    boost: Boost | None = None,
) -> Result:
    """Decode one utterance: ``states`` (T, D), ``log_probs`` (T, V).

    ``chosen`` are the masks of another policy than the threshold, ``gaps`` the tokens before which one may be missing.
    """
    special = model.special
    banned = tuple(special.never) + ((special.unk,) if special.unk is not None else ())
    draft = draft_of(log_probs, special.blank)
    masked = masks_of(model, draft, threshold, unit) if chosen is None else chosen
    left_out = sorted(gaps or ())
    tokens: list[int] = []
    result = Result((), [], [])
    i = 0
    while i < len(draft) or left_out:
        if left_out and left_out[0] == i:
            left_out.pop(0)
            end = i
        elif not masked[i]:
            tokens.append(draft[i].id)
            i += 1
            continue
        else:
            end = i
            while end < len(draft) and masked[end]:
                end += 1
        left = draft[i - 1].id if i > 0 else -1
        right = draft[end].id if end < len(draft) else -1
        first = draft[i - 1].last + 1 if i > 0 else 0
        last = draft[end].first if end < len(draft) else len(log_probs)
        score, fill, _ = search(
            model,
            states,
            [*(prompt or model.prompt), *(t.id for t in draft[:i])],
            right if right >= 0 else special.eos,
            end - i + margin + 1 if max_seq_len == "auto" else int(max_seq_len),
            beam,
            weight,
            log_probs[first:last].double().tolist(),
            left,
            right,
            banned,
            tuple(t.id for t in draft[i:end]),
            boost,
            tuple(t.id for t in draft[:i]),
            (*(t.id for t in draft[end:]), special.eos),
        )
        tokens += fill
        result.scores.append(score)
        result.fills.append(fill)
        i = end
    result.tokens = tuple(tokens)
    return result
