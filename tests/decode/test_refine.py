"""Refinement against a slow implementation, and what it is at its limits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.decode import Greedy
from parlab.decode.strategies import Refine
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from tests.decode.test_confidence import MODEL, batch
from tests.models import decoded_as_alone, examples
from tests.reference.par import draft_of, next_log_probs


def slow(given: Encoded, options: Refine) -> list[int]:
    """One utterance, every token scored by itself."""
    draft = draft_of(given.posteriors[0], 0)
    tokens = [token.id for token in draft]
    left = [i for i, token in enumerate(draft) if token.confidence < options.threshold]
    each = math.ceil(len(left) / options.iterations)
    never, eos = set(MODEL.special.never) - {MODEL.special.eos}, MODEL.special.eos
    while left:
        found = {}
        for i in left:
            scores = next_log_probs(MODEL, given.states[0], [*MODEL.prompt, *tokens[:i]])
            best = max((v for v in range(len(scores)) if v not in never), key=lambda v: scores[v])
            found[i] = (scores[best], best)
        easiest = sorted(left, key=lambda i: (-found[i][0], i))[:each]
        for i in easiest:
            tokens[i] = tokens[i] if found[i][1] == eos else found[i][1]
        left = [i for i in left if i not in easiest]
    return tokens


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.0, 0.4, 0.7, 1.0]), iterations=st.integers(1, 5))
def test_equals_the_slow_one(seed: int, threshold: float, iterations: int) -> None:
    given = batch(seed, 1, 12)
    options = Refine(threshold=threshold, iterations=iterations)
    [got] = options.decode(MODEL, given)
    [draft] = Greedy().decode(MODEL, given)
    assert list(got.tokens) == slow(given, options)
    assert got.token_frames == draft.token_frames
    assert got.counts["decoder_passes"] <= iterations
    masked = [u for s in got.segments for u in range(s.start, s.end)]
    assert masked == [u for u, c in enumerate(draft.token_confidence) if c < threshold]
    assert all(got.tokens[u] == draft.tokens[u] for u in range(len(draft.tokens)) if u not in masked)
    assert all(before.end < after.start for before, after in zip(got.segments, got.segments[1:], strict=False))


@pytest.mark.parametrize("measure", ["posterior", "product"])
def test_neighbours_change_nothing(measure: str) -> None:
    options = Refine(threshold=0.6, measure=measure, iterations=2)
    for seed in range(4):
        given = batch(seed, 4, 14)
        decoded_as_alone(options, MODEL, given, [2, 0, 3, 1])


def test_nothing_masked_is_greedy() -> None:
    given = batch(1, 3, 20)
    found = Refine(threshold=0.0).decode(MODEL, given)
    assert [h.tokens for h in found] == [h.tokens for h in Greedy().decode(MODEL, given)]
    assert all(h.counts["decoder_passes"] == 0 and h.score == 0.0 for h in found)


@pytest.mark.parametrize("options", [{"threshold": 2.0}, {"iterations": 0}, {"measure": "gibs"}])
def test_what_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Refine(**options)  # type: ignore[arg-type]
