"""Text normalisation, named and versioned, so that a word error rate names its texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from parlab.errors import UserError, nearest


@dataclass(frozen=True)
class Normalizer:
    """A named way to write text before it is compared; ``version`` goes into the metrics.

    Attributes:
        merge_compounds: whether words that are only split or joined in another way (white paper, whitepaper) are no errors.
    """

    name: str
    version: str
    apply: Callable[[str], str]
    merge_compounds: bool = False

    def __call__(self, text: str) -> str:
        return self.apply(text)


def _spaces(text: str) -> str:
    return " ".join(text.split())


def _basic(text: str) -> str:
    """Compatibility forms, lower case, no punctuation but apostrophes inside words."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return _spaces("".join(c if c == "'" or unicodedata.category(c)[0] in "LNM" else " " for c in text))


def _whisper(kind: str) -> tuple[str, Callable[[str], str]]:
    """OpenAI Whisper's normalisers, those of the Open ASR Leaderboard, from their maintained package."""
    try:
        from importlib.metadata import version

        import whisper_normalizer.basic
        import whisper_normalizer.english
    except ImportError as error:
        raise UserError(
            f"the normalizer 'whisper_{kind}' needs the package whisper-normalizer; run `pip install whisper-normalizer`"
        ) from error
    if kind == "english":
        apply = whisper_normalizer.english.EnglishTextNormalizer()
    else:
        apply = whisper_normalizer.basic.BasicTextNormalizer()
    return f"whisper-normalizer {version('whisper-normalizer')}", apply


def _compounds() -> tuple[str, Callable[[str], str]]:
    """Whisper's English normaliser, and the compounds that kaldialign merges, as the Open ASR Leaderboard scores."""
    from importlib.metadata import version

    english, apply = _whisper("english")
    return f"{english}, kaldialign {version('kaldialign')}", apply


def _leaderboard() -> tuple[str, Callable[[str], str]]:
    """The Open ASR Leaderboard's normaliser of June 2026 with tables of its own, and its scorer's merged compounds."""
    english, _ = _compounds()
    from parlab.text.leaderboard import LeaderboardNormalizer, read_tables

    tables = read_tables()
    return f"2026-06, tables {tables.version}, {english}", LeaderboardNormalizer(tables)


COMPOUNDS = "whisper_english_compounds"
LEADERBOARD = "open_asr"
NORMALIZERS: dict[str, Callable[[], tuple[str, Callable[[str], str]]]] = {
    "none": lambda: ("1", _spaces),
    "upper": lambda: ("1", lambda text: _spaces(text.upper())),
    "lower": lambda: ("1", lambda text: _spaces(text.lower())),
    "basic": lambda: ("1", _basic),
    "whisper_basic": lambda: _whisper("basic"),
    "whisper_english": lambda: _whisper("english"),
    COMPOUNDS: lambda: _compounds(),
    LEADERBOARD: lambda: _leaderboard(),
}


@cache
def normalizer(name: str) -> Normalizer:
    """The normaliser called ``name``.

    Raises:
        UserError: there is none of that name.
    """
    if name not in NORMALIZERS:
        raise UserError(
            f"the text normalizer is '{name}', expected one of {', '.join(NORMALIZERS)}{nearest(name, NORMALIZERS)}"
        )
    version, apply = NORMALIZERS[name]()
    return Normalizer(name, version, apply, merge_compounds=name in {COMPOUNDS, LEADERBOARD})
