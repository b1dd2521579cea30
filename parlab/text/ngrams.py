"""N-grams counted in texts that are cut into tokens, smoothed as Witten and Bell do, and written as an ARPA file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

BEGIN, END = "<s>", "</s>"

Gram = tuple[str, ...]


class Counts:
    """The n-grams of texts, up to an order.

    Args:
        texts: of tokens, without ``<s>`` and ``</s>``.
    """

    def __init__(self, texts: Iterable[Sequence[str]], order: int):
        self.order = order
        self._counts: Counter[Gram] = Counter()
        for text in texts:
            words = (BEGIN, *text, END)
            self._counts.update(
                words[end - n : end] for end in range(2, len(words) + 1) for n in range(1, min(order, end) + 1)
            )
        # Of what follows a context: how often anything does, and how many different tokens.
        self._total: Counter[Gram] = Counter()
        self._kinds: Counter[Gram] = Counter()
        for gram, count in self._counts.items():
            self._total[gram[:-1]] += count
            self._kinds[gram[:-1]] += 1

    def probability(self, gram: Gram) -> float:
        """Of the last token after the others: interpolated with shorter contexts by how many different tokens follow each.

        Witten and Bell 1991, method C; below single tokens all that were seen are alike.
        """
        context = gram[:-1]
        lower = self.probability(gram[1:]) if context else 1.0 / self._kinds[()]
        if context not in self._total:
            return lower
        kinds = self._kinds[context]
        return (self._counts[gram] + kinds * lower) / (self._total[context] + kinds)

    def backoff(self, context: Gram) -> float:
        """What the probability of a shorter context is multiplied with, for tokens that never followed this one."""
        kinds = self._kinds[context]
        return kinds / (self._total[context] + kinds) if kinds else 1.0

    def arpa(self) -> list[str]:
        """The lines of an ARPA file: log10 probability, tokens, log10 backoff."""
        levels: list[list[Gram]] = [[] for _ in range(self.order)]
        for gram in [(BEGIN,), *sorted(self._counts)]:
            levels[len(gram) - 1].append(gram)
        lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, 1))]
        for n, level in enumerate(levels, 1):
            lines += ["", f"\\{n}-grams:"]
            for gram in level:
                own = -99.0 if gram == (BEGIN,) else math.log10(self.probability(gram))
                lines.append(f"{own:.6f}\t{' '.join(gram)}\t{math.log10(self.backoff(gram)):.6f}")
        return [*lines, "", "\\end\\"]
