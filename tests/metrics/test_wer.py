"""Error counts against values found by hand."""

from __future__ import annotations

import json

import kaldialign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlab.metrics.wer import GAP, ErrorCounts, alignment, char_errors, corpus_errors, word_errors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "substitutions", "insertions", "deletions", "total"),
    [
        ("A B C", "A B C", 0, 0, 0, 3),
        ("A B C", "A X C", 1, 0, 0, 3),
        ("A B C", "A C", 0, 0, 1, 3),
        ("A B C", "A B B C", 0, 1, 0, 3),
        ("RUBOUT G M E F THREE NINE", "RUBOUT G N E F S THREE", 1, 1, 1, 7),
        ("", "", 0, 0, 0, 0),
        ("", "A B", 0, 2, 0, 0),
        ("A B", "", 0, 0, 2, 2),
        ("  A   B ", "A B", 0, 0, 0, 2),
    ],
)
def test_word_errors(
    reference: str, hypothesis: str, substitutions: int, insertions: int, deletions: int, total: int
) -> None:
    assert word_errors(reference, hypothesis) == ErrorCounts(substitutions, insertions, deletions, total)


def test_char_errors_count_the_space_between_words() -> None:
    # "AB C" -> "A B C": one space inserted; a word error rate would count two errors in two words
    assert char_errors("AB C", "A B C") == ErrorCounts(0, 1, 0, 4)
    assert char_errors(" AB  C ", "AB C") == ErrorCounts(0, 0, 0, 4)
    assert char_errors("KITTEN", "SITTING") == ErrorCounts(2, 1, 0, 6)
    assert char_errors("", "") == ErrorCounts()


def test_rate_of_a_corpus_is_pooled_not_averaged() -> None:
    # 1 error in 1 word and 0 errors in 9 words: 10 %, not 50 %
    found = corpus_errors(["A", "B C D E F G H I J"], ["X", "B C D E F G H I J"])
    assert found["wer"].rate == pytest.approx(0.1)
    counts = dict.fromkeys(["insertions", "deletions"], 0) | {"errors": 1, "substitutions": 1, "total": 10}
    assert found["wer"].as_dict() == {"rate": 0.1, **counts}
    assert found["cer"].total == 1 + 17


def test_empty_references_stay_finite_in_json() -> None:
    found = corpus_errors([""], ["A B"])["wer"]
    assert (found.errors, found.total, found.rate) == (2, 0, 2.0)
    assert "Infinity" not in json.dumps(found.as_dict())
    assert corpus_errors([], [])["wer"].rate == 0.0
    # an empty reference among others adds its insertions
    assert corpus_errors(["", "A B"], ["C", "A B"])["wer"].rate == pytest.approx(0.5)


def test_references_and_hypotheses_must_pair() -> None:
    with pytest.raises(ValueError, match="zip"):
        corpus_errors(["A"], ["A", "B"])


def test_alignment() -> None:
    assert alignment("A B C".split(), "A C D".split()) in (
        [("A", "A"), ("B", GAP), ("C", "C"), (GAP, "D")],
        [("A", "A"), ("B", "C"), ("C", "D")],  # as many errors
    )
    assert alignment([], ["A"]) == [(GAP, "A")]
    assert alignment(["A"], []) == [("A", GAP)]
    assert alignment([], []) == []


words = st.lists(st.sampled_from("ABC"), max_size=8)


def test_a_star_is_a_word() -> None:
    assert alignment(["a", "*"], ["a", "b"]) == [("a", "a"), ("*", "b")]
    assert word_errors("*", "").deletions == 1


def distance(a: list[str], b: list[str]) -> int:
    """Levenshtein by its definition."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


@given(words, words)
def test_errors_are_the_edit_distance_and_agree_with_the_alignment(a: list[str], b: list[str]) -> None:
    counts = word_errors(" ".join(a), " ".join(b))
    assert counts.errors == distance(a, b)
    assert len(a) - counts.deletions == len(b) - counts.insertions
    pairs = alignment(a, b)
    assert [x for x, _ in pairs if x != GAP] == a
    assert [y for _, y in pairs if y != GAP] == b
    assert sum(x != y for x, y in pairs) == counts.errors


@given(words, words, words)
def test_what_two_texts_start_with_changes_no_count(start: list[str], a: list[str], b: list[str]) -> None:
    """Against kaldialign on the whole: where paths are equally good, it is the same one that is counted."""
    found = word_errors(" ".join(start + a), " ".join(start + b))
    expected = kaldialign.edit_distance(start + a, start + b)
    assert vars(found) == {
        "substitutions": expected["sub"],
        "insertions": expected["ins"],
        "deletions": expected["del"],
        "total": len(start + a),
    }
