"""CTC by definition: sums over every labelling of the frames. Slow, and obviously right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def collapse(labels: Sequence[int], blank: int) -> tuple[int, ...]:
    """Drop repeats, then blanks."""
    return tuple(label for label, _ in itertools.groupby(labels) if label != blank)


def readings(labels: Sequence[int], left: int, right: int, blank: int) -> tuple[int, ...] | None:
    """What a window's labels add between its neighbours, or None where they run into one of them.

    A window whose first label is the left neighbour's token, or whose last label is the right one's, would make
    that token longer instead of adding one.
    """
    if labels and labels[0] == left and left >= 0:
        return None
    if labels and labels[-1] == right and right >= 0:
        return None
    if not labels and left == right and left >= 0:
        return None  # two equal neighbours with nothing between them are one token
    return collapse(labels, blank)


def log_sum(values: Sequence[float]) -> float:
    finite = [v for v in values if v > -math.inf]
    if not finite:
        return -math.inf
    top = max(finite)
    return top + math.log(sum(math.exp(v - top) for v in finite))


def total(log_probs: Sequence[Sequence[float]], tokens: Sequence[int], left: int, right: int, blank: int = 0) -> float:
    """Log-probability that the window reads exactly ``tokens``."""
    vocabulary = range(len(log_probs[0])) if log_probs else range(1)
    found = [
        sum(frame[label] for frame, label in zip(log_probs, labels, strict=True))
        for labels in itertools.product(vocabulary, repeat=len(log_probs))
        if readings(labels, left, right, blank) == tuple(tokens)
    ]
    return log_sum(found)


def prefix(log_probs: Sequence[Sequence[float]], tokens: Sequence[int], left: int, blank: int = 0) -> float:
    """Log-probability that the window's reading starts with ``tokens`` (the right neighbour is not looked at)."""
    n = len(tokens)
    found = []
    for labels in itertools.product(range(len(log_probs[0])), repeat=len(log_probs)):
        read = readings(labels, left, -1, blank)
        if read is not None and read[:n] == tuple(tokens):
            found.append(sum(frame[label] for frame, label in zip(log_probs, labels, strict=True)))
    return log_sum(found)


def forward_total(
    log_probs: Sequence[Sequence[float]], tokens: Sequence[int], left: int, right: int, blank: int = 0
) -> float:
    """The same as ``total`` by the textbook forward recursion (Graves 2006) over the tokens with blanks between.

    The neighbours are handled by what may stand first and last: no first frame on a first token that equals the
    left neighbour, no last frame on a last token that equals the right one.
    """
    labels = [blank]
    for token in tokens:
        labels += [token, blank]
    if not log_probs:
        return 0.0 if not tokens and not (left == right and left >= 0) else -math.inf
    alpha = [-math.inf] * len(labels)
    alpha[0] = log_probs[0][blank]
    if len(labels) > 1 and tokens[0] != left:
        alpha[1] = log_probs[0][labels[1]]
    for frame in log_probs[1:]:
        new = []
        for s, label in enumerate(labels):
            ways = [alpha[s]]
            if s >= 1:
                ways.append(alpha[s - 1])
            if s >= 2 and label != blank and label != labels[s - 2]:
                ways.append(alpha[s - 2])
            new.append(log_sum(ways) + frame[label])
        alpha = new
    ends = [alpha[-1]]
    if len(labels) > 1 and tokens[-1] != right:
        ends.append(alpha[-2])
    return log_sum(ends)


def forward_prefix(log_probs: Sequence[Sequence[float]], tokens: Sequence[int], left: int, blank: int = 0) -> float:
    """The same as ``prefix``: sum over the frame at which the last token starts, of the way there."""
    if not tokens:
        return log_sum([forward_total(log_probs, (), left, -1, blank)]) if not log_probs else 0.0
    *history, last = tokens
    found = []
    for t, frame in enumerate(log_probs):
        before = log_probs[:t]
        if history and history[-1] == last:  # only a blank may stand between
            way = forward_total(before, history, left, last, blank)
        elif not history and last == left:
            way = forward_total(before, (), left, -1, blank) if t > 0 else -math.inf
        else:
            way = forward_total(before, history, left, -1, blank) if before or not history else -math.inf
        found.append(way + frame[last])
    return log_sum(found)
