"""Masking policies against the slow reference, alone and in PAR."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.decode import PAR
from parlab.decode.draft import Draft
from parlab.decode.policies.policy import Doubts, find_policies, policy_names
from parlab.errors import UserError
from tests.decode.test_confidence import MODEL, batch
from tests.models import encoded, examples
from tests.reference import confidence as policies
from tests.reference import par as reference

CHANCES = st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.95, 1.0])


def doubts_of(rows: list[list[float]], threshold: float) -> Doubts:
    width = max(map(len, rows))
    confidence = torch.tensor([row + [1.0] * (width - len(row)) for row in rows])
    zeros = torch.zeros_like(confidence, dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows])
    draft = Draft(zeros, lengths, confidence, zeros, zeros, lengths, torch.zeros(len(rows)))
    return Doubts.below(threshold, draft, lambda: torch.ones(len(rows), width + 1))


def applied(text: str, doubts: Doubts) -> list[list[bool]]:
    for policy in find_policies(text):
        doubts = policy.apply(doubts)
    return [row[:n].tolist() for row, n in zip(doubts.masks.tokens, doubts.draft.lengths, strict=True)]


@settings(max_examples=examples(200), deadline=None)
@given(
    rows=st.lists(st.lists(CHANCES, max_size=12), min_size=1, max_size=4).filter(any),
    threshold=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    left=st.integers(0, 3),
    right=st.integers(0, 3),
)
def test_masks_equal_the_reference(
    rows: list[list[float]], threshold: float, share: float, left: int, right: int
) -> None:
    below = [[c < threshold for c in torch.tensor(row).tolist()] for row in rows]
    doubts = doubts_of(rows, threshold)
    assert applied("threshold", doubts) == below
    few = [policies.budgeted(row, masked, share) for row, masked in zip(rows, below, strict=True)]
    assert applied(f"budget:share={share}", doubts) == few
    wide = [policies.with_neighbours(masked, left, right) for masked in few]
    assert applied(f"budget:share={share}+context:left={left},right={right}", doubts) == wide


def test_a_budget_bounds_the_work_of_every_utterance() -> None:
    given = batch(3, 4, 40)
    for share in (0.05, 0.2, 0.5):
        found = PAR(threshold=1.0, policy=f"budget:share={share}", beam_size=2).decode(MODEL, given)
        for h in found:
            assert h.counts["masked_tokens"] <= -(-h.counts["tokens"] * share // 1)


@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.0, 0.4, 0.8]),
    below=st.sampled_from([0.5, 0.8, 0.99]),
    weight=st.sampled_from([0.0, 0.4, 1.0]),
    limit=st.sampled_from([2, "auto"]),
)
def test_gaps_equal_the_reference(seed: int, threshold: float, below: float, weight: float, limit: int | str) -> None:
    """Segments of no tokens, with their windows and stops, searched like all others."""
    given = batch(seed, 1, 10)
    states, log_probs = given.states[0], given.posteriors[0]
    draft = reference.draft_of(log_probs, 0)
    masked = [token.confidence < threshold for token in draft]
    gaps = policies.gaps_of(draft, log_probs, masked, below)
    options = PAR(threshold, beam_size=3, max_seq_len=limit, ctc_weight=weight, policy=f"gaps:below={below}")
    [got] = options.decode(MODEL, given)
    want = reference.decode(MODEL, states, log_probs, threshold, 3, limit, weight=weight, chosen=masked, gaps=gaps)
    assert {segment.start for segment in got.segments if segment.start == segment.end} == gaps
    assert [segment.fill for segment in got.segments] == want.fills
    assert got.tokens == want.tokens
    assert len(got.tokens) == len(got.token_confidence) == len(got.token_frames)
    assert [segment.score for segment in got.segments] == pytest.approx(want.scores, abs=1e-4)


def test_a_deletion_is_repaired() -> None:
    """Two frames are nearly as much a token as blank: the best path leaves it out, the sum over all paths has it."""
    log_probs = torch.full((1, 7, 21), -9.0)
    for t, label in enumerate([0, 4, 0, 0, 0, 6, 0]):
        log_probs[0, t, label] = 5.0
    log_probs[0, 3:5, 9] = 4.9
    given = encoded(MODEL, torch.randn(1, 7, 32), torch.tensor([7]), log_probs.log_softmax(-1))
    plain, repaired = (PAR(ctc_weight=1.0, policy=p).decode(MODEL, given)[0] for p in ("threshold", "gaps:below=0.8"))
    assert plain.tokens == (4, 6)
    assert repaired.tokens == (4, 9, 6)
    assert [(s.start, s.end, s.draft, s.fill) for s in repaired.segments] == [(1, 1, (), (9,))]
    assert repaired.token_frames[1] == (2, 4)


def test_a_gap_beside_a_mask_is_part_of_its_segment() -> None:
    given = batch(11, 3, 20)
    found = PAR(threshold=0.7, policy="gaps:below=1.0", beam_size=2).decode(MODEL, given)
    assert any(s.start == s.end for h in found for s in h.segments)
    for h in found:
        for before, after in zip(h.segments, h.segments[1:], strict=False):
            assert before.end < after.start


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "bugdet",
            "there is no policy 'bugdet', expected one of budget, context, gaps, threshold; did you mean 'budget'",
        ),
        ("budget:share=2", r"share of the policy budget is 2\.0, expected a number from 0 to 1"),
        ("gaps:below=-1", r"below of the policy gaps is -1\.0"),
        ("context:left=-1", "left is -1 and right 1 in the policy context"),
        ("threshold+", "there is no policy ''"),
        ("context:left=1.5", r"the option left of the policy context is '1\.5', expected a whole number"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PAR(policy=text)


def test_espnet_has_neither() -> None:
    with pytest.raises(UserError, match="the option policy is 'gaps', but ESPnet's reference has 'threshold'"):
        PAR.espnet(policy="gaps")
    assert policy_names() == ["budget", "context", "gaps", "threshold"]
