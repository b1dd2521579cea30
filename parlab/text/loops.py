"""Transcripts in which a decoder ran in circles or wrote more than anyone can say: they are no labels."""

from __future__ import annotations

import zlib

MOST_REPEATS = 3  # of one phrase in a row
MOST_CHARACTERS = 30.0  # a second; fast speech has about 20
_COMPRESSED_FROM = 40  # characters; shorter texts do not compress
_MOST_COMPRESSED = 2.4  # times; OpenAI's bound for a decoding that failed


def loops(text: str) -> bool:
    """Whether a phrase of up to 8 words stands more than ``MOST_REPEATS`` times in a row, or the text compresses as loops do."""
    words = text.split()
    for size in range(1, 9):
        run = 0
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            if run >= MOST_REPEATS * size:
                return True
    data = text.encode("utf-8")
    return len(text) >= _COMPRESSED_FROM and len(data) > _MOST_COMPRESSED * len(zlib.compress(data))


def too_fast(text: str, seconds: float) -> bool:
    """Whether nobody can say the text in so many seconds."""
    return len(text) > MOST_CHARACTERS * max(seconds, 0.5)
