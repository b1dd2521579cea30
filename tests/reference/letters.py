"""CTC's score of a fill by its characters, by definition: write the fill as a text, spell it, and ask CTC for that spelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.reference import ctc


@dataclass(frozen=True)
class Window:
    """The log-posteriors of a segment's frames, and CTC's characters on both sides, -1 where there is none."""

    log_probs: list[list[float]]
    left: int
    right: int


def spell(tokens: Sequence[str], alphabet: Sequence[str], left: int, right: int, ended: bool) -> tuple[int, ...]:
    """The characters of a fill.

    Args:
        tokens: the decoder's, as pieces.
        alphabet: CTC's characters; ``<space>`` stands between words.
        ended: whether the word on the right follows.
    """
    text = "".join("" if token.startswith("<") else token for token in tokens).replace("\u2581", " ")
    text = "".join(c if c == " " else letter(c, alphabet) for c in text)
    while "  " in text:
        text = text.replace("  ", " ")
    if left < 0:  # a text does not begin with a blank
        text = text.removeprefix(" ")
    between = bool(text) or left >= 0
    if ended and right >= 0 and between and not text.endswith(" "):
        text += " "
    return tuple(alphabet.index("<space>" if c == " " else c) for c in text if c != " " or "<space>" in alphabet)


def letter(character: str, alphabet: Sequence[str]) -> str:
    """A character as CTC writes it: as it is, in the other case, or not at all."""
    return next((way for way in (character, character.lower(), character.upper()) if way in alphabet), "")


def size(token: str, alphabet: Sequence[str]) -> int:
    """How many characters of CTC a piece has, a blank before a word among them."""
    return len(spell([token], alphabet, 0, -1, ended=False))


def total(window: Window, tokens: Sequence[str], alphabet: Sequence[str]) -> float:
    """Log-probability that the window reads exactly the fill, and the blank before the word on the right."""
    letters = spell(tokens, alphabet, window.left, window.right, ended=True)
    return ctc.forward_total(window.log_probs, letters, window.left, window.right)


def prefix(window: Window, tokens: Sequence[str], alphabet: Sequence[str]) -> float:
    """Log-probability that the window's reading starts with the fill, whatever follows; 0 for no character."""
    letters = spell(tokens, alphabet, window.left, window.right, ended=False)
    return ctc.forward_prefix(window.log_probs, letters, window.left) if letters else 0.0
