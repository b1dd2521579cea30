"""Fills that U2++'s decoder from right to left judges by the text after them, against the slow reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parlab.decode import PAR
from parlab.decode.search.mode import search_mode
from parlab.errors import UserError
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel
from tests.decode.test_filling import equal
from tests.families.wenet_models import write_wenet
from tests.models import encoded, random_posteriors, tiny_model
from tests.reference import filling as reference

Speech = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HybridModel:
    folder = tmp_path_factory.mktemp("backward") / "u2pp"
    write_wenet(folder, "u2pp")
    return read_model(folder)[0]


def speech(model: HybridModel, seed: int) -> Speech:
    """States (3, 14, D), their lengths, and posteriors (3, 14, V)."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(3, 14, 32, generator=generator)
    return states, torch.tensor([14, 9, 11]), random_posteriors(seed, 3, 14, model.vocab_size)


@pytest.mark.parametrize(("context", "rounds"), [("draft", 1), ("fills", 1), ("draft", 2), ("fills", 2)])
@pytest.mark.parametrize(("weight", "mode"), [(0.0, "prefix"), (0.4, "prefix"), (0.4, "rescore")])
def test_scores_are_those_of_plain_passes(
    model: HybridModel, context: str, rounds: int, weight: float, mode: str
) -> None:
    """Fills, their scores and texts, with each context, mode of CTC and share."""
    for seed, share in ((0, 0.3), (1, 1.0)):
        options = PAR(
            threshold=0.7,
            beam_size=3,
            margin=1,
            ctc_weight=weight,
            ctc_mode=mode,
            context=context,
            rounds=rounds,
            reverse_weight=share,
        )
        states, lengths, log_probs = speech(model, seed)
        together = options.decode(model, encoded(model, states, lengths, log_probs))
        for i, n in enumerate(lengths.tolist()):
            with torch.inference_mode():
                want = reference.decode(model, states[i, :n], log_probs[i, :n], options, tuple(model.prompt))
            equal(together[i], want)


def test_scores_per_token(model: HybridModel) -> None:
    """The mixture is divided by the tokens that it counts, as the decoder's score alone is."""
    options = PAR(threshold=0.7, beam_size=3, margin=1, ctc_weight=0.4, length_normalize=True, reverse_weight=0.5)
    states, lengths, log_probs = speech(model, 3)
    for i, found in enumerate(options.decode(model, encoded(model, states, lengths, log_probs))):
        n = int(lengths[i])
        with torch.inference_mode():
            equal(found, reference.decode(model, states[i, :n], log_probs[i, :n], options, tuple(model.prompt)))


def test_other_fills_win(model: HybridModel) -> None:
    found = []
    for share in (0.0, 1.0):
        options = PAR(threshold=0.8, ctc_weight=0.0, reverse_weight=share)
        found.append([options.decode(model, encoded(model, *speech(model, seed)))[0].tokens for seed in range(3)])
    assert found[0] != found[1]


@pytest.mark.parametrize("context", ["draft", "fills"])
@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("fixed", [False, True])
def test_neither_batch_nor_parallel_segments_change_it(
    model: HybridModel, context: str, parallel: int, fixed: bool
) -> None:
    """Nor does a search in fixed shapes."""
    options = PAR(threshold=0.8, beam_size=4, context=context, reverse_weight=0.4)
    few = PAR(threshold=0.8, beam_size=4, context=context, reverse_weight=0.4, max_mask_parallel=parallel)
    states, lengths, log_probs = speech(model, 5)
    together = options.decode(model, encoded(model, states, lengths, log_probs))
    with search_mode(fixed, None):
        apart = few.decode(model, encoded(model, states, lengths, log_probs))
    for i, n in enumerate(lengths.tolist()):
        alone = options.decode(
            model, encoded(model, states[i : i + 1, :n], lengths[i : i + 1], log_probs[i : i + 1, :n])
        )[0]
        assert together[i].tokens == apart[i].tokens == alone.tokens
        assert together[i].score == pytest.approx(alone.score, abs=1e-3) == pytest.approx(apart[i].score, abs=1e-3)
        assert together[i].counts["decoder_passes"] == alone.counts["decoder_passes"]


def test_refused(tmp_path: Path) -> None:
    """A share that is none, and a model without such a decoder: before any work, and also where nothing is masked."""
    with pytest.raises(UserError, match=r"reverse_weight is 1\.5, expected a share from 0 to 1"):
        PAR(reverse_weight=1.5)
    with pytest.raises(UserError, match=r"reverse_weight is 0\.3, but ESPnet's reference has 0\.0"):
        PAR.espnet(reverse_weight=0.3)
    other = tiny_model(0)
    decoder = PAR(threshold=0.0, reverse_weight=0.3)
    message = "needs a decoder that reads from right to left, as WeNet's U2\\+\\+ has one, but this ESPnet model has none; set it to 0"
    with pytest.raises(UserError, match=message):
        decoder.prepare(other, torch.device("cpu"))
    given = encoded(other, torch.randn(1, 5, 32), torch.tensor([5]), random_posteriors(1, 1, 5, 21))
    with pytest.raises(UserError, match=message):
        decoder.decode(other, given)
