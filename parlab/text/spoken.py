"""Words of decoded tokens, with what is known of them: times, confidence, and whether PAR wrote them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from parlab.types import Word

SPACE, UNK, MARK = "<space>", "<unk>", "\u2581"
_SYMBOL = re.compile(r"<.+>")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Replaced(Protocol):
    """A segment: the draft's tokens ``start`` to ``end`` became ``fill``."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def draft(self) -> tuple[int, ...]: ...
    @property
    def fill(self) -> tuple[int, ...]: ...


def filled_tokens(count: int, segments: Sequence[Replaced]) -> list[bool]:
    """Whether each of the ``count`` tokens of a result stands in a fill that is not what the draft had."""
    filled: list[bool] = []
    kept = 0  # draft tokens that are dealt with
    for segment in segments:
        filled += [False] * (segment.start - kept)
        filled += [segment.fill != segment.draft] * len(segment.fill)
        kept = segment.end
    return [*filled, *[False] * (count - len(filled))]


def word_groups(
    texts: Sequence[str], single: bool, starts: Sequence[float] = (), seams: Sequence[float] = ()
) -> list[list[int]]:
    """The tokens of each word, by their numbers; symbols and blanks between words belong to none.

    Args:
        texts: of the tokens, as the token list has them.
        single: whether every token is a word, as are those of token types ``word`` and ``phn``.
        starts: of the tokens, s.
        seams: seconds over which no word reaches.
    """
    groups: list[list[int]] = []
    fresh, edges = True, list(seams)
    for i, text in enumerate(texts):
        while edges and starts[i] >= edges[0]:
            fresh = True
            edges.pop(0)
        if text == SPACE:
            fresh = True
        elif text == UNK or _BYTE.fullmatch(text) or not _SYMBOL.fullmatch(text):
            if fresh or single or text.startswith(MARK) or not groups:
                groups.append([])
            groups[-1].append(i)
            fresh = False
    return groups


def joined(texts: Sequence[str]) -> str:
    """The text of a word's tokens; bytes (``<0xC3>``) that follow one another are characters."""
    parts: list[bytes] = []
    for i, text in enumerate(texts):
        byte = _BYTE.fullmatch(text)
        parts.append(bytes([int(byte[1], 16)]) if byte else (text.removeprefix(MARK) if i == 0 else text).encode())
    return b"".join(parts).decode("utf-8", "replace")


def spoken_words(  # 6 parameters: what a record or a hypothesis knows of its tokens
    texts: Sequence[str],
    times: Sequence[tuple[float, float]],
    confidence: Sequence[float | None],
    filled: Sequence[bool],
    single: bool,
    seams: Sequence[float] = (),
) -> list[Word]:
    """The words of tokens.

    Args:
        texts, filled: of n tokens, as in ``word_groups`` and ``filled_tokens``.
        times, confidence: of the tokens, or empty where they are not known.
    """
    words = []
    for group in word_groups(texts, single, [start for start, _ in times], seams if times else ()):
        text = joined([texts[i] for i in group])
        known = [c for i in group if i < len(confidence) and (c := confidence[i]) is not None]
        sure = min(known) if len(known) == len(group) else None
        start, end = (times[group[0]][0], times[group[-1]][1]) if times else (None, None)
        if text:
            words.append(Word(text, start, end, sure, any(filled[i] for i in group)))
    return words
