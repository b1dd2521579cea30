"""``Encoded``: its checks, and batches made of batches."""

from __future__ import annotations

import pytest
import torch

from parlab.errors import UserError
from parlab.model.encoded import Encoded
from tests.models import random_posteriors


@pytest.fixture
def batch() -> Encoded:
    log_probs = random_posteriors(0, 3, 5, 7)
    return Encoded(torch.randn(3, 5, 4), torch.tensor([5, 3, 2]), log_probs, ((6,), (6, 1), (6, 2, 3)))


@pytest.mark.parametrize("prompts", [(), ((6,),), ((6,), (6,), (6,), (6,)), ((6,), (), (6,))])
def test_a_prompt_for_each_utterance(prompts: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=f"got {len(prompts)} prompts for 3 utterances, expected one non-empty"):
        Encoded(torch.randn(3, 5, 4), torch.tensor([5, 3, 2]), None, prompts)


def test_select(batch: Encoded) -> None:
    """Any utterances in any order, with all that belongs to them."""
    chosen = batch.select([2, 0])
    assert len(chosen) == 2
    assert chosen.frames.tolist() == [2, 5]
    assert chosen.prompts == ((6, 2, 3), (6,))
    assert torch.equal(chosen.states, batch.states[[2, 0]])
    assert torch.equal(chosen.posteriors, batch.posteriors[[2, 0]])
    deaf = Encoded(batch.states, batch.frames, None, batch.prompts).select([1])
    assert deaf.ctc_log_probs is None
    assert deaf.prompts == ((6, 1),)


def test_to(batch: Encoded) -> None:
    moved = batch.to(torch.device("meta"))
    assert batch.device.type == "cpu"
    assert {moved.device.type, moved.frames.device.type, moved.posteriors.device.type} == {"meta"}
    assert moved.prompts == batch.prompts
    assert Encoded(batch.states, batch.frames, None, batch.prompts).to(torch.device("meta")).ctc_log_probs is None


def test_no_posteriors(batch: Encoded) -> None:
    with pytest.raises(UserError, match="no CTC head"):
        _ = Encoded(batch.states, batch.frames, None, batch.prompts).posteriors
