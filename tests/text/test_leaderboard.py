"""The leaderboard's normaliser: golden outputs of its own code (repository at d1e99b2) with the small tables below."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlab.errors import UserError
from parlab.text import leaderboard
from parlab.text.leaderboard import letters_joined
from parlab.text.normalizer import Normalizer, normalizer

TABLES = r'''
"""A table that is no such thing."""
import os
english_spelling_normalizer = {"colour": "color", "ok": "okay"}
english_name_normalizer = {"stacey": "stacy"}
# patterns
english_compound_normalizer = {r"\be\s+mail\b": "email", r"\ball\s+right\b": "alright"}
'''


def clone(folder: Path, tables: str) -> Path:
    path = folder / leaderboard.TABLES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tables)
    return folder


@pytest.fixture
def open_asr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Normalizer:
    monkeypatch.setenv("PARLAB_OPEN_ASR", str(clone(tmp_path, TABLES)))
    normalizer.cache_clear()
    return normalizer("open_asr")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hmm, ahh, it's John's e-mail, all right?", "it is john s email alright"),
        ("Stacey's COLOUR is OK", "stacy s color is okay"),
        ("The B B C has 5 G, a b; i o u", "the bbc has 5gabi0u"),
        ("Dunno, kinda twenty-one dollars, cause he'd been", "dunno kinda $21 cause he had been"),
        ("Mr. Smith won't (laughs) pay 1,000 [noise] uhm 50%", "mister smith will not pay 1000 50%"),
    ],
)
def test_golden(text: str, wanted: str, open_asr: Normalizer) -> None:
    assert open_asr(text) == wanted


def test_letters_that_stand_alone() -> None:
    assert letters_joined("the b b c") == "the bbc"
    assert letters_joined("a b") == "a b" and letters_joined("a b c") == "abc"
    assert (
        letters_joined("i x") == "i x" and letters_joined("5 g") == "5g" and letters_joined("a big cat") == "a big cat"
    )


def test_the_version_names_rules_tables_and_packages(open_asr: Normalizer, tmp_path: Path) -> None:
    """Other tables are another version; compounds are merged."""
    assert open_asr.merge_compounds
    assert (
        "2026-06" in open_asr.version and "whisper-normalizer" in open_asr.version and "kaldialign" in open_asr.version
    )
    clone(tmp_path, TABLES + "\n# newer\n")
    normalizer.cache_clear()
    assert normalizer("open_asr").version != open_asr.version


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (None, "No such file"),
        ("english_spelling_normalizer = {}", "english_name_normalizer"),
        (TABLES.replace('{"stacey": "stacy"}', "os.environ"), "ValueError"),
        (TABLES.replace('"stacy"', "3"), "an entry is no text"),
        (TABLES.replace(r"\be\s", "("), "holds no tables"),
        ("= 3", "SyntaxError"),
    ],
)
def test_no_tables(tables: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read as data: what is no literal is refused."""
    monkeypatch.setenv("PARLAB_OPEN_ASR", str(tmp_path if tables is None else clone(tmp_path, tables)))
    normalizer.cache_clear()
    with pytest.raises(UserError, match="PARLAB_OPEN_ASR") as error:
        normalizer("open_asr")
    assert message in str(error.value)


def test_no_clone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARLAB_OPEN_ASR", raising=False)
    normalizer.cache_clear()
    with pytest.raises(UserError, match="name its folder in PARLAB_OPEN_ASR, or use whisper_english_compounds"):
        normalizer("open_asr")
