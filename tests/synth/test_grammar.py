"""The sentence generators stay in their small worlds."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from parlab.synth.grammar import GRAMMARS, spoken
from parlab.synth.numbers import cardinal, in_pairs, ordinal


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "ZERO"),
        (13, "THIRTEEN"),
        (20, "TWENTY"),
        (45, "FORTY FIVE"),
        (100, "ONE HUNDRED"),
        (649, "SIX HUNDRED FORTY NINE"),
        (58939, "FIFTY EIGHT THOUSAND NINE HUNDRED THIRTY NINE"),
    ],
)
def test_cardinal(number: int, words: str) -> None:
    assert " ".join(cardinal(number)) == words


@pytest.mark.parametrize(
    ("number", "words"), [(1, "FIRST"), (20, "TWENTIETH"), (23, "TWENTY THIRD"), (30, "THIRTIETH")]
)
def test_ordinal(number: int, words: str) -> None:
    assert " ".join(ordinal(number)) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(280, "TWO EIGHTY"), (1967, "NINETEEN SIXTY SEVEN"), (405, "FOUR OH FIVE"), (1500, "FIFTEEN HUNDRED")],
)
def test_in_pairs(number: int, words: str) -> None:
    assert " ".join(in_pairs(number)) == words


@pytest.mark.parametrize("name", GRAMMARS)
def test_sentences_are_upper_case_deterministic_and_from_a_small_vocabulary(name: str) -> None:
    sentences = [GRAMMARS[name](Random(seed)) for seed in range(3000)]
    assert sentences == [GRAMMARS[name](Random(seed)) for seed in range(3000)]
    assert all(s and s == " ".join(s.split()) and s.replace(" ", "").isalpha() and s.isupper() for s in sentences)
    words = {word for sentence in sentences for word in sentence.split()}
    assert 80 <= len(words) <= 120
    assert len(set(sentences)) > 1500


def test_an4_covers_the_words_of_the_real_corpus(shared_data: Path) -> None:
    lines = (shared_data / "an4" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    real = {word for line in lines for word in json.loads(line)["text"].split()}
    made = {word for seed in range(20000) for word in GRAMMARS["an4"](Random(seed)).split()}
    assert real - made <= {"APOSTROPHE"}
    assert len(made - real) <= 12


def test_letters_are_spoken_by_name() -> None:
    assert spoken("RUBOUT Z O B A") == "rubout zee oh B [['eI]]"
