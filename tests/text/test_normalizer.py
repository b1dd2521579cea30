"""Normalisers: golden outputs, versions, and that a second application changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.errors import UserError
from parlab.metrics.wer import corpus_errors
from parlab.text.normalizer import NORMALIZERS, normalizer


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("none", "  Don't  touch,\tthis. ", "Don't touch, this."),
        ("upper", " straße it's ", "STRASSE IT'S"),
        ("lower", "It's  A DOG", "it's a dog"),
        ("basic", "Hello, WORLD! It's 'quoted' \u2014 twenty-one.", "hello world it's quoted twenty one"),
        ("basic", "rock \u2018n\u2019 roll isn\u2019t", "rock n roll isn't"),
        ("basic", "\uff21\uff22 stra\u00dfe_x", "ab strasse x"),
        ("basic", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),  # vowel signs stay
        ("basic", "...", ""),
        (
            "whisper_english",
            "Mr. Smith won't pay twenty-one dollars, um, colour",
            "mister smith will not pay $21 color",
        ),
        ("whisper_basic", "Hello, (laughs) WORLD!", "hello world "),
    ],
)
def test_golden(name: str, text: str, wanted: str) -> None:
    assert normalizer(name)(text) == wanted


@pytest.mark.parametrize(
    "name", [name for name in NORMALIZERS if name != "open_asr"]
)  # which needs tables: its own test
def test_named_and_versioned(name: str) -> None:
    normalize = normalizer(name)
    assert normalize.name == name and normalize.version
    assert name.startswith("whisper") == normalize.version.startswith("whisper-normalizer ")
    assert normalize("") == ""


@pytest.mark.parametrize("name", ["none", "upper", "lower", "basic"])
@given(text=st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_twice_is_once(name: str, text: str) -> None:
    normalize = normalizer(name)
    assert normalize(normalize(text)) == normalize(text)


def test_compounds_are_no_errors_for_one_normalizer() -> None:
    """The Open ASR Leaderboard's scoring: split and joined words are the same in both directions, other errors count."""
    plain, merged = normalizer("whisper_english"), normalizer("whisper_english_compounds")
    assert (plain.merge_compounds, merged.merge_compounds) == (False, True)
    assert merged.version.startswith(plain.version + ", kaldialign ")
    reference, text = "the white paper on a notebook", "the whitepaper in a note book"
    assert corpus_errors([plain(reference)], [plain(text)])["wer"].errors == 5
    found = corpus_errors([merged(reference)], [merged(text)], merged.merge_compounds)["wer"]
    assert (found.substitutions, found.errors, found.total) == (1, 1, 6)


def test_unknown() -> None:
    with pytest.raises(UserError, match="did you mean 'whisper_english'"):
        normalizer("whisper_englsh")
