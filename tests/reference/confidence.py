"""Confidence measures and masking policies by the letter of docs/confidence.md: one utterance, one frame at a time, in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor

from parlab.model.hybrid import HybridModel
from tests.reference.par import Token, draft_of, next_log_probs


def frames_of(log_probs: Tensor, blank: int, blanks: bool) -> list[list[int]]:
    """The frames of each draft token, with the blank ones after it (and before the first one) where these count."""
    tokens: list[list[int]] = []
    leading: list[int] = []
    t = 0
    for label, run in itertools.groupby(log_probs.argmax(-1).tolist()):
        frames = list(range(t, t + len(list(run))))
        t += len(frames)
        if label != blank:
            tokens.append(frames)
        elif blanks and tokens:
            tokens[-1] += frames
        elif blanks:
            leading += frames
    if tokens:
        tokens[0] = leading + tokens[0]
    return tokens


def tempered(log_probs: Sequence[float], temperature: float) -> list[float]:
    """Probabilities of a frame."""
    raised = [math.exp(x / temperature) for x in log_probs]
    return [x / sum(raised) for x in raised]


def entropy(kind: str, p: Sequence[float], alpha: float) -> float:
    if kind == "gibbs":
        return -sum(x * math.log(x) for x in p if x > 0)
    powers = sum(x**alpha for x in p)
    return (1 - powers) / (alpha - 1) if kind == "tsallis" else math.log(powers) / (1 - alpha)


def of_frame(kind: str, p: Sequence[float], alpha: float, normalization: str) -> float:
    """The confidence of one frame."""
    first, second = sorted(p, reverse=True)[:2]
    if kind in ("posterior", "mean"):
        return first
    if kind == "margin":
        return first - second
    own, most = entropy(kind, p, alpha), entropy(kind, [1 / len(p)] * len(p), alpha)
    if normalization == "linear":
        return 1 - own / most
    return (math.exp(-own) - math.exp(-most)) / (1 - math.exp(-most))


def confidences(
    kind: str,
    log_probs: Tensor,
    reduce: str,
    temperature: float = 1.0,
    blanks: bool = False,
    alpha: float = 1 / 3,
    normalization: str = "linear",
) -> list[float]:
    """The confidence of each draft token of (T, V) by a measure of CTC's posteriors."""
    reductions = {"mean": lambda x: sum(x) / len(x), "min": min, "max": max}
    found = []
    for frames in frames_of(log_probs, 0, blanks):
        values = [
            of_frame(kind, tempered(log_probs[t].double().tolist(), temperature), alpha, normalization) for t in frames
        ]
        found.append(reductions[reduce](values))
    return found


def by_decoder(model: HybridModel, states: Tensor, log_probs: Tensor) -> list[tuple[float, int]]:
    """The decoder's probability of each draft token of an utterance, and the number of better tokens."""
    before, found = list(model.prompt), []
    for token in draft_of(log_probs, 0):
        scores = next_log_probs(model, states, before)
        found.append((math.exp(scores[token.id]), sum(score > scores[token.id] for score in scores)))
        before.append(token.id)
    return found


# ---- policies -----------------------------------------------------------------------------------


def budgeted(confidence: Sequence[float], masked: Sequence[bool], share: float) -> list[bool]:
    """At most a share of the tokens, the least sure ones."""
    most = math.ceil(share * len(confidence) - 1e-9)
    unsure = sorted((c, i) for i, (c, m) in enumerate(zip(confidence, masked, strict=True)) if m)
    kept = {i for _, i in unsure[:most]}
    return [i in kept for i in range(len(confidence))]


def with_neighbours(masked: Sequence[bool], left: int, right: int) -> list[bool]:
    return [any(masked[max(i - right, 0) : i + left + 1]) for i in range(len(masked))]


def silences(draft: Sequence[Token], log_probs: Tensor) -> list[float]:
    """Blank's least posterior before each token and after the last one; 1 where no frame lies there."""
    edges = [-1, *(token.last for token in draft)], [*(token.first for token in draft), len(log_probs)]
    return [
        min((float(log_probs[t, 0].exp()) for t in range(last + 1, first)), default=1.0)
        for last, first in zip(*edges, strict=True)
    ]


def gaps_of(draft: Sequence[Token], log_probs: Tensor, masked: Sequence[bool], below: float) -> set[int]:
    """Where a token may be missing: between two tokens that are not masked."""
    if not draft:
        return set()
    sides = [False, *masked, False]
    return {i for i, c in enumerate(silences(draft, log_probs)) if c < below and not sides[i] and not sides[i + 1]}
