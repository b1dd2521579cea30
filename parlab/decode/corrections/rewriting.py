"""One pass's corrections of one text: where the decoder would write another token, that token is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from parlab.decode.corrections.standing import Candidate, best_standing
from parlab.decode.corrections.words import DraftWords, Speller, Word


class Reading(NamedTuple):
    """What the decoder says of the n tokens of a text and of its end, each after the tokens before it; on the host.

    Attributes:
        own: (n + 1) its log-probability of the token, or of the end.
        best: (n + 1) that of the token that it finds best; ``tokens`` (n + 1) are those.
    """

    own: Sequence[float]
    best: Sequence[float]
    tokens: Sequence[int]


def rewritten(
    words: Sequence[Word], draft: DraftWords, reading: Reading, doubt: float, spelling: tuple[Speller, int]
) -> list[Word]:
    """The words with the decoder's corrections.

    A token is refused where it has ``doubt`` nats less than the decoder's best one, which is written in its place. What stands before it in its
    word stays; what of the draft is done with, letters say (``best_standing``).

    Args:
        words: of the text that was read.
        spelling: the decoder's tokens, and the one that ends a text.
    """
    rewriting = _Rewriting(list(words), draft, reading, doubt, spelling)
    while rewriting.next < len(rewriting.words):
        rewriting.take_word()
    rewriting.take_end()
    return rewriting.done


class _Rewriting:
    """A text, of which the words before ``next`` are ``done``."""

    def __init__(
        self, words: list[Word], draft: DraftWords, reading: Reading, doubt: float, spelling: tuple[Speller, int]
    ):
        self.words, self.draft, self.reading, self.doubt = words, draft, reading, doubt
        self.speller, self.stop = spelling
        self.next, self.done = 0, list[Word]()
        self.place = 0  # of the next word's first token in the text that was read

    def _refuses(self, place: int) -> bool:
        return self.reading.own[place] < self.reading.best[place] - self.doubt

    def take_word(self) -> None:
        """Go past the next word: it stays, or the decoder's token is written in it or before it."""
        word, first = self.words[self.next], self.place
        wrong = next((i for i in range(len(word.tokens)) if self._refuses(first + i)), None)
        if wrong is None:
            self._take_right(word, first + len(word.tokens))
            return
        token = self.reading.tokens[first + wrong]
        kept = word.tokens[:wrong]
        if token == self.stop:  # nothing is said here
            self._advance(1)
            if kept:
                self.done.append(self.speller.word(kept, word.start, word.end))
            else:
                self._give_away(word.end)
        elif not kept:
            if self.done and not self.speller.begins(token):  # the word before goes on, and has been seen to
                self._keep(word)
            else:
                self._write((token,), word.start, 0)
        elif not self.speller.begins(token):
            self._write_rest(word, (*kept, token))
        else:
            self._cut(word, kept, token)

    def _take_right(self, word: Word, after: int) -> None:
        """Keep a word of which no token is refused; it goes on where the decoder writes a rest to it."""
        token = self.reading.tokens[after]
        last = self.next + 1 == len(self.words)
        if last or not self._refuses(after) or self.speller.begins(token) or token == self.stop:
            self._keep(word)
        else:
            self._write_rest(word, (*word.tokens, token))

    def _write_rest(self, word: Word, tokens: tuple[int, ...]) -> None:
        """Write a word whose first tokens stand already; a rest without letters (a comma) takes no word's place."""
        if self.speller.letters(tokens[-1:]):
            self._write(tokens, word.start, 1)
        else:
            self._advance(1)
            self.done.append(self.speller.word(tokens, word.start, word.end))

    def _cut(self, word: Word, kept: tuple[int, ...], token: int) -> None:
        """End a word after the tokens that are kept, and begin another one."""
        head, rest = self.speller.letters(kept), self.speller.letters(word.tokens[len(kept) :])
        end = min(word.start + len(head), word.end) if rest else word.end
        self.done.append(self.speller.word(kept, word.start, end))
        if end < word.end:
            self.words[self.next] = replace(word, letters=rest, start=end)
            self._write((token,), end, 1)
            return
        self._advance(1)
        following = self.words[self.next : self.next + 1]
        if following and following[0].letters.startswith(self.speller.letters((token,))):
            self._keep(following[0])  # a comma was refused
        else:
            self._write((token,), word.end, 0)

    def _write(self, tokens: tuple[int, ...], start: int, least: int) -> None:
        """Write a word for the draft's letters from ``start`` on, in place of ``least`` of the next words at least."""
        following = self.words[self.next :]
        added = next((i for i, word in enumerate(reversed(self.done)) if not word.is_added), len(self.done))
        candidate = Candidate(self.speller.letters(tokens), start, least, added)
        way = best_standing(candidate, self.draft.letters, following)
        if way.stands:
            self._advance(way.words)
            self._give_away(way.end)
            self._keep(self.words[self.next])
            return
        self.done.append(self.speller.word(tokens, start, way.end))
        if way.inside:
            self.done.append(self.speller.rest(self.draft, way.end, following[0].end))
        self._advance(way.words)
        if way.words == 0 and following:
            self._keep(following[0])

    def take_end(self) -> None:
        """Go on where the decoder does, if what it read last stands."""
        end = len(self.reading.own) - 1
        token = self.reading.tokens[end]
        if not self._refuses(end) or token == self.stop or (self.words and self.done[-1:] != self.words[-1:]):
            return
        if self.done and not self.speller.begins(token):
            last = self.done.pop()
            self.done.append(self.speller.word((*last.tokens, token), last.start, last.end))
        else:
            self.done.append(self.speller.word((token,), len(self.draft.letters), len(self.draft.letters)))

    # ---- bookkeeping --------------------------------------------------------------------------------

    def _advance(self, count: int) -> None:
        """Be done with the next words."""
        for word in self.words[self.next : self.next + count]:
            self.place += len(word.tokens)
        self.next += count

    def _keep(self, word: Word) -> None:
        self._advance(1)
        self.done.append(word)

    def _give_away(self, end: int) -> None:
        """The letters of the draft up to ``end``, whose words were left out, go to the word before, or to the first one."""
        if self.done:
            self.done[-1] = replace(self.done[-1], end=end)
        elif self.next < len(self.words):
            self.words[self.next] = replace(self.words[self.next], start=0)
