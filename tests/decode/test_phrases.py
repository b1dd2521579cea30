"""Phrases that are boosted, against a slow reference: the automaton, and what each decoder makes of it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parlab.decode import AR, PAR, CTCBeam, Decoder, Rescore
from parlab.decode.fused.phrases import Phrases, phrase_automaton, read_phrases, spell_phrases
from parlab.decode.fusion import Contexts, PhraseFusion
from parlab.decode.prefixes import PrefixBeam, prefix_beam, prefix_hypotheses
from parlab.decode.scorers import Rows
from parlab.decode.search.frames import Automata
from parlab.decode.verification import sequence_scores
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer
from tests.decode.test_fixed import agree
from tests.models import encoded, examples, random_posteriors, tiny_model
from tests.reference import ctc, par
from tests.reference.phrases import Boost

CPU = torch.device("cpu")
WRITTEN = "ab\nbcd\t1.5\nc\t0.4\nha ke\t2\ne f\nnope\t-1\nkk\n"


def some_phrases(generator: random.Random, tokens: int, count: int) -> dict[tuple[int, ...], float]:
    """Phrases of one to four of few tokens, so that they overlap; some are to be avoided."""
    return {
        tuple(generator.randrange(tokens) for _ in range(generator.randint(1, 4))): round(generator.uniform(-1, 3), 2)
        for _ in range(count)
    }


def texts(generator: random.Random, count: int, longest: int) -> list[list[int]]:
    return [[generator.randrange(5) for _ in range(generator.randint(0, longest))] for _ in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_the_automaton_counts_phrases(seed: int) -> None:
    """Whatever stands before and after; token 4 is in no phrase."""
    generator = random.Random(seed)
    for _ in range(examples(5)):
        phrases = some_phrases(generator, 4, generator.randint(1, 9))
        boost, automaton = Boost(phrases), Phrases(phrases, 6, CPU)
        before, inside, after = (texts(generator, 20, n) for n in (7, 6, 7))
        after = [[*row, 4] for row in after]
        found = PhraseFusion(automaton, 0.5).scores(Contexts(before, after), inside)
        wanted = [0.5 * boost.ended(*parts) for parts in zip(before, inside, after, strict=True)]
        assert found.tolist() == pytest.approx(wanted, abs=1e-4)
        # Token by token, and all tokens at once.
        state = automaton.after(before)
        gains = automaton.all_gains(state)
        assert torch.equal(gains, automaton.gains(state, torch.arange(6).expand(20, 6)))
        for row, text in zip(gains.tolist(), before, strict=True):
            assert row == pytest.approx([boost.so_far(text, [v]) for v in range(6)], abs=1e-4)


@pytest.fixture
def written(tmp_path: Path) -> str:
    file = tmp_path / "phrases.txt"
    file.write_text(WRITTEN)
    return str(file)


def batch(seed: int, count: int = 3, frames: int = 22) -> tuple[HybridModel, Encoded]:
    """Utterances of different lengths with the tokenizer that spells phrases."""
    model = tiny_model(seed, sharpness=6.0)
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, frames, 32, generator=generator)
    lengths = torch.randint(frames // 2, frames + 1, (count,), generator=generator)
    lengths[0] = frames
    given = encoded(model, states, lengths, random_posteriors(seed, count, frames, model.vocab_size, peak=4.0))
    return model, replace(given, tokenizer=Tokenizer(model.token_list, "char"))


def boost_of(model: HybridModel, path: str, weight: float) -> Boost:
    """The reference's phrases. A text begins as if after a space."""
    spelled = spell_phrases(read_phrases(path), Tokenizer(model.token_list, "char"))
    return _Spaced({phrase: weight * w for phrase, w in spelled.items()}, model.token_list.index("<space>"))


class _Spaced(Boost):
    """Every text begins after a space."""

    def __init__(self, phrases: Mapping[tuple[int, ...], float], space: int):
        super().__init__(phrases)
        object.__setattr__(self, "space", space)

    def so_far(self, before, text):  # type: ignore[no-untyped-def]
        return super().so_far([self.space, *before], text)  # type: ignore[attr-defined]

    def ended(self, before, text, after):  # type: ignore[no-untyped-def]
        return super().ended([self.space, *before], text, after)  # type: ignore[attr-defined]


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_par_is_the_reference(weight: float, written: str) -> None:
    changed = 0
    for seed in range(examples(2)):
        model, given = batch(seed, count=2, frames=14)
        decoder = PAR(
            0.6, beam_size=3, ctc_weight=weight, phrases=written, phrase_weight=2.0, phrase_margin=0.0, max_seq_len=4
        )
        found = decoder.decode(model, given)
        plain = replace(decoder, phrases=None).decode(model, given)
        for i, hypothesis in enumerate(found):
            n = int(given.frames[i])
            states, log_probs = given.states[i, :n], given.posteriors[i, :n]
            boost = boost_of(model, written, decoder.phrase_weight)
            wanted = par.decode(model, states, log_probs, 0.6, 3, 4, weight=weight, boost=boost)
            assert hypothesis.tokens == wanted.tokens
            assert [s.score for s in hypothesis.segments] == pytest.approx(wanted.scores, abs=1e-3)
            changed += hypothesis.tokens != plain[i].tokens
    assert changed


def test_ar_counts_phrases_once(written: str) -> None:
    """The score is the decoder's and that of the phrases in the text; PAR with all masked finds the same."""
    for seed in range(examples(2)):
        model, given = batch(seed)
        decoder = AR(beam_size=4, ctc_weight=0.0, phrases=written, phrase_weight=2.0, maxlenratio=-25)
        boost = boost_of(model, written, decoder.phrase_weight)
        cross = model.rows.cross_cache(given.states, given.frames)
        for i, hypothesis in enumerate(decoder.decode(model, given)):
            if hypothesis.counts["forced_stops"]:
                continue
            candidates = [[hypothesis.tokens]] * len(given)
            own = sequence_scores(model.rows, cross, given.prompts, candidates, model.special.eos)[i].item()
            wanted = own + boost.ended((), hypothesis.tokens, (model.special.eos,))
            assert hypothesis.score == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_ctc_beam_is_exact(seed: int) -> None:
    """With a beam that holds every prefix: CTC's probability over all alignments, and the phrases of the whole text."""
    phrases = some_phrases(random.Random(seed), 2, 4)
    phrases = {tuple(token + 1 for token in phrase): weight for phrase, weight in phrases.items()}
    log_probs, lengths = random_posteriors(seed, 1, 5, 3), torch.tensor([5])
    automata = Automata((Phrases(phrases, 4, CPU),), (0.7,), stop=3)
    found = prefix_beam(log_probs, lengths, 0, PrefixBeam(80, 3, automata=automata))
    listed = prefix_hypotheses(found, log_probs, lengths, 80)[0].nbest
    rows, boost = log_probs[0].double().tolist(), Boost(phrases)
    exact = {
        tokens: ctc.total(rows, tokens, -1, -1) + 0.7 * boost.found(tokens)
        for n in range(6)
        for tokens in itertools.product((1, 2), repeat=n)
    }
    exact = {tokens: score for tokens, score in exact.items() if score > -math.inf}
    assert {h.tokens: h.score for h in listed} == pytest.approx(exact, abs=1e-4)
    assert listed[0].score == pytest.approx(max(exact.values()), abs=1e-4)


def test_rescoring_counts_phrases_once(written: str) -> None:
    """CTC's list is searched with phrases; they count once in the score."""
    model, given = batch(3)
    decoder = Rescore(beam_size=6, nbest=6, phrases=written, phrase_weight=2.0)
    boost = boost_of(model, written, decoder.phrase_weight)
    cross = model.rows.cross_cache(given.states, given.frames)
    for i, hypothesis in enumerate(decoder.decode(model, given)):
        rows = given.posteriors[i, : int(given.frames[i])].double().tolist()
        for listed in hypothesis.nbest[:2]:
            candidates = [[listed.tokens]] * len(given)
            own = sequence_scores(model.rows, cross, given.prompts, candidates, model.special.eos)[i].item()
            wanted = 0.5 * own + boost.ended((), listed.tokens, (model.special.eos,))
            # the beam may have lost some of the alignments
            assert listed.score <= wanted + 0.5 * ctc.forward_total(rows, listed.tokens, -1, -1) + 1e-3
            assert listed.score == pytest.approx(wanted + 0.5 * ctc.forward_total(rows, listed.tokens, -1, -1), abs=0.5)


DECODERS: list[Decoder] = [
    AR(beam_size=3, maxlenratio=-9),
    PAR(0.7, beam_size=3),
    PAR(0.7, beam_size=3, ctc_mode="rescore", context="fills"),
    CTCBeam(beam_size=4),
    Rescore(beam_size=4),
]


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_fixed_shapes_and_batches_change_nothing(decoder: Decoder, written: str) -> None:
    boosted = replace(decoder, phrases=written, phrase_weight=2.0)  # type: ignore[call-arg]
    model, given = batch(4)
    assert agree(boosted, model, given)
    together = boosted.decode(model, given)
    assert [h.tokens for h in together] != [h.tokens for h in decoder.decode(model, given)]
    for i, hypothesis in enumerate(together):
        n = int(given.frames[i])
        part = given.select([i])
        alone = replace(part, states=part.states[:, :n], ctc_log_probs=part.posteriors[:, :n])
        [single] = boosted.decode(model, alone)
        assert (hypothesis.tokens, hypothesis.counts) == (single.tokens, single.counts)
        assert hypothesis.score == pytest.approx(single.score, abs=1e-3)


def test_a_stop_token_that_ends_nothing_is_a_token() -> None:
    """A hypothesis that goes on after its stop token (``length_tolerance``) has the score of its phrases at its end, too."""
    generator = random.Random(0)
    for _ in range(examples(30)):
        phrases = some_phrases(generator, 4, generator.randint(1, 9))
        before, text, after = (texts(generator, 1, n)[0] for n in (5, 6, 5))
        after = [generator.randrange(4), *after, 4]
        text = [*text, after[0], *text, after[0], after[0]]
        scorer = PhraseFusion(Phrases(phrases, 6, CPU), 1.0).scorer(Contexts([before], [after]))
        state, total, none = scorer.start(), 0.0, torch.tensor([0])
        for token in text:
            total += scorer.score(state)[0][0, token].item()
            state = scorer.advance(state, Rows(none, torch.tensor([token]), none))
        total += scorer.score(state)[0][0, after[0]].item()
        assert total == pytest.approx(Boost(phrases).ended(before, text, after), abs=1e-3)


def test_segments_at_a_time_change_nothing(written: str) -> None:
    model, given = batch(5, frames=40)
    decoder = PAR(0.7, beam_size=3, phrases=written, phrase_weight=2.0, phrase_margin=0.5)
    wanted = decoder.decode(model, given)
    found = replace(decoder, max_mask_parallel=2).decode(model, given)
    assert [h.tokens for h in found] == [h.tokens for h in wanted]
    assert max(len(h.segments) for h in wanted) > 2


def test_phrases_open_places(tmp_path: Path) -> None:
    """A sure token is masked where a phrase's first token is within the margin, and so are the next ones of the phrase."""
    model = tiny_model(0, sharpness=6.0)
    ids = {letter: model.token_list.index(letter) for letter in "abcdef"}
    log_probs = torch.full((1, 8, model.vocab_size), -20.0)
    for frame, letter in zip((0, 2, 4, 6), "abcd", strict=True):
        log_probs[0, :, 0] = 0.0
        log_probs[0, frame, ids[letter]] = 5.0
    log_probs[0, 2, ids["e"]] = 3.5  # 1.5 nats below "b"
    log_probs[0, 2, 0] = -20.0
    log_probs = log_probs.log_softmax(-1)
    given = encoded(model, torch.randn(1, 8, 32), torch.tensor([8]), log_probs)
    given = replace(given, tokenizer=Tokenizer(model.token_list, "char"))
    file = tmp_path / "phrases.txt"

    def masked(text: str, margin: float) -> list[tuple[int, int]]:
        file.write_text(text)
        decoder = PAR(0.5, beam_size=2, phrases=str(file), phrase_margin=margin)
        [found] = decoder.decode(model, given)
        return [(s.start, s.end) for s in found.segments]

    assert masked("ef", 1.0) == []
    assert masked("ef", 2.0) == [(1, 3)]
    assert masked("efabab", 2.0) == [(1, 4)]
    assert masked("b", 2.0) == []  # it is there
    assert masked("f\nea\t0.1\ne", 2.0) == [(1, 3)]
    assert masked("ef", 0.0) == []


def test_what_else_is_refused(tmp_path: Path, written: str) -> None:
    model, given = batch(0)
    with pytest.raises(UserError, match="cannot be read"):
        AR(phrases=str(tmp_path / "none.txt")).prepare(model, CPU)
    with pytest.raises(UserError, match="tokenizer"):
        AR(phrases=written, phrase_weight=2.0).decode(model, replace(given, tokenizer=None))
    with pytest.raises(UserError, match="phrase_margin"):
        PAR(phrase_margin=-1.0)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file, tokenizer = tmp_path / "phrases.txt", Tokenizer(["<blank>", "<space>", "a", "b"], "char")
    file.write_text("a")
    first = phrase_automaton(str(file), tokenizer, 4, CPU)
    assert phrase_automaton(str(file), tokenizer, 4, CPU) is first
    file.write_text("a\nbb")
    assert phrase_automaton(str(file), tokenizer, 4, CPU).openings == {2: 1, 3: 2}
