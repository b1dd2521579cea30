"""Boosts of phrases by definition: phrases are looked for in whole texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Tokens = Sequence[int]


@dataclass(frozen=True)
class Boost:
    """Phrases with a weight per token."""

    phrases: Mapping[tuple[int, ...], float]

    def found(self, text: Tokens) -> float:
        """The weights of all phrases in a text, each as often as it occurs."""
        text = tuple(text)
        return sum(
            weight * len(phrase)
            for phrase, weight in self.phrases.items()
            for i in range(len(text))
            if text[i : i + len(phrase)] == phrase
        )

    def promised(self, text: Tokens) -> float:
        """The most that a phrase has earned that has begun at the end of a text and not ended."""
        text = tuple(text)
        begun = [
            weight * n
            for phrase, weight in self.phrases.items()
            for n in range(1, len(phrase))
            if n <= len(text) and text[len(text) - n :] == phrase[:n]
        ]
        return max([0.0, *begun])

    def so_far(self, before: Tokens, text: Tokens) -> float:
        """What a text that goes on has added to what stands before it."""
        whole = [*before, *text]
        return self.found(whole) + self.promised(whole) - self.found(before) - self.promised(before)

    def ended(self, before: Tokens, text: Tokens, after: Tokens) -> float:
        """What a text has added when what follows it is known, less what that holds by itself."""
        whole = [*before, *text, *after]
        return self.found(whole) - self.found(before) - self.promised(before) - self.found(after)
