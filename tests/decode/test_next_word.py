"""Fills judged by the whole next word, against plain forward passes of the decoder without a cache."""

from __future__ import annotations

import pytest
import torch

from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.ended import NEVER, Ended
from parlab.decode.filling.next_word import with_next_word
from parlab.decode.prefill import Prefill
from parlab.model.hybrid import HybridModel
from tests.models import encoded, tiny_model
from tests.reference.par import next_log_probs

MODEL = tiny_model(seed=3, decoder_conf={"normalize_before": False}, sharpness=1.0)
DRAFTS = [[4, 9, 7, 12, 3, 8], [5, 6], [11, 4, 4, 10]]
OWNERS, STARTS = [0, 0, 0, 1, 2], [0, 2, 5, 1, 4]  # segments: the utterance, and the draft tokens before
WORDS = [[4, 12, 3, 9], [3], [8, 20], [9, 6, 15], [20]]  # the next word, of one to four tokens


def plain(model: HybridModel, states: torch.Tensor, before: list[int], tokens: list[int]) -> float:
    """The sum of log-probabilities of ``tokens``, each by a forward pass of its own."""
    return sum(next_log_probs(model, states, [*before, *tokens[:i]])[token] for i, token in enumerate(tokens))


def searched(weight: float, limit: int) -> tuple[torch.Tensor, torch.Tensor, Ended, Ended, torch.Tensor]:
    """States and their lengths; hypotheses before and after they are judged, those of at most a bound excluded."""
    states = torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(1))
    frames = torch.tensor([12, 7, 10])
    prefill = Prefill.of(MODEL.rows, encoded(MODEL, states, frames), DRAFTS)
    owner, start = torch.tensor(OWNERS), torch.tensor(STARTS)
    scorer = prefill.scorer(owner, prefill.prompt_lengths[owner] + start, weight)
    stop = torch.tensor([word[0] for word in WORDS])
    found = beam_search(
        [scorer], Groups(stop, torch.full_like(stop, limit), owner=owner), BeamOptions(80, 6, MODEL.special.never)
    )
    lengths = torch.tensor([len(word) for word in WORDS])
    words = torch.tensor([word + [0] * (4 - len(word)) for word in WORDS])
    bound = torch.full((len(WORDS),), -100.0)
    bound[2] = found.score[2, 1]  # of these only the best can still win
    return states, frames, found, with_next_word(found, scorer, words, lengths, bound), bound


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("limit", [3, 4])
def test_scores_equal_plain_forward_passes(weight: float, limit: int) -> None:
    states, frames, found, judged, bound = searched(weight, limit)
    compared = changed = 0
    for group, word in enumerate(WORDS):
        owner = OWNERS[group]
        before = [*MODEL.prompt, *DRAFTS[owner][: STARTS[group]]]
        for rank in range(found.score.size(1)):
            if found.score[group, rank] == NEVER:
                assert judged.score[group, rank] == NEVER
                continue
            fill = found.tokens[group, rank, : found.lengths[group, rank]].tolist()
            if found.forced[group, rank]:  # no stop token was emitted, so that no next word follows
                after = []
            elif found.score[group, rank] > bound[group]:
                after, changed = word, changed + (len(word) > 1)
            else:  # beaten already
                after = word[:1]
            want = weight * plain(MODEL, states[owner, : frames[owner]], before, [*fill, *after])
            assert float(judged.score[group, rank]) == pytest.approx(want, abs=1e-4), (group, fill)
            compared += 1
    assert compared > 12 and changed > 8
    assert torch.equal(judged.tokens, found.tokens)


def test_its_steps_are_counted() -> None:
    """A decoder step per token read: of the longest fill that is judged, and of the next word but its last."""
    _, _, found, judged, bound = searched(1.0, 4)
    for group, word in enumerate(WORDS):
        asked = (found.score[group] > bound[group]) & ~found.forced[group] & (len(word) > 1)
        longest = int(found.lengths[group][asked].max()) if asked.any() else -1
        assert int(judged.steps[group] - found.steps[group]) == (longest + len(word) - 1 if longest >= 0 else 0)
