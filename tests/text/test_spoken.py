"""Words of decoded tokens: their texts, times, confidences, and which of them PAR wrote."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from parlab.decode import AR, PAR, Greedy
from parlab.recognition.long_audio import shifted
from parlab.recognition.recognizer import Recognizer
from parlab.synth.espeak import Voice, speak
from parlab.text.spoken import filled_tokens, joined, spoken_words, word_groups
from parlab.types import Segment, Word


def test_groups_of_pieces_characters_and_words() -> None:
    pieces = ["\u2581THOUS", "AN", "D", "<noise>", "\u2581TWO", "\u2581", "X"]
    assert word_groups(pieces, single=False) == [[0, 1, 2], [4], [5, 6]]
    letters = ["a", "b", "<space>", "<unk>", "<space>", "c"]
    assert word_groups(letters, single=False) == [[0, 1], [3], [5]]
    assert word_groups(["one", "two"], single=True) == [[0], [1]]
    assert word_groups(["a", "b", "c"], False, [0.0, 1.0, 2.0], [1.0]) == [[0], [1, 2]]  # a seam after the first letter
    assert joined(["\u2581caf", "<0xC3>", "<0xA9>", "s"]) == "caf\u00e9s"
    assert joined(["<0xC3>"]) == "\ufffd"


def test_what_a_fill_wrote() -> None:
    """A fill that is the draft's own, a longer one, a deletion, and a gap that was filled."""
    segments = [
        Segment(1, 2, (5,), (5,)),
        Segment(3, 4, (6,), (7, 8)),
        Segment(4, 5, (9,), ()),
        Segment(6, 6, (), (3,)),
    ]
    # the draft: 0 [5] 2 [6] [9] 10 | 11
    assert filled_tokens(7, segments) == [False, False, False, True, True, False, True]
    assert filled_tokens(8, segments)[-1] is False
    assert filled_tokens(3, []) == [False] * 3


def test_the_least_sure_token_is_the_words_confidence() -> None:
    texts = ["\u2581A", "B", "\u2581C"]
    times = [(0.0, 0.1), (0.1, 0.3), (0.5, 0.6)]
    words = spoken_words(texts, times, [0.9, 0.4, 0.7], [False, True, False], False)
    assert words == [Word("AB", 0.0, 0.3, 0.4, True), Word("C", 0.5, 0.6, 0.7, False)]
    assert spoken_words(texts, [], [0.9, None, 0.7], [False] * 3, False) == [
        Word("AB", None, None, None, False),
        Word("C", None, None, 0.7, False),
    ]


@pytest.mark.parametrize("decoder", [Greedy(), PAR(threshold=0.95), AR(beam_size=2)])
def test_words_of_real_hypotheses(decoder: Greedy | PAR | AR) -> None:
    """Joined they are the text; they follow one another; a later piece of a recording has later words."""
    asr = Recognizer.read("recipes/an4/model", torch.device("cpu"))
    waves = [
        torch.from_numpy(speak(t, Voice(variant="shelby", rate=166)))
        for t in ("FIFTY SIX THOUSAND TWO HUNDRED", "A B C")
    ]
    found = [asr.named(h, "x") for h in asr.decode(decoder, asr.encode(waves))]
    for h in found:
        assert " ".join(w.text for w in h.words) == h.text
        assert all(0.0 <= (w.confidence or 0.0) <= 1.0 for w in h.words)
        if h.token_times:
            edges = [edge for w in h.words for edge in (w.start, w.end)]
            assert edges == sorted(edges, key=lambda edge: edge or 0.0)
            moved = shifted(h, 10.0).words
            assert [w.start for w in moved] == pytest.approx([10.0 + (w.start or 0.0) for w in h.words])
            assert [dataclasses.replace(w, start=0.0, end=0.0) for w in moved] == [
                dataclasses.replace(w, start=0.0, end=0.0) for w in h.words
            ]
        else:
            assert all(w.start is None for w in h.words)
    changed = any(s.fill != s.draft for h in found for s in h.segments)
    assert any(w.filled for h in found for w in h.words) == changed
    assert changed == isinstance(decoder, PAR)
