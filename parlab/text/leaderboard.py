"""The English normaliser of the Open ASR Leaderboard as its repository has it since June 2026 (at d1e99b2).

It is Whisper's with other rules, which are written out here, and with tables of spellings, first names and compounds. The tables
are the leaderboard's own and change often: they are read from a clone of its repository, as data, and nothing in it is run.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_normalizer.english import EnglishTextNormalizer

from parlab.errors import UserError

FOLDER = "PARLAB_OPEN_ASR"  # the environment's name of the clone
TABLES = Path("normalizer", "english_abbreviations.py")
_NAMES = ("english_spelling_normalizer", "english_name_normalizer", "english_compound_normalizer")
_HESITATIONS = "hmm mm mhm mmm uh um ah aha ahh ahm eh ehehe em hm huh hum mhum uhm umm uhuh".split()
_NOT_WRITTEN_OUT = "dunno sorta cause kinda".split()  # which the package whisper-normalizer added
_IS = r"\b(it|he|she|what|that|who|here|there|how|when|where|why|this)'s\b"


@dataclass(frozen=True)
class Tables:
    """Spellings and first names by word, compounds by pattern; ``version`` is a hash of the file."""

    spellings: Mapping[str, str]
    names: Mapping[str, str]
    compounds: Mapping[str, str]
    version: str


def read_tables() -> Tables:
    """The tables of the clone that the environment names.

    Raises:
        UserError: it names none, or the file there has no such tables.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        raise UserError(
            f"the normalizer 'open_asr' needs the leaderboard's tables, expected a clone of huggingface/open_asr_leaderboard; "
            f"name its folder in {FOLDER}, or use whisper_english_compounds"
        )
    path = Path(folder) / TABLES
    try:
        content = path.read_bytes()
        assigned = {
            target.id: node.value
            for node in ast.parse(content).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        found = [ast.literal_eval(assigned[name]) for name in _NAMES]
        for table in found:
            if not all(isinstance(word, str) for pair in table.items() for word in pair):
                raise ValueError("an entry is no text")
        for pattern, text in found[2].items():
            re.sub(pattern, text, "")
    except (OSError, SyntaxError, KeyError, ValueError, AttributeError, re.error) as error:
        raise UserError(
            f"{path} holds no tables of the leaderboard's normaliser ({type(error).__name__}: {error}), expected {', '.join(_NAMES)}; "
            f"name a clone of huggingface/open_asr_leaderboard, of June 2026 or later, in {FOLDER}"
        ) from error
    spellings, names, compounds = found
    return Tables(spellings, names, compounds, hashlib.sha256(content).hexdigest()[:12])


class LeaderboardNormalizer(EnglishTextNormalizer):
    """Whisper's English normaliser with the leaderboard's rules and tables."""

    def __init__(self, tables: Tables):
        super().__init__()
        whisper: Any = EnglishTextNormalizer()  # untyped
        self.ignore_patterns = rf"\b({'|'.join(_HESITATIONS)})\b"
        left = {rf"\b{word}\b" for word in _NOT_WRITTEN_OUT}
        own = {r"'s\b": (_IS, r"\1 is")}  # after other words it is a genitive
        rules = [own.get(rule[0], rule) for rule in whisper.replacers.items() if rule[0] not in left]
        self.replacers = dict(rules)  # in order
        self.standardize_numbers = lambda text: whisper.standardize_numbers(_joined(text, tables.compounds))
        self.standardize_spellings = lambda text: letters_joined(_words(_words(text, tables.spellings), tables.names))


def _joined(text: str, compounds: Mapping[str, str]) -> str:
    for pattern, one in compounds.items():
        text = re.sub(pattern, one, text)
    return text


def _words(text: str, table: Mapping[str, str]) -> str:
    return " ".join(table.get(word, word) for word in text.split())


def letters_joined(text: str) -> str:
    """Letters and digits that stand alone beside each other, as one word: two of them, or three where ``a`` or ``i`` is one."""
    words: list[str] = []
    for alone, run in itertools.groupby(text.split(), key=lambda word: len(word) == 1 and word.isalnum()):
        group = list(run)
        fewest = 3 if {"a", "i"} & set(group) else 2
        words += ["".join(group)] if alone and len(group) >= fewest else group
    return " ".join(words)
