"""Which tokens stand in wrong words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parlab.metrics.wer import GAP, alignment

BOUNDARY = "\u2581"  # sentencepiece's mark at the start of a word
SPACE = "<space>"


def words_of(tokens: Sequence[str], words_are_tokens: bool = False) -> list[tuple[str, list[int]]]:
    """Words, each with the indices of its tokens; tokens are pieces (``\u2581``), characters (``<space>``) or words."""
    if words_are_tokens:
        return [(t, [i]) for i, t in enumerate(tokens)]
    parts: list[str] = []  # of the word so far
    indices: list[int] = []
    words = [(parts, indices)]
    for i, token in enumerate(tokens):
        if token == SPACE or token.startswith(BOUNDARY):
            parts, indices = [], []
            words.append((parts, indices))
        if token != SPACE:
            parts.append(token)
            indices.append(i)
    joined = [("".join(parts).replace(BOUNDARY, ""), indices) for parts, indices in words]
    return [(word, indices) for word, indices in joined if word]


def token_errors(
    tokens: Sequence[str],
    reference: str,
    normalize: Callable[[str], str] = str,
    words_are_tokens: bool = False,
) -> list[bool]:
    """Whether each token belongs to a word that the alignment with ``reference`` (normalised) calls wrong.

    Words are normalised one by one; one that becomes several is wrong if any of them is. Words that are missing have
    no token, and are not seen here.
    """
    spoken: list[str] = []
    tokens_of: list[list[int]] = []  # of each spoken word
    for word, indices in words_of(tokens, words_are_tokens):
        for part in normalize(word).split():
            spoken.append(part)
            tokens_of.append(indices)
    wrong = [False] * len(tokens)
    expected = reference.split()
    if spoken == expected:
        return wrong
    index = 0  # of the spoken word
    for r, h in alignment(expected, spoken):
        if h == GAP:
            continue
        if r != h:
            for i in tokens_of[index]:
                wrong[i] = True
        index += 1
    return wrong
