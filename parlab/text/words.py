"""Where words begin in a sequence of tokens, by the token list alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from parlab.text.tokenizer import SPACE

_SYMBOL = re.compile(r"<(?!0x[0-9A-F]{2}>)[^<>\s]+>")  # sentencepiece's bytes (<0xC3>) are parts of words


def word_edges(token_list: Sequence[str], token_type: str) -> tuple[list[bool], list[bool]]:
    """For each id: whether a token of it begins a word, and whether the token after it does.

    Pieces (``bpe``) begin a word at sentencepiece's mark U+2581. Characters are cut at ``<space>``, which is a word of its
    own, as are symbols such as ``<noise>`` and all tokens of ``word`` and ``phn``.
    """
    if token_type in {"word", "phn"}:
        return [True] * len(token_list), [True] * len(token_list)
    alone = [token == SPACE or _SYMBOL.fullmatch(token) is not None for token in token_list]
    marked = [token_type == "bpe" and token.startswith("\u2581") for token in token_list]
    return [a or m for a, m in zip(alone, marked, strict=True)], alone
