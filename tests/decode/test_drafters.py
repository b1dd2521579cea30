"""Drafters: the best path, and CTC's prefix beam with n-grams, which a brute-force search over all texts confirms."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parlab.decode import PAR, CTCBeam
from parlab.decode.draft import Posteriors, greedy_draft
from parlab.decode.drafters.drafter import BEST_PATH, find_drafter
from parlab.decode.filling.drafting import Drafting
from parlab.errors import UserError
from parlab.recognition.recognizer import Recognizer
from tests.decode.test_fixed import agree
from tests.decode.test_ngrams import some_grams, write
from tests.decode.test_par_head import LETTERS, asr, waves  # noqa: F401  (asr is a fixture)
from tests.decode.test_phrases import batch
from tests.models import random_posteriors
from tests.reference import ctc
from tests.reference.ngrams import arpa, log_probability


@pytest.mark.parametrize(("weight", "bonus"), [(0.0, 0.0), (0.7, 0.0), (0.0, 1.5), (0.7, 1.5)])
def test_the_draft_is_the_best_of_all_texts(weight: float, bonus: float, tmp_path: Path) -> None:
    """By CTC's probability, the n-grams' and the bonus; its score is CTC's alone."""
    grams = some_grams(3, ["a", "b"], 3)
    (tmp_path / "lm.arpa").write_text(arpa(grams))
    drafter = find_drafter(f"prefix_beam:beam_size=80,lm={tmp_path / 'lm.arpa'},lm_weight={weight},bonus={bonus}")
    for seed in range(6):
        log_probs = random_posteriors(seed, 1, 5, 3)
        draft = drafter.draft(Posteriors(log_probs, torch.tensor([5]), 0, ["<blank>", "a", "b", "<eos>"], 3))
        rows = log_probs[0].double().tolist()
        own = {
            tokens: ctc.total(rows, tokens, -1, -1) for n in range(6) for tokens in itertools.product((1, 2), repeat=n)
        }
        added = {
            tokens: weight * log_probability(grams, [], [*("?ab"[t] for t in tokens), "</s>"]) + bonus * len(tokens)
            for tokens in own
        }
        best = max(own, key=lambda tokens: own[tokens] + added[tokens])
        assert tuple(draft.tokens[0].tolist()) == best
        assert draft.score.item() == pytest.approx(own[best], abs=1e-3)


def test_without_n_grams_sure_posteriors_give_the_best_path() -> None:
    """Tokens, confidences and frames alike, a repeated token and padding among them."""
    labels = torch.tensor([[0, 3, 3, 0, 3, 1, 1, 0], [2, 0, 0, 2, 2, 0, 0, 0]])
    log_probs = torch.log_softmax(20.0 * torch.nn.functional.one_hot(labels, 5).float(), -1)
    frames = torch.tensor([8, 5])
    given = Posteriors(log_probs, frames, 0, [*"-abc", "<eos>"], 4)
    found, wanted = find_drafter("prefix_beam").draft(given), greedy_draft(log_probs, frames, 0)
    for name in ("tokens", "lengths", "first", "last", "frames"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert torch.allclose(found.confidence, wanted.confidence)


@pytest.mark.parametrize("drafter", [BEST_PATH, "prefix_beam:bonus=0.5"])
def test_nothing_said(drafter: str) -> None:
    frames = torch.tensor([0, 0])
    draft = find_drafter(drafter).draft(Posteriors(torch.zeros(2, 0, 4), frames, 0, [*"-abc"], 3))
    assert draft.tokens.shape == (2, 0) and draft.lengths.tolist() == [0, 0]
    silent = torch.log_softmax(torch.tensor([30.0, 0.0, 0.0, 0.0]), 0).expand(1, 6, 4).contiguous()
    draft = find_drafter(drafter).draft(Posteriors(silent, torch.tensor([6]), 0, [*"-abc"], 3))
    assert draft.tokens.shape == (1, 0)


def test_par_drafts_as_ctc_beam_writes(tmp_path: Path) -> None:
    """With the model's own CTC head; fixed shapes and batches change nothing."""
    drafted = 0
    for seed in range(4):
        model, given = batch(seed)
        lm, _ = write(tmp_path, model)
        beam = CTCBeam(beam_size=6, lm=lm, lm_weight=0.8).decode(model, given)
        drafter = f"prefix_beam:beam_size=6,lm={lm},lm_weight=0.8"
        drafting = Drafting.of(model, given, drafter)
        assert [h.tokens for h in drafting.greedy] == [h.tokens for h in beam]
        drafted += [h.tokens for h in beam] != [h.tokens for h in Drafting.of(model, given).greedy]
        options = PAR(0.7, beam_size=3, draft=drafter, measure="product:of=posterior+decoder")
        assert agree(options, model, given)
        together = options.decode(model, given)
        for i, hypothesis in enumerate(together):
            n = int(given.frames[i])
            part = given.select([i])
            alone = replace(part, states=part.states[:, :n], ctc_log_probs=part.posteriors[:, :n])
            assert options.decode(model, alone)[0].tokens == hypothesis.tokens
    assert drafted


def test_par_on_a_heads_n_grams(asr: Recognizer, tmp_path: Path) -> None:  # noqa: F811
    """They are over the head's tokens, in ``ctc_beam`` too."""
    lm = tmp_path / "letters.arpa"
    lm.write_text(arpa(some_grams(1, [t for t in LETTERS.token_list[1:] if t not in {"d", "<unk>"}], 2)))
    given = asr.encode(waves())
    drafter = f"prefix_beam:beam_size=6,lm={lm},lm_weight=0.8"
    drafting = Drafting.of(asr.model, given, drafter)
    beam = asr.decode(CTCBeam(beam_size=6, lm=str(lm), lm_weight=0.8), given)
    assert [h.tokens for h in drafting.greedy] == [h.tokens for h in beam]
    assert beam != asr.decode(CTCBeam(beam_size=6), given)
    options = PAR(0.6, beam_size=3, ctc_weight=0.4, draft=drafter, measure="decoder", rounds=2)
    together = asr.decode(options, given)
    assert any(h.segments for h in together)
    for i, hypothesis in enumerate(together):
        assert asr.decode(options, given.select([i]))[0].tokens == hypothesis.tokens


def test_measures_of_frames_are_refused() -> None:
    model, given = batch(0)
    with pytest.raises(UserError, match="reads the best path"):
        PAR(draft="prefix_beam", measure="gibbs").decode(model, given)


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        ("beam", "there is no drafter 'beam', expected one of best_path, prefix_beam"),
        ("prefix_beam:size=3", "has no option 'size=3'"),
        ("prefix_beam:beam_size=0", "expected at least 1 each"),
        ("prefix_beam:lm_weight=-1", "expected a weight from 0"),
        ("prefix_beam:bonus=.inf", "a number of nats"),
    ],
)
def test_bad_options(draft: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PAR(draft=draft)


def test_a_missing_file(tmp_path: Path) -> None:
    model, given = batch(0)
    options = PAR(draft=f"prefix_beam:lm={tmp_path / 'none.arpa'}")
    for used in (lambda: options.prepare(model, torch.device("cpu")), lambda: options.decode(model, given)):
        with pytest.raises(UserError, match="cannot be read"):
            used()
