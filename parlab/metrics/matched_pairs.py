"""Matched pairs: the sentence-segment word error test (MAPSSWE, Gillick and Cox 1989), exact where segments are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from parlab.metrics.paired import sign_flip_test
from parlab.metrics.wer import GAP


@dataclass(frozen=True)
class MatchedPairs:
    """MAPSSWE: segments where the systems may differ, and the mean difference of their errors (B minus A).

    Attributes:
        z: NIST's statistic, the mean in units of its standard error.
        p_normal: its two-sided p-value by the normal approximation, as NIST's sc_stats has it; too small for few segments.
        p_value: of the sign-flip test on the segments (``parlab/metrics/paired.py``), which holds for any number.
    """

    segments: int
    mean_difference: float
    z: float
    p_normal: float
    p_value: float


def _word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[list[int], list[int]]:
    """Words inserted before each reference word (the last entry: after all), and whether each one is wrong or missing."""
    inserted, wrong = [0] * (len(reference) + 1), [0] * len(reference)
    if reference == hypothesis:
        return inserted, wrong
    from kaldialign import align

    index = 0
    # As sclite aligns: a substitution costs 4, the others 3. It takes errors as late as it can, kaldialign as early: so backwards.
    for r, h in reversed(align(reference[::-1], hypothesis[::-1], GAP, sclite_mode=True)):
        if r == GAP:
            inserted[index] += 1
            continue
        wrong[index] = int(r != h)
        index += 1
    return inserted, wrong


def _segment_errors(reference: str, a: str, b: str, buffer: int = 2) -> list[tuple[int, int]]:
    """Errors of A and B in each segment of an utterance: segments are separated by ``buffer`` words that both have right."""
    if reference == a == b:  # most utterances of a good model
        return []
    words = reference.split()
    inserted_a, wrong_a = _word_errors(words, a.split())
    inserted_b, wrong_b = (inserted_a, wrong_a) if a == b else _word_errors(words, b.split())
    segments: list[tuple[int, int]] = []
    count, right = [0, 0], buffer
    for i in range(len(words) + 1):
        errors = [(inserted_a[i], inserted_b[i])] + ([(wrong_a[i], wrong_b[i])] if i < len(words) else [])
        for of_a, of_b in errors:
            if of_a or of_b:
                count = [count[0] + of_a, count[1] + of_b]
                right = 0
        if errors[-1] == (0, 0) and len(errors) == 2:
            right += 1
            if right == buffer and any(count):
                segments.append((count[0], count[1]))
                count = [0, 0]
    if any(count):
        segments.append((count[0], count[1]))
    return segments


def mapsswe(references: Sequence[str], hypotheses_a: Sequence[str], hypotheses_b: Sequence[str]) -> MatchedPairs:
    """The matched-pairs test of two systems on the same utterances."""
    differences = [
        y - x
        for r, a, b in zip(references, hypotheses_a, hypotheses_b, strict=True)
        for x, y in _segment_errors(r, a, b)
    ]
    n = len(differences)
    if not any(differences):
        return MatchedPairs(n, 0.0, 0.0, 1.0, 1.0)
    p = sign_flip_test(differences)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / max(n - 1, 1)
    if (
        variance == 0
    ):  # all segments differ alike: NIST's statistic is infinite, and its approximation certain after two
        return MatchedPairs(n, mean, math.copysign(NormalDist().inv_cdf(max(p, 1e-300) / 2), mean), p, p)
    z = mean / math.sqrt(variance / n)
    return MatchedPairs(n, mean, z, math.erfc(abs(z) / math.sqrt(2)), p)
