"""The other decoders: CTC prefix beam, rescoring, speculative decoding, language-model fusion."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.decode import AR, DECODERS, PAR, CTCBeam, Rescore, Speculative
from parlab.decode.fills import DraftScores, FillScoring
from parlab.decode.prefixes import PrefixBeam, prefix_beam, prefix_hypotheses
from parlab.decode.search.mode import search_mode
from parlab.decode.verification import sequence_scores
from parlab.errors import UserError
from parlab.model.families.espnet import search_class
from parlab.text.padding import pad_tokens
from tests.models import encoded, examples, random_posteriors, tiny_model, write_lm
from tests.reference import ctc


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_ctc_beam_is_the_sum_over_alignments(frames: int, seed: int) -> None:
    """With a beam that holds every prefix, each score is the exact log-probability, and all are there."""
    log_probs = random_posteriors(seed, 1, frames, 3)
    lengths = torch.tensor([frames])
    found = prefix_beam(log_probs, lengths, 0, PrefixBeam(64, 3))
    listed = prefix_hypotheses(found, log_probs, lengths, 64)[0].nbest
    rows = log_probs[0].double().tolist()
    exact = {
        tokens: ctc.total(rows, tokens, -1, -1)
        for n in range(frames + 1)
        for tokens in itertools.product((1, 2), repeat=n)
    }
    exact = {tokens: score for tokens, score in exact.items() if score > -math.inf}
    assert {h.tokens for h in listed} == set(exact)
    for hypothesis in listed:
        assert hypothesis.score == pytest.approx(exact[hypothesis.tokens], abs=1e-4)
    assert [h.score for h in listed] == sorted((h.score for h in listed), reverse=True)


def test_ctc_beam_in_a_batch_is_ctc_beam_alone() -> None:
    log_probs = random_posteriors(3, 4, 30, 12)
    lengths = torch.tensor([30, 11, 1, 22])
    together = prefix_hypotheses(prefix_beam(log_probs, lengths, 0, PrefixBeam(6, 8)), log_probs, lengths, 3)
    for i, n in enumerate(lengths.tolist()):
        part, length = log_probs[i : i + 1, :n], lengths[i : i + 1]
        alone = prefix_hypotheses(prefix_beam(part, length, 0, PrefixBeam(6, 8)), part, length, 3)[0]
        assert [h.tokens for h in alone.nbest] == [h.tokens for h in together[i].nbest]
        assert [h.token_frames for h in alone.nbest] == [h.token_frames for h in together[i].nbest]
        assert alone.token_confidence == pytest.approx(together[i].token_confidence)
        assert alone.score == pytest.approx(together[i].score, abs=1e-4)


def test_the_last_token_of_a_short_utterance_has_its_peak_inside() -> None:
    """The padding shows the same token with a higher posterior than any frame of the utterance."""
    posteriors = torch.full((1, 6, 3), 0.01)
    posteriors[0, :, 0] = 0.9
    posteriors[0, 2, 1] = posteriors[0, 5, 1] = 0.7
    posteriors[0, 5, 1] = 0.95
    length = torch.tensor([4])
    log_probs = (posteriors / posteriors.sum(2, keepdim=True)).log()
    found = prefix_hypotheses(prefix_beam(log_probs, length, 0, PrefixBeam(4, 2)), log_probs, length, 4)[0]
    [one] = [h for h in found.nbest if h.tokens == (1,)]
    assert one.token_frames == ((2, 2),)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("blank_skip", [0.3, 0.6, 0.9])
def test_ctc_beam_holds_no_prefix_twice(blank_skip: float, fixed: bool) -> None:
    """Also where frames are skipped and the beam is wider than the prefixes that live."""
    with search_mode(fixed, None):
        for seed in range(40 if fixed else 150):
            log_probs = random_posteriors(seed, 2, 7, 4, peak=2.0)
            lengths = torch.tensor([7, 5])
            found = prefix_beam(log_probs, lengths, 0, PrefixBeam(20, 1 + seed % 2, blank_skip))
            for hypothesis in prefix_hypotheses(found, log_probs, lengths, 20):
                listed = [h.tokens for h in hypothesis.nbest]
                assert len(set(listed)) == len(listed), (seed, listed)


@pytest.mark.parametrize("name", DECODERS)
def test_an_utterance_without_a_frame_says_nothing(name: str) -> None:
    """Alone, and beside one that has frames and the result that it has alone."""
    model = tiny_model(1)
    states, log_probs = torch.randn(2, 5, 32), random_posteriors(1, 2, 5, 21)
    frames = torch.tensor([0, 5])
    empty = encoded(model, states[:1, :0], frames[:1], log_probs[:1, :0])
    alone = DECODERS[name]().decode(model, empty)[0]
    assert (alone.tokens, alone.score, alone.token_confidence) == ((), 0.0, ())
    both = DECODERS[name]().decode(model, encoded(model, states, frames, log_probs))
    assert (both[0].tokens, both[0].score) == ((), 0.0)
    other = DECODERS[name]().decode(model, encoded(model, states[1:], frames[1:], log_probs[1:]))[0]
    assert both[1].tokens == other.tokens
    assert both[1].score == pytest.approx(other.score, abs=1e-4)


def test_ctc_beam_beats_greedy_where_alignments_add_up() -> None:
    """The classic case: the best path is blank, the best text is not."""
    log_probs = torch.tensor([[[0.4, 0.35, 0.25], [0.4, 0.35, 0.25]]]).log()
    length = torch.tensor([2])
    found = prefix_hypotheses(prefix_beam(log_probs, length, 0, PrefixBeam(10, 2)), log_probs, length, 1)[0]
    assert found.tokens == (1,)
    assert math.exp(found.score) == pytest.approx(0.35 * 0.35 + 2 * 0.35 * 0.4, abs=1e-6)


def test_rescoring_is_the_sum_of_its_parts() -> None:
    """Scores of one pass over all candidates equal ESPnet's decoder on each one."""
    model = tiny_model(4, sharpness=6.0)
    states, lengths = torch.randn(3, 18, 32), torch.tensor([18, 12, 7])
    log_probs = random_posteriors(4, 3, 18, 21)
    found = Rescore(beam_size=4, nbest=4, ctc_weight=0.3, attention_weight=0.7, penalty=0.1).decode(
        model, encoded(model, states, lengths, log_probs)
    )
    ctc_lists = CTCBeam(beam_size=4, nbest=4).decode(model, encoded(model, states, lengths, log_probs))
    for i in range(3):
        want = {}
        for h in ctc_lists[i].nbest:
            tokens = torch.tensor([[20, *h.tokens, 20]])
            size = torch.tensor([tokens.size(1) - 1])
            logits, _ = model.decoder(states[i : i + 1, : lengths[i]], lengths[i : i + 1], tokens[:, :-1], size)
            heard = logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).sum()
            want[h.tokens] = 0.3 * h.score + 0.7 * float(heard) + 0.1 * len(h.tokens)
        assert {h.tokens for h in found[i].nbest} == set(want)
        for h in found[i].nbest:
            assert h.score == pytest.approx(want[h.tokens], abs=1e-3)
        assert found[i].score == max(h.score for h in found[i].nbest)


def test_candidates_of_different_number() -> None:
    """An utterance with fewer candidates than another gets its own scores."""
    model = tiny_model(1)
    states, lengths = torch.randn(2, 9, 32), torch.tensor([9, 5])
    cross = model.rows.cross_cache(states, lengths)
    both = sequence_scores(model.rows, cross, [(20,), (20, 4)], [[(3, 5), (4,), ()], [(6,)]], 20)
    alone = sequence_scores(model.rows, model.rows.cross_cache(states[1:, :5], lengths[1:]), [(20, 4)], [[(6,)]], 20)
    assert float(both[1, 0]) == pytest.approx(float(alone[0, 0]), abs=1e-5)


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 10**6), sharp=st.sampled_from([2.0, 5.0, 9.0]), limit=st.sampled_from([0.0, 0.4, -5.0]))
def test_speculative_is_greedy_attention(seed: int, sharp: float, limit: float) -> None:
    """Always the tokens and score of AR greedy, whatever the draft."""
    model = tiny_model(seed % 7, sharpness=sharp)
    generator = torch.Generator().manual_seed(seed)
    states, lengths = torch.randn(3, 16, 32, generator=generator), torch.tensor([16, 9, 2])
    log_probs = random_posteriors(seed, 3, 16, 21)
    ours = Speculative(maxlenratio=limit).decode(model, encoded(model, states, lengths, log_probs))
    greedy = AR(beam_size=1, ctc_weight=0.0, maxlenratio=limit).decode(model, encoded(model, states, lengths))
    for a, b in zip(ours, greedy, strict=True):
        assert a.tokens == b.tokens
        assert a.score == pytest.approx(b.score, abs=1e-3)
        assert a.counts["decoder_passes"] + a.counts.get("decoder_steps", 0) <= len(a.tokens) + 2


def test_speculative_takes_plain_steps_where_no_draft_is_accepted() -> None:
    """A draft of wrong tokens costs four passes, not one for every token; the tokens are the same."""
    model = tiny_model(2, sharpness=6.0)
    states, lengths = torch.randn(2, 40, 32), torch.tensor([40, 31])
    greedy = AR(beam_size=1, ctc_weight=0.0).decode(model, encoded(model, states, lengths))
    wrong = random_posteriors(9, 2, 40, 21)
    wrong[:, :, sorted({token for h in greedy for token in h.tokens})] = -50.0
    found = Speculative().decode(model, encoded(model, states, lengths, wrong.log_softmax(-1)))
    for a, b in zip(found, greedy, strict=True):
        assert a.tokens == b.tokens
        assert len(a.tokens) > 10
        assert a.score == pytest.approx(b.score, abs=1e-3)
        assert a.token_confidence == pytest.approx(b.token_confidence, abs=1e-4)
        assert a.counts["decoder_passes"] == 5  # four over the draft, one over what they decided
        assert len(a.tokens) - 5 <= a.counts["decoder_steps"] <= len(a.tokens)


def test_speculative_accepts_a_right_draft_in_one_pass() -> None:
    """A draft that says what the decoder says costs one pass; a wide margin accepts any draft."""
    model = tiny_model(2, sharpness=6.0)
    states, lengths = torch.randn(1, 30, 32), torch.tensor([30])
    wanted = AR(beam_size=1, ctc_weight=0.0, maxlenratio=-8).decode(model, encoded(model, states, lengths))[0].tokens
    ids = [i for token in wanted for i in (token, 0)]
    log_probs = torch.full((1, 30, 21), -9.0)
    for t in range(30):
        log_probs[0, t, ids[t] if t < len(ids) else 0] = 0.0
    found = Speculative(maxlenratio=-8).decode(model, encoded(model, states, lengths, log_probs.log_softmax(-1)))[0]
    assert found.tokens == wanted
    assert found.counts["decoder_passes"] == 1
    assert found.counts["accepted_tokens"] == len(wanted)
    noise = random_posteriors(5, 1, 30, 19)
    relaxed = Speculative(margin=1e9, maxlenratio=-8).decode(model, encoded(model, states, lengths, noise))[0]
    assert relaxed.counts["accepted_tokens"] == 8


@pytest.mark.parametrize("kind", ["transformer", "seq_rnn"])
def test_fusion_equals_espnets(kind: str, tmp_path: Path) -> None:
    """AR with a language model against ESPnet's search with the same one."""
    folder = write_lm(tmp_path / kind, kind)
    model = tiny_model(3, sharpness=5.0)
    states, lengths = torch.randn(2, 15, 32), torch.tensor([15, 10])
    from parlab.model.language_model import read_language_model

    lm = read_language_model(str(folder), 21, torch.device("cpu")).lm
    ours = AR(beam_size=4, lm=str(folder), lm_weight=0.5, allow_special=True).decode(
        model, encoded(model, states, lengths)
    )
    for i in range(2):
        search = search_class("beam")(
            beam_size=4,
            weights={"decoder": 0.7, "ctc": 0.3, "lm": 0.5},
            scorers={
                "decoder": model.decoder,
                "ctc": search_class("ctc_prefix")(ctc=model.ctc, eos=20),
                "lm": lm,
            },
            sos=20,
            eos=20,
            vocab_size=21,
            token_list=model.token_list,
            pre_beam_score_key="full",
        )
        best = search(states[i, : lengths[i]])[0]
        assert ours[i].tokens == tuple(t for t in best.yseq.tolist()[1:] if t != 20)
        assert ours[i].score == pytest.approx(float(best.score), abs=1e-4)


@pytest.mark.parametrize("kind", ["transformer", "seq_rnn"])
def test_fusion_in_par_and_rescoring(kind: str, tmp_path: Path) -> None:
    """Everything masked with a language model is AR with it; rescoring adds the model's own log-probability."""
    folder = str(write_lm(tmp_path / kind, kind))
    model = tiny_model(3, sharpness=5.0)
    states, lengths = torch.randn(2, 12, 32), torch.tensor([12, 9])
    log_probs = random_posteriors(2, 2, 12, 21)
    par = PAR(threshold=1.0, max_seq_len=12, ctc_weight=0.0, beam_size=4, allow_unk=True, lm=folder, lm_weight=0.4)
    ar = AR(ctc_weight=0.0, beam_size=4, maxlenratio=-12, lm=folder, lm_weight=0.4)
    for a, b in zip(
        par.decode(model, encoded(model, states, lengths, log_probs)),
        ar.decode(model, encoded(model, states, lengths)),
        strict=True,
    ):
        assert a.tokens == b.tokens
        assert a.score == pytest.approx(b.score, abs=1e-4)
    plain = Rescore(beam_size=3, nbest=3).decode(model, encoded(model, states, lengths, log_probs))
    fused = Rescore(beam_size=3, nbest=3, lm=folder, lm_weight=0.4).decode(
        model, encoded(model, states, lengths, log_probs)
    )
    from parlab.model.language_model import read_language_model

    lm = read_language_model(folder, 21, torch.device("cpu")).lm
    before = {h.tokens: h.score for h in plain[0].nbest}
    for h in fused[0].nbest:
        tokens, _ = pad_tokens([[20, *h.tokens, 20]], torch.device("cpu"))
        logits = lm(tokens[:, :-1], None)[0].log_softmax(-1)
        assert h.score - before[h.tokens] == pytest.approx(
            0.4 * float(logits.gather(2, tokens[:, 1:, None]).sum()), abs=1e-3
        )


def test_a_language_model_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = write_lm(tmp_path / "lm", "seq_rnn", 9)
    model = tiny_model(0)
    with pytest.raises(UserError, match="9 tokens, the speech model 21"):
        AR(lm=str(folder)).decode(model, encoded(model, torch.randn(1, 5, 32), torch.tensor([5])))


@pytest.mark.parametrize("name", ["ar", "par", "rescore"])
def test_prepare_reads_the_language_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``prepare`` names what is wrong before any work; after it decoding reads no file."""
    folder = write_lm(tmp_path / "lm", "transformer")
    model, device = tiny_model(3), torch.device("cpu")
    decoder = DECODERS[name](lm=str(folder))  # type: ignore[call-arg]
    decoder.prepare(model, device)
    shutil.rmtree(folder)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("decoding read a file"))
    states, frames = torch.randn(2, 9, 32), torch.tensor([9, 6])
    assert len(decoder.decode(model, encoded(model, states, frames, random_posteriors(1, 2, 9, 21)))) == 2
    with pytest.raises(UserError, match="there is no language model"):
        DECODERS[name](lm=str(tmp_path / "none")).prepare(model, device)  # type: ignore[call-arg]


def test_confidence_of_the_prefix_beam_is_at_the_peak() -> None:
    """A token is taken up at its first faint trace; what counts is where it is heard."""
    probabilities = torch.tensor(
        [[0.9, 0.05, 0.05], [0.1, 0.85, 0.05], [0.9, 0.05, 0.05], [0.05, 0.05, 0.9], [0.8, 0.1, 0.1]]
    )
    found = CTCBeam(beam_size=4).decode(
        tiny_model(0), encoded(tiny_model(0), torch.zeros(1, 5, 32), torch.tensor([5]), probabilities.log()[None])
    )
    assert found[0].tokens == (1, 2)
    assert found[0].token_frames == ((1, 1), (3, 3))
    assert found[0].token_confidence == pytest.approx((0.85, 0.9))


def test_drafts_and_fills_share_a_formula_with_a_language_model() -> None:
    """Rescored fills are (1 - w) * (attention + language model) + w * CTC; their draft must pay no more."""
    scores = DraftScores(torch.tensor([-2.0]), torch.tensor([-5.0]), torch.tensor([-1.0]))
    assert scores.joint(FillScoring(None, 0.5, False, False, torch.ones(1, dtype=torch.long))).item() == pytest.approx(
        0.5 * (-2 - 1) + 0.5 * -5
    )
    assert scores.joint(FillScoring(None, 0.5, True, False, torch.ones(1, dtype=torch.long))).item() == pytest.approx(
        0.5 * -2 + 0.5 * -5 - 1
    )
