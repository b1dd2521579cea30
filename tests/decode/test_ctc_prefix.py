"""CTC prefix scores over windows, against sums over every labelling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from parlab.decode.scorers import Rows
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, Windows
from tests.models import random_posteriors
from tests.reference import ctc


def scorer_for(log_probs: torch.Tensor, left: int, right: int) -> CTCPrefixScorer:
    one = torch.tensor([0])
    length = torch.tensor([log_probs.size(1)])
    windows = Windows(log_probs, one, torch.tensor([0]), length, torch.tensor([left]), torch.tensor([right]), 0)
    return CTCPrefixScorer(windows, 1.0)


def close(a: float, b: float) -> bool:
    return (a == b) or abs(a - b) < 1e-4 or (a < -900 and b == -math.inf)


@pytest.mark.parametrize(("left", "right"), [(-1, -1), (1, -1), (-1, 2), (1, 2), (1, 1), (2, 1)])
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_equals_enumeration(left: int, right: int, frames: int) -> None:
    """Every sequence of up to three tokens over a vocabulary of a blank and two tokens."""
    log_probs = random_posteriors(frames * 7 + left + right, 1, frames, 3)
    rows = log_probs[0].double().tolist()
    scorer = scorer_for(log_probs, left, right)
    group = row = torch.tensor([0])
    for n in range(4):
        for tokens in itertools.product((1, 2), repeat=n):
            state = scorer.start()
            for token in tokens:
                state = scorer.advance(state, Rows(row, torch.tensor([token]), group))
            want = ctc.total(rows, tokens, left, right)
            assert close(float(scorer.total(state)), want), (tokens, float(scorer.total(state)), want)
            for token in (1, 2):
                got = float(scorer.prefix(state, torch.tensor([[token]])))
                want = ctc.prefix(rows, (*tokens, token), left)
                assert close(got, want), (tokens, token, got, want)


@pytest.mark.parametrize(("left", "right"), [(-1, -1), (1, -1), (1, 2), (2, 2)])
def test_references_agree(left: int, right: int) -> None:
    """The textbook recursion that the slow PAR uses is the enumeration too."""
    rows = random_posteriors(3, 1, 4, 3)[0].double().tolist()
    for n in range(4):
        for tokens in itertools.product((1, 2), repeat=n):
            assert close(ctc.forward_total(rows, tokens, left, right), ctc.total(rows, tokens, left, right))
            if tokens:
                assert close(ctc.forward_prefix(rows, tokens, left), ctc.prefix(rows, tokens, left))


def test_precision_over_thousands_of_frames() -> None:
    """Running products of posteriors span thousands of nats; a float32 sum would be off by far more than 1e-4."""
    log_probs = random_posteriors(5, 1, 3000, 12, peak=6.0)
    tokens = [1, 1, 5, 7, 7, 2]
    scorer = scorer_for(log_probs, -1, -1)
    state = scorer.start()
    for token in tokens:
        state = scorer.advance(state, Rows(torch.tensor([0]), torch.tensor([token]), torch.tensor([0])))
    loss = torch.nn.functional.ctc_loss(
        log_probs.double().transpose(0, 1),
        torch.tensor([tokens]),
        torch.tensor([3000]),
        torch.tensor([6]),
        reduction="sum",
    )
    assert float(scorer.total(state)) == pytest.approx(-float(loss), abs=1e-6)


def test_windows_of_different_length_do_not_mix() -> None:
    """Padding of a batch of windows changes nothing."""
    log_probs = random_posteriors(11, 2, 9, 6)
    owner, first, length = torch.tensor([0, 0, 1]), torch.tensor([0, 5, 2]), torch.tensor([3, 4, 6])
    left, right = torch.tensor([-1, 2, 3]), torch.tensor([2, -1, 3])
    together = CTCPrefixScorer(Windows(log_probs, owner, first, length, left, right, 0), 1.0)
    ids = torch.tensor([[1, 2, 3], [2, 1, 4], [3, 1, 2]])
    rows = Rows(torch.arange(3), torch.tensor([1, 4, 3]), torch.arange(3))
    state = together.advance(together.start(), rows)
    for g in range(3):
        one = slice(g, g + 1)
        alone = CTCPrefixScorer(Windows(log_probs, owner[one], first[one], length[one], left[one], right[one], 0), 1.0)
        single = alone.advance(alone.start(), Rows(torch.tensor([0]), rows.tokens[one], torch.tensor([0])))
        torch.testing.assert_close(together.prefix(state, ids)[one], alone.prefix(single, ids[one]))
        torch.testing.assert_close(together.total(state)[one], alone.total(single))
