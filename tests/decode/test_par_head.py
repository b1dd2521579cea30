"""PAR on the draft of a head with a vocabulary of its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from parlab.decode import AR, PAR, CTCBeam, Gated, Greedy, Refine, Rescore, Speculative
from parlab.decode.filling.drafting import Drafting
from parlab.decode.prefixes import PrefixBeam, prefix_beam, prefix_hypotheses
from parlab.decode.search.mode import search_mode
from parlab.decode.verification import Proposal, TextRules, greedy_continuations, sequence_scores
from parlab.model.folder import read_model, write_model
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer
from tests.models import S2T_SENTENCES, s2t_model, s2t_tokenizer
from tests.whisper import write_letter_head, write_whisper

CPU = torch.device("cpu")
LETTERS = Tokenizer(["<blank>", "<space>", *sorted(set("".join(S2T_SENTENCES)) - {" "})], "char")


@pytest.fixture(scope="module", params=["whisper", "pieces"])
def asr(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    folder = tmp_path_factory.mktemp("head")
    if request.param == "whisper":
        write_whisper(folder / "m", seed=5)
    else:
        tokenizer = s2t_tokenizer(folder)
        write_model(s2t_model(tokenizer), tokenizer, folder / "m")
    model, _ = read_model(folder / "m")
    sharpness, spaces = (12.0, 4.0) if request.param == "whisper" else (3.0, 1.0)
    write_letter_head(folder / "h", model, LETTERS, sharpness, spaces)
    return Recognizer.read(folder / "m", CPU, head=folder / "h")


def waves(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(9000 + 2000 * i, generator=generator) for i in range(count)]


@pytest.mark.parametrize("context", ["draft", "fills"])
@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("mode", ["prefix", "rescore"])
def test_neighbours_change_nothing(asr: Recognizer, context: str, weight: float, mode: str) -> None:
    options = PAR(threshold=0.6, beam_size=3, ctc_weight=weight, ctc_mode=mode, context=context, rounds=3, widen=0.9)
    batch = asr.encode(waves())
    together = asr.decode(options, batch)
    assert any(h.segments for h in together)
    for parallel, order in ((1, [2, 0, 1]), (2, [1, 2, 0])):
        other = asr.decode(dataclasses.replace(options, max_mask_parallel=parallel), batch.select(order))
        for hypothesis, i in zip(other, order, strict=True):
            assert hypothesis.tokens == together[i].tokens
            assert hypothesis.score == pytest.approx(together[i].score, abs=1e-3)
            assert hypothesis.counts == together[i].counts
    alone = [asr.decode(options, batch.select([i]))[0] for i in range(3)]
    assert [h.tokens for h in alone] == [h.tokens for h in together]


@pytest.mark.parametrize("measure", ["gibbs:blanks=true", "decoder"])
def test_neighbours_change_nothing_with_other_measures_and_policies(asr: Recognizer, measure: str) -> None:
    """Masks are of whole words, gaps lie between words, and an utterance's result is its own."""
    policy = "budget:share=0.5+gaps:below=0.9"
    options = PAR(threshold=0.9, beam_size=3, ctc_weight=0.4, measure=measure, policy=policy)
    batch = asr.encode(waves())
    together = asr.decode(options, batch)
    assert any(s.start < s.end for h in together for s in h.segments)
    drafting = Drafting.of(asr.model, batch)
    for i, hypothesis in enumerate(together):
        edges = {0, len(drafting.greedy[i].tokens), *drafting.word_begins()[i].nonzero().flatten().tolist()}
        assert {n for s in hypothesis.segments for n in (s.start, s.end)} <= edges
        assert asr.decode(options, batch.select([i]))[0].tokens == hypothesis.tokens


def test_baselines_decode_with_a_head(asr: Recognizer) -> None:
    """A gate that is shut and accepts the decoder's own tokens only is greedy attention; refinement keeps the words that are sure."""
    batch = asr.encode(waves())
    shut = asr.decode(Gated(gate=2.0, margin=0.0, beam_size=1, maxlenratio=-12), batch)
    wanted = asr.decode(Speculative(maxlenratio=-12), batch)
    assert [h.tokens for h in shut] == [h.tokens for h in wanted]
    refined = asr.decode(Refine(threshold=0.6), batch)
    for i, (draft, found) in enumerate(zip(asr.decode(Greedy(), batch), refined, strict=True)):
        masked = {u for s in found.segments for u in range(s.start, s.end)}
        assert masked == {u for u, c in enumerate(draft.token_confidence) if c < 0.6}
        assert all(a == b for u, (a, b) in enumerate(zip(found.tokens, draft.tokens, strict=True)) if u not in masked)
        assert asr.decode(Refine(threshold=0.6), batch.select([i]))[0].tokens == found.tokens


def test_a_words_confidence_is_the_least_of_its_letters(asr: Recognizer) -> None:
    """A temperature of nearly 1 takes the long way to the same confidences."""
    batch = asr.encode(waves())
    near = asr.decode(Greedy("posterior:temperature=1.000001"), batch)
    for own, other in zip(asr.decode(Greedy(), batch), near, strict=True):
        assert other.tokens == own.tokens
        assert other.token_confidence == pytest.approx(own.token_confidence, abs=1e-4)
        assert other.token_frames == own.token_frames


@pytest.mark.parametrize("options", [{}, {"beam_size": 4}, {"beam_size": 4, "nbest": 3}, {"maxlenratio": -5}])
@pytest.mark.parametrize(
    "decoder",
    [
        AR(ctc_weight=0.0, beam_size=1),
        PAR(0.6, 3, ctc_weight=0.0, context="fills", length_tolerance=0.1),
        PAR(0.6, 3),
        PAR(0.6, 3, ctc_mode="rescore", rounds=2),
    ],
    ids=str,
)
def test_fixed_shapes_change_nothing(asr: Recognizer, decoder: AR | PAR, options: dict[str, int]) -> None:
    """Also under Whisper's rules and with its beam, which stays full while hypotheses end."""
    known = {field.name for field in dataclasses.fields(decoder)}
    decoder = dataclasses.replace(decoder, **{k: v for k, v in options.items() if k in known})
    batch = asr.encode(waves())
    with torch.inference_mode():
        wanted = asr.decode(decoder, batch)
        with search_mode(fixed=True):
            found = asr.decode(decoder, batch)
    for one, other in zip(found, wanted, strict=True):
        assert one.tokens == other.tokens
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert one.counts == other.counts
        assert [h.tokens for h in one.nbest] == [h.tokens for h in other.nbest]


def test_prefix_beam_and_rescoring(asr: Recognizer) -> None:
    """The head's n-best, spelled alike once, in the decoder's tokens; the decoder's score of each is that of one pass."""
    batch = asr.encode(waves())
    found = asr.decode(CTCBeam(beam_size=6, nbest=6), batch)
    assert asr.head is not None and batch.drafted is not None
    for i, hypothesis in enumerate(found):
        texts = [h.tokens for h in hypothesis.nbest]
        assert len(set(texts)) == len(texts) and hypothesis.tokens == texts[0]
        log_probs = batch.drafted.log_probs[i : i + 1, : int(batch.drafted.frames[i])]
        count = torch.tensor([log_probs.size(1)])
        [alone] = prefix_hypotheses(prefix_beam(log_probs, count, 0, PrefixBeam(6, 20)), log_probs, count, 6)
        words = [asr.head.spelling.words(h.tokens) for h in alone.nbest]
        spelled = [tuple(t for word in line for t in word.tokens) for line in words]
        assert texts == list(dict.fromkeys(spelled))
    rescored = asr.decode(Rescore(beam_size=6, nbest=6, ctc_weight=0.0, attention_weight=1.0), batch)
    cross = asr.model.rows.cross_cache(batch.states, batch.frames)
    for i, hypothesis in enumerate(rescored):
        listed = [[h.tokens for h in other.nbest] for other in found]
        scores = sequence_scores(asr.model.rows, cross, batch.prompts, listed, asr.model.special.eos)[i].detach()
        order = scores[: len(listed[i])].argsort(descending=True).tolist()
        assert [h.tokens for h in hypothesis.nbest] == [listed[i][k] for k in order]
        assert hypothesis.score == pytest.approx(float(scores.max()), abs=1e-3)


@pytest.mark.parametrize("limit", [0.0, -6])
def test_speculative_verifies_the_heads_draft(asr: Recognizer, limit: float) -> None:
    """The tokens are the decoder's own, under the model's own rules, whatever the head drafts."""
    batch = asr.encode(waves())
    wanted = asr.decode(AR(ctc_weight=0.0, beam_size=1, maxlenratio=limit), batch)
    found = asr.decode(Speculative(maxlenratio=limit), batch)
    assert [h.tokens for h in found] == [h.tokens for h in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
    alone = [asr.decode(Speculative(maxlenratio=limit), batch.select([i]))[0] for i in (2, 0, 1)]
    assert [h.tokens for h in alone] == [found[i].tokens for i in (2, 0, 1)]


def test_speculative_takes_a_right_draft(asr: Recognizer) -> None:
    """A draft that is the decoder's own text is accepted in one pass."""
    batch = asr.encode(waves()[:1])
    [wanted] = asr.decode(AR(ctc_weight=0.0, beam_size=1, maxlenratio=-6), batch)
    rules = TextRules.of(asr.model)
    given = wanted.tokens[:5]
    assert len(given) > 2
    proposal = Proposal(batch.prompts[0], (), given)
    cross = asr.model.rows.cross_cache(batch.states, batch.frames)
    with torch.inference_mode():
        [found] = greedy_continuations(asr.model.rows, cross, [proposal], rules)
    assert tuple(found.tokens[: len(given)]) == given
    assert found.best[: len(given)] == pytest.approx(found.own[: len(given)])


def test_nothing_masked_is_the_heads_draft(asr: Recognizer) -> None:
    batch = asr.encode(waves())
    drafts = asr.decode(Greedy(), batch)
    assert [h.tokens for h in asr.decode(PAR(threshold=0.0), batch)] == [h.tokens for h in drafts]
    for draft, found in zip(drafts, asr.decode(PAR(threshold=0.6), batch), strict=True):
        kept, rebuilt = 0, []
        for segment in found.segments:
            rebuilt += [*draft.tokens[kept : segment.start], *segment.fill]
            assert all(c < 0.6 for c in draft.token_confidence[segment.start : segment.end])
            kept = segment.end
        assert (*rebuilt, *draft.tokens[kept:]) == found.tokens


def test_everything_masked_is_attention_only_beam_search(asr: Recognizer) -> None:
    """Where a hypothesis has ended, the limit of length, at which both differ, does not matter."""
    batch = asr.encode(waves())
    par = asr.decode(PAR(threshold=1.0 + 1e-7, max_seq_len=20, ctc_weight=0.0, beam_size=3), batch)
    ar = asr.decode(AR(ctc_weight=0.0, beam_size=3, maxlenratio=-20, ending="espnet"), batch)
    compared = 0
    for ours, theirs in zip(par, ar, strict=True):
        assert len(ours.segments) == 1
        if not (ours.counts["forced_stops"] or theirs.counts["forced_stops"]):
            assert ours.tokens == theirs.tokens
            assert ours.score == pytest.approx(theirs.score, abs=1e-3)
            compared += 1
    assert compared or asr.model.s2t.rules is None  # the other random decoder never ends
