"""From the words of one vocabulary to the tokens of another."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from parlab.errors import UserError
from parlab.text.padding import pad_tokens
from parlab.text.tokenizer import SPACE, UNK, Tokenizer
from parlab.text.words import word_edges

NO_LETTER = -1
_SYMBOL = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class SpelledWord:
    """A word: the source's tokens from ``start`` to ``end`` (exclusive), its text, and its tokens in the target."""

    start: int
    end: int
    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Spelling:
    """Words of the tokenizer ``source`` in the tokens of ``target``.

    A word is spelled alone, and follows a blank unless it is the first: so do BPE and sentencepiece spell it in a sentence.
    """

    source: Tokenizer
    target: Tokenizer

    @cached_property
    def _edges(self) -> tuple[list[bool], list[bool]]:
        return word_edges(self.source.token_list, self.source.token_type)

    def check(self, source: str) -> None:
        """Refuse a vocabulary that the target's tokens cannot spell.

        Args:
            source: what it is the vocabulary of, in the error.

        Raises:
            UserError: naming its first such token, or it has no text at all.
        """
        texts = [text for i in range(len(self.source.token_list)) if (text := self.source.decode([i]).strip())]
        texts = [text for text in texts if text != UNK]
        if not texts:
            raise UserError(f"the vocabulary of {source} has no token with a text, expected characters or pieces")
        for text in texts:
            if self.target.unspellable(text):
                raise UserError(
                    f"{source} writes {text!r}, which the model's tokens cannot spell, expected the model's way of writing; name "
                    "another head, or teach one from the model's own transcripts"
                )

    def words(self, tokens: Sequence[int]) -> list[SpelledWord]:
        """The words of ``tokens``, in order; what has no text (a blank, a symbol) is left out."""
        if not tokens:
            return []
        begins, ends = self._edges
        starts = [i for i, token in enumerate(tokens) if i == 0 or begins[token] or ends[tokens[i - 1]]]
        found: list[SpelledWord] = []
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
            text = self.source.decode(tokens[start:end])
            if text:
                ids = self.target.encode(text)
                if found and self.target.token_type == "char" and SPACE in self.target.index:
                    ids = [self.target.index[SPACE], *ids]
                found.append(SpelledWord(start, end, text, tuple(ids)))
        return found

    @property
    def same(self) -> bool:
        """Whether both vocabularies are one: then tokens need no spelling."""
        return self.source.token_list == self.target.token_list

    def core(self, word: SpelledWord, tokens: Sequence[int]) -> tuple[int, int]:
        """The part (start, end) of a word in ``tokens`` without punctuation at its edges; all of it where nothing is left."""
        wordy = [i for i in range(word.start, word.end) if any(c.isalnum() for c in self.source.token_list[tokens[i]])]
        return (wordy[0], wordy[-1] + 1) if wordy else (word.start, word.end)

    # ---- back: tokens of the target in the letters of the source ------------------------------------

    @property
    def by_letters(self) -> bool:
        """Whether the source writes characters, so that each token of the target has its own part of a text in them."""
        return self.source.token_type == "char"

    @cached_property
    def space(self) -> int:
        """The source's id of a blank between words, -1 where it has none."""
        return self.source.index.get(SPACE, -1)

    @cached_property
    def letters(self) -> tuple[tuple[int, ...], ...]:
        """Each token of the target in characters of the source; a blank before a word is one.

        A character that the source lacks is written in the other case, or without its accent; else it is left out, as are
        symbols and parts of characters.
        """
        return tuple(self._letters(token) for token in self.target.token_list)

    @cached_property
    def letter_table(self) -> Tensor:
        """``letters`` as (V, longest) ids, ``NO_LETTER`` after a token's last."""
        return pad_tokens(self.letters, padding=NO_LETTER)[0]

    @cached_property
    def letter_counts(self) -> Tensor:
        """How many letters (V,) each token of the target has."""
        return (self.letter_table != NO_LETTER).sum(1)

    def _letters(self, token: str) -> tuple[int, ...]:
        if token == SPACE or self.target.token_type == "word":
            text = " " if token == SPACE else f" {token}"
        else:
            text = "" if _SYMBOL.fullmatch(token) else token.replace("\u2581", " ")
        found = [self._letter(c) for c in re.sub(r"<0x[0-9A-F]{2}>", "", re.sub(" +", " ", text))]
        return tuple(i for i in found if i is not None)

    def _letter(self, character: str) -> int | None:
        index = self.source.index
        if character == " ":
            return index.get(SPACE)
        plain = unicodedata.normalize("NFKD", character)[0]
        ways = (character, character.lower(), character.upper(), plain, plain.lower(), plain.upper())
        return next((index[way] for way in ways if way in index), None)
