"""Backoff n-grams by definition (the ARPA format): one probability at a time, from dictionaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Grams = Mapping[tuple[str, ...], tuple[float, float]]


def log10_probability(grams: Grams, context: Sequence[str], word: str) -> float:
    """Of a word after a context, which is cut to what the file may have."""
    gram = (*context, word)
    if gram in grams:
        return grams[gram][0]
    if not context:
        return grams[("<unk>",)][0] if ("<unk>",) in grams else -100.0
    return grams.get(tuple(context), (0.0, 0.0))[1] + log10_probability(grams, context[1:], word)


def log_probability(grams: Grams, before: Sequence[str], words: Sequence[str]) -> float:
    """Natural logarithm of words after the beginning of a text."""
    order = max(len(gram) for gram in grams)
    text = ["<s>", *(w if (w,) in grams else "<unk>" for w in (*before, *words))]
    total = 0.0
    for i in range(len(before) + 1, len(text)):
        total += log10_probability(grams, text[max(i - order + 1, 0) : i], text[i])
    return total * math.log(10)


def arpa(grams: Grams) -> str:
    """The file."""
    order = max(len(gram) for gram in grams)
    lines = ["\\data\\", *(f"ngram {n}={sum(len(g) == n for g in grams)}" for n in range(1, order + 1))]
    for n in range(1, order + 1):
        lines += ["", f"\\{n}-grams:"]
        lines += [
            f"{score}\t{' '.join(gram)}" + (f"\t{backoff}" if n < order else "")
            for gram, (score, backoff) in grams.items()
            if len(gram) == n
        ]
    return "\n".join([*lines, "", "\\end\\", ""])
