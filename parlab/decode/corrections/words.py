"""Texts as words, each with the letters of the draft that it stands for."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from parlab.text.tokenizer import Tokenizer
from parlab.text.words import word_edges


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes:
        tokens: of the decoder; ``letters``: what they spell, without case, and without what is neither a letter nor a digit.
        start, end: the letters of the draft that it stands for, ``end`` exclusive; the words of a text share all of them out, in order.
        drafted: number of its first token in the draft; None where the decoder wrote the word.
    """

    tokens: tuple[int, ...]
    letters: str
    start: int
    end: int
    drafted: int | None = None

    @property
    def is_added(self) -> bool:
        """Whether it stands for nothing in the draft."""
        return self.start == self.end


@dataclass(frozen=True)
class DraftWords:
    """A draft as words.

    Attributes:
        letters: of all words, one after another; ``cased`` are the same as they are written.
    """

    letters: str
    cased: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Speller:
    """The decoder's tokens as words and letters."""

    tokenizer: Tokenizer

    @cached_property
    def _marked(self) -> list[bool]:
        return word_edges(self.tokenizer.token_list, self.tokenizer.token_type)[0]

    def begins(self, token: int) -> bool:
        """Whether a token begins a word: by its mark, or because its first letter is of a script without case, such as Chinese."""
        shown = self.tokenizer.token_list[token]
        return self._marked[token] or unicodedata.category(shown[:1] or " ") == "Lo"

    def letters(self, tokens: Sequence[int]) -> str:
        """The letters and digits of a piece of text, in lower case."""
        return _lower(_plain(self.tokenizer.decode(tokens)))

    def draft(self, tokens: Sequence[int]) -> DraftWords:
        """A draft as words."""
        starts = [i for i, token in enumerate(tokens) if i == 0 or self.begins(token)]
        cased, words = "", []
        for start, end in pairwise([*starts, len(tokens)]):
            own = _plain(self.tokenizer.decode(tokens[start:end]))
            words.append(Word(tuple(tokens[start:end]), _lower(own), len(cased), len(cased) + len(own), start))
            cased += own
        return DraftWords(_lower(cased), cased, tuple(words))

    def word(self, tokens: Sequence[int], start: int, end: int) -> Word:
        """A word that the decoder wrote, for letters of the draft."""
        return Word(tuple(tokens), self.letters(tokens), start, end)

    def rest(self, draft: DraftWords, start: int, end: int) -> Word:
        """What is left of a draft word of which the first letters are done with."""
        return Word(tuple(self.tokenizer.encode(draft.cased[start:end])), draft.letters[start:end], start, end)


@lru_cache(maxsize=8)
def speller_of(tokenizer: Tokenizer) -> Speller:
    """The speller of a tokenizer, which looks through its tokens once."""
    return Speller(tokenizer)


def tokens_of(words: Sequence[Word]) -> list[int]:
    """The tokens of words, one after another."""
    return [token for word in words for token in word.tokens]


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _lower(text: str) -> str:
    """Lower case, letter by letter: some capitals have two small letters."""
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
