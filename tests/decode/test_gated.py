"""The three stages against a slow implementation, and what they are at their limits."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.decode import AR, Greedy, Speculative
from parlab.decode.search.mode import search_mode
from parlab.decode.strategies import Gated
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from tests.decode.test_confidence import MODEL, batch
from tests.models import decoded_as_alone, encoded, examples
from tests.reference import confidence
from tests.reference.par import draft_of, next_log_probs, search


def slow(given: Encoded, options: Gated) -> tuple[tuple[int, ...], int]:
    """One utterance, token by token: the result, and the accepted draft tokens; -1 where the gate let it pass."""
    states, log_probs = given.states[0], given.posteriors[0]
    draft = [token.id for token in draft_of(log_probs, 0)]
    sure = confidence.confidences("gibbs", log_probs, "mean")
    if draft and sum(sure) / len(sure) >= options.gate:
        return tuple(draft), -1
    never, eos = set(MODEL.special.never) - {MODEL.special.eos}, MODEL.special.eos
    accepted: list[int] = []
    for token in draft[: len(states) - 1]:
        scores = next_log_probs(MODEL, states, [*MODEL.prompt, *accepted])
        best = max(v for i, v in enumerate(scores) if i not in never)
        if best - scores[token] > options.margin:
            break
        accepted.append(token)
    if len(accepted) == len(draft):
        scores = next_log_probs(MODEL, states, [*MODEL.prompt, *accepted])
        if max((i for i in range(len(scores)) if i not in never), key=lambda i: scores[i]) == eos:
            return tuple(accepted), len(accepted)
    limit = len(states) - len(accepted)
    _, rest, _ = search(
        MODEL, states, [*MODEL.prompt, *accepted], eos, limit, options.beam_size, banned=tuple(MODEL.special.never)
    )
    return (*accepted, *rest), len(accepted)


@settings(max_examples=examples(30), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    gate=st.sampled_from([0.0, 0.25, 0.33, 2.0]),
    margin=st.sampled_from([0.0, 1.0, 3.0, 8.0]),
    beam=st.sampled_from([1, 3]),
)
def test_equals_the_slow_one(seed: int, gate: float, margin: float, beam: int) -> None:
    """Where the search ends by itself: at the limit of length the beams of AR and of a segment end otherwise."""
    given = batch(seed, 1, 8)
    options = Gated(gate=gate, margin=margin, beam_size=beam)
    [got] = options.decode(MODEL, given)
    tokens, accepted = slow(given, options)
    assert got.counts.get("accepted_tokens", -1) == accepted
    if beam == 1 or len(tokens) < 8:
        assert got.tokens == tokens
    assert len(got.token_confidence) == len(got.tokens) == got.counts["tokens"]


def test_the_limits() -> None:
    """An open gate is greedy CTC; a shut one that accepts nothing else than the decoder's own tokens is greedy attention."""
    for seed in range(4):
        given = batch(seed, 4, 14)
        greedy = [h.tokens for h in Greedy().decode(MODEL, given)]
        assert [h.tokens for h in Gated(gate=0.0).decode(MODEL, given)] == greedy
        shut = Gated(gate=2.0, margin=0.0, beam_size=1).decode(MODEL, given)
        assert [h.tokens for h in shut] == [h.tokens for h in Speculative().decode(MODEL, given)]
        alone = AR(ctc_weight=0.0, beam_size=1).decode(MODEL, encoded(MODEL, given.states, given.frames))
        assert [h.tokens for h in shut] == [h.tokens for h in alone]
        for h, other in zip(shut, alone, strict=True):
            assert h.score == pytest.approx(other.score, abs=1e-3)


@pytest.mark.parametrize("measure", ["gibbs", "decoder"])
def test_neighbours_change_nothing(measure: str) -> None:
    options = Gated(gate=0.3 if measure == "gibbs" else 0.04, measure=measure, margin=2.0, beam_size=3)
    passes: set[float] = set()
    for seed in range(4):
        given = batch(seed, 4, 12)
        together = decoded_as_alone(options, MODEL, given, [2, 0, 3, 1])
        passes |= {h.counts["decoder_passes"] for h in together}
        with search_mode(fixed=True):
            assert [h.tokens for h in options.decode(MODEL, given.select([2, 0, 3, 1]))] == [h.tokens for h in together]
    assert len(passes) > 1  # some were let pass, some not


def test_silence_is_asked_of_the_decoder() -> None:
    log_probs = torch.full((1, 5, 21), -9.0)
    log_probs[:, :, 0] = 0.0
    given = encoded(MODEL, torch.randn(1, 5, 32), torch.tensor([5]), log_probs.log_softmax(-1))
    [found] = Gated(gate=0.0).decode(MODEL, given)
    assert found.counts["accepted_tokens"] == 0 and math.isfinite(found.score)


@pytest.mark.parametrize("options", [{"gate": -0.1}, {"margin": -1.0}, {"beam_size": 0}, {"measure": "gibs"}])
def test_what_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError):
        dataclasses.replace(Gated(), **options)
