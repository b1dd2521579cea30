"""From the words of one vocabulary to the tokens of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from parlab.errors import UserError
from parlab.text.tokenizer import SPACE, UNK, Tokenizer
from parlab.text.words import word_edges


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
