"""Fills that see fills, rounds, and drafts in another vocabulary, against the slow reference."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.decode import PAR
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.heads.drafted import Drafted
from parlab.model.hybrid import HybridModel
from parlab.text.spelling import Spelling
from parlab.text.spoken import filled_tokens
from parlab.text.tokenizer import Tokenizer, build_tokenizer
from parlab.types import Hypothesis
from tests.models import S2T_SENTENCES, encoded, random_posteriors, s2t_model, s2t_tokenizer, tiny_model
from tests.reference import filling as reference

HYBRIDS = {pre: tiny_model(seed=pre, decoder_conf={"normalize_before": bool(pre)}, sharpness=4.0) for pre in (0, 1)}
LETTERS = Tokenizer(["<blank>", "<space>", *sorted(set("".join(S2T_SENTENCES)) - {" "})], "char")
STRIDE = 2


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> tuple[HybridModel, Tokenizer]:
    """A random decoder of pieces, whose drafts are characters."""
    tokenizer = s2t_tokenizer(tmp_path_factory.mktemp("pieces"))
    return s2t_model(tokenizer, seed=2, sharpness=3.0), tokenizer


def written(seed: int, batch: int, frames: int) -> torch.Tensor:
    """Log-posteriors (B, T', V') of short words; many begin alike."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.tensor([0, 1, 1, 1, 2, 3, 4, 5])  # blank, the blank between words, some letters
    labels = few[torch.randint(0, len(few), (batch, frames), generator=generator)]
    noise = torch.randn(batch, frames, len(LETTERS.token_list), generator=generator)
    boost = 3.0 + 4.0 * torch.rand(batch, frames, 1, generator=generator)
    return torch.log_softmax(noise + boost * torch.nn.functional.one_hot(labels, noise.size(2)), -1)


def equal(got: Hypothesis, want: reference.Result) -> None:
    assert [segment.fill for segment in got.segments] == want.fills
    for segment, score in zip(got.segments, want.scores, strict=True):
        assert segment.score == pytest.approx(score, abs=1e-3) or segment.score == score == -math.inf
    assert got.tokens == want.tokens


def draft_of(seed: int, batch: int = 3, frames: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    """States (B, 2 T, D), and lengths of which the first is T."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, STRIDE * frames, 32, generator=generator)
    lengths = torch.randint(frames // 2, frames + 1, (batch,), generator=generator)
    lengths[0] = frames
    return states, lengths


@pytest.mark.parametrize(("context", "rounds"), [("draft", 1), ("fills", 1), ("draft", 2), ("fills", 2), ("draft", 3)])
@pytest.mark.parametrize(("weight", "mode"), [(0.0, "prefix"), (0.4, "prefix"), (0.4, "rescore")])
def test_contexts_and_rounds_in_one_vocabulary(context: str, rounds: int, weight: float, mode: str) -> None:
    options = PAR(
        threshold=0.7, beam_size=3, margin=1, ctc_weight=weight, ctc_mode=mode, context=context, rounds=rounds
    )
    for seed, model in HYBRIDS.items():
        states, lengths = draft_of(seed)
        states, log_probs = states[:, :14], random_posteriors(seed, 3, 14, 21)
        together = options.decode(model, encoded(model, states, lengths, log_probs))
        for i, n in enumerate(lengths.tolist()):
            want = reference.decode(model, states[i, :n], log_probs[i, :n], options, tuple(model.prompt))
            equal(together[i], want)


@pytest.mark.parametrize(("context", "rounds"), [("draft", 1), ("fills", 1), ("draft", 2), ("fills", 2)])
@pytest.mark.parametrize(("weight", "mode"), [(0.0, "prefix"), (0.4, "prefix"), (0.4, "rescore")])
def test_drafts_of_a_head(
    headed: tuple[HybridModel, Tokenizer], context: str, rounds: int, weight: float, mode: str
) -> None:
    model, tokenizer = headed
    options = PAR(
        threshold=0.9, beam_size=3, margin=1, ctc_weight=weight, ctc_mode=mode, context=context, rounds=rounds
    )
    searched = 0
    for seed in range(2):
        states, lengths = draft_of(seed)
        log_probs = written(seed, 3, 14)
        prompt = tuple(model.prompt)
        drafted = Drafted(log_probs, lengths, STRIDE, Spelling(LETTERS, tokenizer))
        given = Encoded(states, lengths * STRIDE, None, (prompt,) * 3, drafted)
        together = options.decode(model, given)
        for i, n in enumerate(lengths.tolist()):
            own = states[i, : n * STRIDE]
            want = reference.decode_head(model, own, log_probs[i, :n], options, prompt, tokenizer, LETTERS)
            equal(together[i], want)
            searched += len(want.fills)
    assert searched > 3


@pytest.mark.parametrize(("weight", "rounds"), [(0.0, 2), (0.0, 3), (0.4, 3)])
def test_segments_that_are_held_back_grow(weight: float, rounds: int) -> None:
    """Against the slow reference; some segments are others than where none grows."""
    options = PAR(threshold=0.3, beam_size=2, margin=2, ctc_weight=weight, rounds=rounds, widen=1.0)
    others = 0
    for seed, model in HYBRIDS.items():
        states, lengths = draft_of(seed)
        given = encoded(model, states[:, :14], lengths, log_probs := random_posteriors(seed, 3, 14, 21))
        found, without = options.decode(model, given), replace(options, widen=0.0).decode(model, given)
        for i, n in enumerate(lengths.tolist()):
            equal(found[i], reference.decode(model, states[i, :n], log_probs[i, :n], options, tuple(model.prompt)))
        others += sum(a.segments != b.segments for a, b in zip(found, without, strict=True))
    assert others


@pytest.mark.parametrize(("weight", "mode"), [(0.0, "prefix"), (0.4, "prefix"), (0.4, "rescore")])
@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_fills_of_about_their_drafts_length(
    headed: tuple[HybridModel, Tokenizer], weight: float, mode: str, tolerance: float
) -> None:
    """In both kinds of vocabulary, against the slow reference; some fills are others than without the bounds."""
    options = PAR(0.9, 3, margin=6, ctc_weight=weight, ctc_mode=mode, length_tolerance=tolerance, rounds=2)
    free = replace(options, length_tolerance=None)
    others = 0
    for seed, model in HYBRIDS.items():
        states, lengths = draft_of(seed)
        given = encoded(model, states[:, :14], lengths, log_probs := random_posteriors(seed, 3, 14, 21))
        found, unbounded = options.decode(model, given), free.decode(model, given)
        for i, n in enumerate(lengths.tolist()):
            equal(
                found[i],
                reference.decode(model, states[i, :n], log_probs[i, :n], options, tuple(model.prompt)),
            )
        others += sum(a.tokens != b.tokens for a, b in zip(found, unbounded, strict=True))
    model, tokenizer = headed
    for seed in range(4):
        states, lengths = draft_of(seed)
        log_probs, prompt = written(seed, 3, 14), tuple(model.prompt)
        drafted = Drafted(log_probs, lengths, STRIDE, Spelling(LETTERS, tokenizer))
        encoded_speech = Encoded(states, lengths * STRIDE, None, (prompt,) * 3, drafted)
        found, unbounded = options.decode(model, encoded_speech), free.decode(model, encoded_speech)
        for i, n in enumerate(lengths.tolist()):
            own = states[i, : n * STRIDE]
            equal(found[i], reference.decode_head(model, own, log_probs[i, :n], options, prompt, tokenizer, LETTERS))
        others += sum(a.tokens != b.tokens for a, b in zip(found, unbounded, strict=True))
    assert others or mode == "prefix" and weight


def test_the_options_matter() -> None:
    """The cases above have segments that see other fills, and rounds that change fills."""
    model, found = HYBRIDS[0], {}
    for context, rounds in (("draft", 1), ("fills", 1), ("draft", 2)):
        options = PAR(threshold=0.7, beam_size=3, margin=1, ctc_weight=0.4, context=context, rounds=rounds)
        found[context, rounds] = []
        for seed in range(3):
            states, lengths = draft_of(seed)
            given = encoded(model, states[:, :14], lengths, random_posteriors(seed, 3, 14, 21))
            found[context, rounds] += [h.tokens for h in options.decode(model, given)]
    assert found["draft", 1] != found["fills", 1]
    assert found["draft", 1] != found["draft", 2]


@pytest.mark.parametrize(
    "options",
    [{}, {"rounds": 2}, {"ctc_mode": "rescore", "context": "fills"}, {"ctc_weight": 0.0, "nbest": 2}],
    ids=str,
)
def test_a_temperature_changes_the_confidences_of_fills_alone(options: dict[str, Any]) -> None:
    """Those that a search has written; what is kept, and a draft that no search has beaten, have the draft's."""
    plain = PAR(**{"threshold": 0.8, "beam_size": 3, "ctc_weight": 0.4, **options})
    searched = 0
    for seed in range(3):
        states, lengths = draft_of(seed)
        given = encoded(HYBRIDS[0], states[:, :14], lengths, random_posteriors(seed, 3, 14, 21))
        found = (replace(plain, fill_temperature=t).decode(HYBRIDS[0], given) for t in (1.0, 2.0))
        for a, b in zip(*found, strict=True):
            assert b == replace(a, token_confidence=b.token_confidence)
            filled = filled_tokens(len(a.tokens), a.segments)
            kept = {i for i in range(len(a.tokens)) if b.token_confidence[i] == a.token_confidence[i] != 1.0}
            # A later round's segment may hold draft tokens between fills.
            assert plain.rounds > 1 or not any(filled[i] for i in kept)
            written = [i for i in range(len(a.tokens)) if i not in kept]
            roots = [math.sqrt(a.token_confidence[i]) for i in written]
            assert [b.token_confidence[i] for i in written] == pytest.approx(roots, abs=1e-5)
            searched += sum(filled)
    assert searched > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fill_temperature": 0.0}, "fill_temperature is 0.0, expected a number above 0; correct it"),
        ({"fill_temperature": math.inf}, "fill_temperature is inf, expected a number above 0"),
        ({"context": "fils"}, "context is 'fils', expected 'draft' or 'fills'; did you mean 'fills'\\?$"),
        ({"context": "text"}, "context is 'text', expected 'draft' or 'fills'; correct it"),
        ({"length_tolerance": 1.0}, "length_tolerance is 1.0, expected a share from 0 to below 1, or none; correct it"),
        ({"widen": 1.5}, "widen is 1.5, expected a share from 0 to 1; correct it"),
        ({"rounds": 0}, "rounds is 0, expected at least 1"),
        ({"rounds": -2}, "rounds is -2, expected at least 1"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PAR(**options)


@pytest.mark.parametrize("threshold", [0.0, 0.9])
def test_ctc_needs_a_head_of_characters(
    headed: tuple[HybridModel, Tokenizer], tmp_path: Path, threshold: float
) -> None:
    """Also where nothing is masked: the first utterance says so, not the first unsure one. The decoder alone needs none."""
    model, tokenizer = headed
    pieces = build_tokenizer(S2T_SENTENCES, "bpe", tmp_path, vocab_size=30)
    states, lengths = draft_of(1, 2)
    log_probs = random_posteriors(1, 2, 14, len(pieces.token_list))
    drafted = Drafted(log_probs, lengths, STRIDE, Spelling(pieces, tokenizer))
    given = Encoded(states, lengths * STRIDE, None, (tuple(model.prompt),) * 2, drafted)
    with pytest.raises(UserError, match=r"the draft head writes pieces of words.*set --decoder\.ctc_weight 0"):
        PAR(threshold=threshold, ctc_weight=0.1).decode(model, given)
    found = PAR(threshold=threshold, ctc_weight=0.0, beam_size=2).decode(model, given)
    assert any(h.segments for h in found) == (threshold > 0)
