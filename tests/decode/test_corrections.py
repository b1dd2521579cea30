"""Corrections of drafts: the rules by hand, the passes against a slow implementation, and what holds for all of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import kaldialign
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.decode import AR, PAR, Speculative
from parlab.decode.corrections.passes import CorrectionOptions, corrected
from parlab.decode.corrections.rewriting import Reading, rewritten
from parlab.decode.corrections.standing import distances
from parlab.decode.corrections.words import Speller, Word
from parlab.decode.filling.drafting import Drafting
from parlab.decode.segments import find_segments
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.recognition.recognizer import Recognizer
from parlab.synth.espeak import Voice, speak
from parlab.text.tokenizer import Tokenizer
from tests.decode.test_confidence import MODEL, batch
from tests.decode.test_par_head import asr, waves  # noqa: F401  (a fixture)
from tests.models import examples
from tests.reference.corrections import correct

CHARACTERS = Tokenizer(MODEL.token_list, "char")
ROOT = Path(__file__).resolve().parents[2]
SENTENCES = ["FIFTY SIX THOUSAND TWO HUNDRED NINETY EIGHT", "ENTER SEVEN FIVE", "JANUARY TWENTY SEVENTH NINETEEN SIXTY"]
STOP = 0


class Pieces(Tokenizer):
    """A tokenizer whose pieces are the words of a list and single letters, the longest first."""

    def __init__(self, words: str):
        text = [f"\u2581{word}" for word in words.split()]
        letters = sorted({c for word in text for c in word[1:]} | set(",."))
        self.token_list = ["<stop>", *dict.fromkeys([*text, *(f"\u2581{c}" for c in letters), *letters])]
        self.token_type, self.index = "bpe", {t: i for i, t in enumerate(self.token_list)}

    def encode(self, text: str) -> list[int]:
        found: list[int] = []
        for word in text.split():
            left = f"\u2581{word}"
            while left:
                piece = next(left[:n] for n in range(len(left), 0, -1) if left[:n] in self.index)
                found.append(self.index[piece])
                left = left[len(piece) :]
        return found

    def decode(self, ids: object) -> str:
        return "".join(self.token_list[i] for i in ids if i != STOP).replace("\u2581", " ").strip()  # type: ignore[attr-defined]


VOCABULARY = Pieces(
    "he fell in with a as spanish spanis ship tis ro th an the king of spain pink and blue look looking at up on upon"
)


def rewrite(draft: str, objections: dict[int, str], words: list[Word] | None = None) -> str:
    """The text after one pass in which the decoder writes other tokens in some places.

    Args:
        objections: number of a token -> what the decoder would write, ``_`` before it where it begins a word; "" is the end.
    """
    speller = Speller(VOCABULARY)
    found = speller.draft(VOCABULARY.encode(draft))
    own = words or list(found.words)
    tokens = [*(token for word in own for token in word.tokens), STOP]
    written = {i: VOCABULARY.index[t.replace("_", "\u2581")] if t else STOP for i, t in objections.items()}
    chosen = [written.get(i, token) for i, token in enumerate(tokens)]
    sure = [-9.0 if i in written else -0.1 for i in range(len(tokens))]
    reading = Reading(sure, [-0.1] * len(tokens), chosen)
    result = rewritten(own, found, reading, 1.0, (speller, STOP))
    assert shares(result, len(found.letters))
    return VOCABULARY.decode([token for word in result for token in word.tokens])


def shares(words: list[Word] | tuple[Word, ...], letters: int) -> bool:
    """Whether words share the letters of a draft out, in order."""
    edges = [0, *(word.end for word in words)]
    return all(a == word.start for a, word in zip(edges, words, strict=False)) and (not words or edges[-1] == letters)


@pytest.mark.parametrize(
    ("draft", "objections", "text"),
    [
        ("he fell in", {}, "he fell in"),
        ("he fell with as ship", {3: "_a"}, "he fell with a ship"),  # another word in a word's place
        ("he fell a ship", {2: "_in"}, "he fell in a ship"),  # the draft left one out: it has no letter of "a"
        ("the king the king of spain", {2: "_of"}, "the king of the king of spain"),
        ("he fell tis in with", {2: "_in"}, "he fell in with"),  # the next word is the one: what is before it goes
        ("he up on ship", {1: "_upon"}, "he upon ship"),  # one for two
        ("pingandblue ship", {0: "_pink"}, "pink andblue ship"),  # run together: only the first letters are done with
        ("he spanis ship", {2: "h"}, "he spanish ship"),  # a word goes on
        ("look th ship", {1: "i"}, "looki th ship"),
        ("he, fell", {1: "_fell"}, "he fell"),  # a comma is refused
        ("he fell", {1: ","}, "he, fell"),  # and one is written
        ("he fell", {2: "."}, "he fell."),
        ("he fell ro", {2: ""}, "he fell"),  # nothing more is said
        ("he fell", {2: "_in"}, "he fell in"),  # or more
    ],
)
def test_rules(draft: str, objections: dict[int, str], text: str) -> None:
    assert rewrite(draft, objections) == text


@given(st.text("abc", max_size=6), st.text("abc", max_size=9))
def test_distances(written: str, letters: str) -> None:
    expected = [kaldialign.edit_distance(list(written), list(letters[:n]))["total"] for n in range(len(letters) + 1)]
    assert distances(written, letters) == expected


@settings(max_examples=examples(200), deadline=None)
@given(data=st.data(), draft=st.lists(st.sampled_from(VOCABULARY.token_list[1:]), min_size=1, max_size=9))
def test_the_draft_is_shared_out(data: st.DataObject, draft: list[str]) -> None:
    """Whatever the decoder writes, pass after pass, each letter of the draft has one word that stands for it, in order."""
    speller = Speller(VOCABULARY)
    found = speller.draft([VOCABULARY.index[piece] for piece in draft])
    words = list(found.words)
    assert shares(words, len(found.letters))
    for _ in range(3):
        size = sum(len(word.tokens) for word in words) + 1
        chosen = data.draw(st.lists(st.integers(0, len(VOCABULARY.token_list) - 1), min_size=size, max_size=size))
        sure = data.draw(st.lists(st.sampled_from([-9.0, -0.1]), min_size=size, max_size=size))
        reading = Reading(sure, [-0.1] * size, chosen)
        words = rewritten(words, found, reading, 1.0, (speller, STOP))
        assert shares(words, len(found.letters))
        if not words:
            break


def with_tokenizer(given: Encoded) -> Encoded:
    return dataclasses.replace(given, tokenizer=CHARACTERS)


@settings(max_examples=examples(30), deadline=None)
@given(seed=st.integers(0, 10**6), rounds=st.integers(0, 6), share=st.sampled_from([0.2, 0.5, 1.0]))
def test_equals_the_slow_one(seed: int, rounds: int, share: float) -> None:
    """In a batch, and though a pass scores only what no pass has scored."""
    given = with_tokenizer(batch(seed, 3, 10))
    drafting = Drafting.of(MODEL, given)
    found = corrected(MODEL, given, drafting, CorrectionOptions(rounds, -math.log(share)))
    for i in range(3):
        states = given.states[i, : int(given.frames[i])]
        text, passes, reading = correct(MODEL, states, CHARACTERS, list(drafting.greedy[i].tokens), rounds, share)
        got = found.drafting.greedy[i]
        assert list(got.tokens) == text
        assert found.passes[i] == passes
        size = len(text)
        assert found.agreement.log_prob[i, :size].tolist() == pytest.approx(reading.own[:-1], abs=1e-3)
        check_frames(found.drafting, i)


def check_frames(drafting: Drafting, i: int) -> None:
    """Frames are inside the utterance and in order, and no window has less than no frame."""
    draft, size = drafting.draft, int(drafting.draft.lengths[i])
    first, last = draft.first[i, :size], draft.last[i, :size]
    assert bool((first <= last).all()) and bool((first[1:] >= first[:-1]).all()) and bool((last[1:] >= last[:-1]).all())
    assert size == 0 or (int(first[0]) >= 0 and int(last[-1]) < int(draft.frames[i]))
    for mask in torch.eye(size, dtype=torch.bool):
        segments = find_segments(
            draft, torch.nn.functional.pad(mask, (0, draft.tokens.size(1) - size)).expand(draft.tokens.shape)
        )
        assert bool((segments.last >= segments.first - 1).all())


@torch.inference_mode()
def test_a_text_without_a_doubt_is_the_greedy_one() -> None:
    """Where corrections end because every token is the decoder's best one, they have decoded greedily: a trained model, in noise."""
    spoken = Recognizer.read(ROOT / "recipes" / "an4" / "model", torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    clean = [torch.from_numpy(speak(text, Voice(variant="shelby", rate=166))) for text in SENTENCES]
    noisy = spoken.encode(
        [wave + level * torch.randn(len(wave), generator=generator) for wave in clean for level in (0.0, 0.02, 0.1)]
    )
    drafting = Drafting.of(spoken.model, noisy)
    found = corrected(spoken.model, noisy, drafting, CorrectionOptions(40, 0.0))
    greedy = spoken.decode(AR(ctc_weight=0.0, beam_size=1), noisy)
    settled = changed = 0
    for i, text in enumerate(found.drafting.greedy):
        states = noisy.states[i, : int(noisy.frames[i])]
        _, _, reading = correct(spoken.model, states, spoken.tokenizer, list(text.tokens), 0, 1.0)
        if all(own == pytest.approx(best, abs=1e-4) for own, best in zip(reading.own, reading.best, strict=True)):
            settled += 1
            changed += text.tokens != drafting.greedy[i].tokens
            assert text.tokens == greedy[i].tokens
    assert settled >= 5 and changed >= 3


@pytest.mark.parametrize(
    "options", [{}, {"measure": "decoder"}, {"measure": "rank", "rounds": 3, "widen": 0.3}, {"ctc_weight": 0.4}]
)
def test_neighbours_change_nothing(asr: Recognizer, options: dict[str, Any]) -> None:  # noqa: F811
    usual = PAR(threshold=0.6, beam_size=3, corrections=3, correct_below=0.7, ctc_weight=0.0)
    decoder = dataclasses.replace(usual, **options)
    given = asr.encode(waves())
    together = asr.decode(decoder, given)
    assert any(h.counts["corrected_tokens"] for h in together)
    assert any(h.segments for h in together)
    for parallel, order in ((1, [2, 0, 1]), (2, [1, 2, 0])):
        other = asr.decode(dataclasses.replace(decoder, max_mask_parallel=parallel), given.select(order))
        for hypothesis, i in zip(other, order, strict=True):
            assert (hypothesis.tokens, hypothesis.counts) == (together[i].tokens, together[i].counts)
            assert hypothesis.score == pytest.approx(together[i].score, abs=1e-3)
    for i in range(3):
        [alone] = asr.decode(decoder, given.select([i]))
        assert (alone.tokens, alone.counts) == (together[i].tokens, together[i].counts)


def test_nothing_masked_is_the_corrected_draft(asr: Recognizer) -> None:  # noqa: F811
    """Sure words keep what CTC knows of them; the others have the decoder's probabilities, and the frames of what they replace."""
    given = asr.encode(waves())
    drafting = Drafting.of(asr.model, given)
    found = corrected(asr.model, given, drafting, CorrectionOptions(2, math.log(2.0)))
    hypotheses = asr.decode(PAR(threshold=0.0, corrections=2, ctc_weight=0.0), given)
    for i, hypothesis in enumerate(hypotheses):
        assert hypothesis.tokens == found.drafting.greedy[i].tokens
        assert not hypothesis.segments and hypothesis.counts["decoder_steps"] == 0
        assert hypothesis.counts["decoder_passes"] == found.passes[i] <= 3
        written = hypothesis.counts["corrected_tokens"]
        kept = [c for c in hypothesis.token_confidence if c in drafting.greedy[i].token_confidence]
        assert 0 < written <= len(hypothesis.tokens) and len(kept) >= len(hypothesis.tokens) - written
        check_frames(found.drafting, i)


def test_none_is_the_draft_of_ctc(asr: Recognizer) -> None:  # noqa: F811
    """Without corrections nothing changes, and a decoder that refuses nothing corrects nothing."""
    given = asr.encode(waves())
    plain = asr.decode(PAR(threshold=0.6, ctc_weight=0.0), given)
    assert all("corrected_tokens" not in h.counts for h in plain)
    drafting = Drafting.of(asr.model, given)
    found = corrected(asr.model, given, drafting, CorrectionOptions(5, 1e3))
    assert [h.tokens for h in found.drafting.greedy] == [h.tokens for h in drafting.greedy]
    assert found.passes == [1, 1, 1]


def test_silence_stays_silence(asr: Recognizer) -> None:  # noqa: F811
    """A decoder makes words of noise where it is asked; CTC heard none."""
    given = asr.encode(waves())
    assert given.drafted is not None
    quiet = torch.full_like(given.drafted.log_probs, -50.0)
    quiet[..., 0] = 0.0
    silent = dataclasses.replace(given, drafted=dataclasses.replace(given.drafted, log_probs=quiet))
    for hypothesis in asr.decode(PAR(corrections=4, ctc_weight=0.0), silent):
        assert hypothesis.tokens == ()


def test_refused(tmp_path: Path) -> None:
    for options, word in (
        ({"corrections": -1}, "corrections"),
        ({"correct_below": 0.0}, "correct_below"),
        ({"correct_below": 1.5}, "correct_below"),
    ):
        with pytest.raises(UserError, match=f"the option {word} is"):
            PAR(**options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no tokenizer"):
        PAR(corrections=2).decode(MODEL, batch(0))


@pytest.mark.parametrize("corrections", [1, 5, 30])
def test_verified_corrections_are_greedy_decoding(asr: Recognizer, corrections: int) -> None:  # noqa: F811
    given = asr.encode(waves())
    greedy = asr.decode(AR(ctc_weight=0.0, beam_size=1, maxlenratio=-30), given)
    found = asr.decode(Speculative(corrections=corrections, maxlenratio=-30), given)
    assert [h.tokens for h in found] == [h.tokens for h in greedy]
    assert all(h.counts["decoder_passes"] > 1 for h in found)
