"""PAR against the slow reference, and the identities of docs/par.md."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.decode import AR, PAR, Greedy
from parlab.errors import UserError
from parlab.model.rows import RowDecoder
from tests.models import LETTERS, encoded, examples, random_posteriors, tiny_model
from tests.reference import par as reference

# The same ids as characters, as pieces of which every third begins a word, and as words.
PIECES = ["<blank>", "<unk>", "<noise>", *("\u2581" * (i % 3 == 0) + c for i, c in enumerate(LETTERS)), "<sos/eos>"]
TOKENS = [{}, {"token_list": PIECES, "token_type": "bpe"}, {"token_type": "word"}]
MODELS = {
    (pre, concat, scaled): tiny_model(
        seed=i, decoder_conf={"normalize_before": pre, "concat_after": concat}, sharpness=4.0, **TOKENS[i]
    )
    for i, (pre, concat, scaled) in enumerate([(True, False, False), (False, False, False), (True, True, False)])
}
KEYS = sorted(MODELS)


def case(seed: int, batch: int = 1, frames: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, frames, 32, generator=generator)
    lengths = torch.randint(max(1, frames // 2), frames + 1, (batch,), generator=generator)
    lengths[0] = frames
    return states, lengths, random_posteriors(seed, batch, frames, 21)


@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    key=st.sampled_from(KEYS),
    threshold=st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]),
    beam=st.sampled_from([1, 2, 5, 40]),
    limit=st.sampled_from([1, 2, 5, "auto"]),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    frames=st.sampled_from([1, 3, 8, 12]),
    prompt=st.sampled_from([None, (20, 4, 4)]),
    unit=st.sampled_from(["token", "word"]),
)
def test_equals_the_reference(seed, key, threshold, beam, limit, weight, frames, prompt, unit) -> None:  # type: ignore[no-untyped-def]
    """Same scores within 1e-4, and the same tokens wherever the best is not a tie."""
    if weight > 0 and beam == 40:
        beam = 8  # the reference scores beam x 1.5 candidates by definition: minutes for a wide beam
    model = MODELS[key]
    states, lengths, log_probs = case(seed, 1, frames)
    options = PAR(threshold=threshold, beam_size=beam, max_seq_len=limit, ctc_weight=weight, mask_unit=unit)
    got = options.decode(model, encoded(model, states, lengths, log_probs, prompt))[0]
    want = reference.decode(model, states[0], log_probs[0], threshold, beam, limit, 3, weight, prompt, unit)
    scores = [segment.score for segment in got.segments]
    assert len(scores) == len(want.scores)
    for ours, theirs in zip(scores, want.scores, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4) or (ours == theirs == -math.inf)
    assert [segment.fill for segment in got.segments] == want.fills
    assert got.tokens == want.tokens


@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    key=st.sampled_from(KEYS),
    threshold=st.sampled_from([0.4, 0.8, 1.0]),
    weight=st.sampled_from([0.0, 0.4]),
    mode=st.sampled_from(["prefix", "rescore"]),
    parallel=st.sampled_from([-1, 1, 2, 3]),
    order=st.permutations(range(4)),
    unit=st.sampled_from(["token", "word"]),
)
def test_neighbours_change_nothing(seed, key, threshold, weight, mode, parallel, order, unit) -> None:  # type: ignore[no-untyped-def]
    """A batch in any order and any ``max_mask_parallel`` gives what each utterance gives alone."""
    model = MODELS[key]
    states, lengths, log_probs = case(seed, 4, 16)
    alone = PAR(threshold=threshold, beam_size=4, ctc_weight=weight, ctc_mode=mode, mask_unit=unit)
    options = dataclasses.replace(alone, max_mask_parallel=parallel)
    index = torch.tensor(order)
    together = options.decode(model, encoded(model, states[index], lengths[index], log_probs[index]))
    for row, i in enumerate(order):
        n = int(lengths[i])
        single = alone.decode(
            model, encoded(model, states[i : i + 1, :n], lengths[i : i + 1], log_probs[i : i + 1, :n])
        )[0]
        assert together[row].tokens == single.tokens
        assert together[row].score == pytest.approx(single.score, abs=1e-4)
        assert together[row].token_frames == single.token_frames


def test_nothing_masked_is_greedy() -> None:
    model = MODELS[KEYS[0]]
    states, lengths, log_probs = case(1, 5, 30)
    greedy = Greedy().decode(model, encoded(model, states, lengths, log_probs))
    par = PAR(threshold=0.0).decode(model, encoded(model, states, lengths, log_probs))
    assert [h.tokens for h in par] == [h.tokens for h in greedy]
    assert all(not h.segments for h in par)


@pytest.mark.parametrize("key", KEYS)
def test_everything_masked_is_attention_only_beam_search(key: tuple[bool, bool, bool]) -> None:
    """With no limit of tokens, one segment from the prompt to <eos> is the AR search."""
    model = MODELS[key]
    for seed in range(5):
        states, lengths, log_probs = case(seed, 3, 20)
        par = PAR(threshold=1.0 + 1e-7, max_seq_len=20, ctc_weight=0.0, beam_size=5, allow_unk=True)
        ar = AR(ctc_weight=0.0, beam_size=5, maxlenratio=-20)
        for ours, theirs in zip(
            par.decode(model, encoded(model, states, lengths, log_probs)),
            ar.decode(model, encoded(model, states, lengths)),
            strict=True,
        ):
            assert len(ours.segments) == 1
            assert ours.tokens == theirs.tokens
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)


@settings(max_examples=examples(50), deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0, 1), weight=st.sampled_from([0.0, 0.5, 1.0]))
def test_confident_tokens_survive_and_fills_are_clean(seed: int, threshold: float, weight: float) -> None:
    """What was not masked stays where it is; no fill holds blank, <sos>, <unk> or another symbol."""
    model = MODELS[KEYS[0]]
    states, lengths, log_probs = case(seed, 2, 18)
    banned = {*model.special.never, model.special.unk}
    greedy = Greedy().decode(model, encoded(model, states, lengths, log_probs))
    par = PAR(threshold=threshold, beam_size=3, ctc_weight=weight).decode(
        model, encoded(model, states, lengths, log_probs)
    )
    for draft, found in zip(greedy, par, strict=True):
        rebuilt: list[int] = []
        kept = 0
        for segment in found.segments:
            rebuilt += [*draft.tokens[kept : segment.start], *segment.fill]
            assert all(c < threshold for c in draft.token_confidence[segment.start : segment.end])
            assert segment.draft == draft.tokens[segment.start : segment.end]
            if segment.fill != segment.draft:
                assert not banned & set(segment.fill)
            kept = segment.end
        assert (*rebuilt, *draft.tokens[kept:]) == found.tokens
        assert len(found.tokens) == len(found.token_confidence) == len(found.token_frames)


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 10**6), mode=st.sampled_from(["prefix", "rescore"]))
def test_ctc_alone_never_lowers_the_windows_probability(seed: int, mode: str) -> None:
    """w = 1 with the draft among the candidates."""
    from tests.reference.ctc import forward_total

    model = MODELS[KEYS[0]]
    states, lengths, log_probs = case(seed, 1, 12)
    found = PAR(threshold=0.7, beam_size=4, ctc_weight=1.0, ctc_mode=mode).decode(
        model, encoded(model, states, lengths, log_probs)
    )[0]
    draft = reference.draft_of(log_probs[0], 0)
    for segment in found.segments:
        left = draft[segment.start - 1].id if segment.start else -1
        right = draft[segment.end].id if segment.end < len(draft) else -1
        first = draft[segment.start - 1].last + 1 if segment.start else 0
        last = draft[segment.end].first if segment.end < len(draft) else 12
        window = log_probs[0, first:last].double().tolist()
        before = forward_total(window, segment.draft, left, right)
        assert forward_total(window, segment.fill, left, right) >= before - 1e-4


def test_prefix_is_never_changed_by_what_follows() -> None:
    """The first segment's fill does not depend on confident tokens after its stop token."""
    model = MODELS[KEYS[0]]
    states, lengths, _ = case(3, 1, 9)
    ids = [3, 0, 4, 0, 5, 0, 6, 0, 7]
    for tail in (6, 9, 12):
        ids[6], ids[8] = tail, tail + 1
        log_probs = torch.full((1, 9, 21), -8.0)
        for t, i in enumerate(ids):
            log_probs[0, t, i] = 4.0
        log_probs[0, 2, 8] = 3.9  # an unsure token
        found = PAR(threshold=0.9, ctc_weight=0.0).decode(
            model, encoded(model, states, lengths, log_probs.log_softmax(-1))
        )[0]
        first = found.segments[0].fill if tail == 6 else first  # noqa: F821
        assert found.segments[0].fill == first


def test_empty_draft_and_silence() -> None:
    """All blank: nothing to mask, nothing to say."""
    model = MODELS[KEYS[0]]
    log_probs = torch.full((2, 6, 21), -9.0)
    log_probs[:, :, 0] = 0.0
    found = PAR(threshold=1.0).decode(
        model, encoded(model, torch.randn(2, 6, 32), torch.tensor([6, 3]), log_probs.log_softmax(-1))
    )
    assert [h.tokens for h in found] == [(), ()]


def test_genuine_repeats_in_a_fill_survive() -> None:
    """A decoder that says 'a a' gets to say it: ESPnet's driver collapses it."""
    model = tiny_model(5)
    a, stop = 3, 4

    states, lengths, _ = case(3, 1, 6)
    log_probs = torch.full((1, 6, 21), -9.0)
    for t, i in enumerate([0, 7, 0, 0, stop, 0]):
        log_probs[0, t, i] = 9.0
    log_probs[0, 1, 8] = 8.5  # the second frame is unsure
    with torch.no_grad():
        model.decoder.output_layer.weight.zero_()
        model.decoder.output_layer.bias.fill_(-20.0)
        model.decoder.output_layer.bias[a] = 0.0
        model.decoder.output_layer.bias[stop] = -0.1
    # One hypothesis only: it says a, a, and is stopped by the limit.
    found = PAR(threshold=0.95, max_seq_len=2, beam_size=1, ctc_weight=0.0).decode(
        model, encoded(model, states, lengths, log_probs.log_softmax(-1))
    )[0]
    assert found.segments[0].fill == (a, a)
    assert found.segments[0].forced
    assert found.tokens == (a, a, stop)


def test_espnets_setting() -> None:
    """``PAR.espnet`` fixes what ESPnet fixes, and leaves the rest open."""
    assert PAR.espnet() == PAR(threshold=0.99, max_seq_len=5, ctc_weight=0.0)
    assert PAR.espnet(beam_size=3, max_mask_parallel=2, threshold=0.99).beam_size == 3
    with pytest.raises(UserError, match=r"the option threshold is 0\.5, but ESPnet's reference has 0\.99"):
        PAR.espnet(threshold=0.5)
    model = MODELS[KEYS[0]]
    states, frames, log_probs = case(4, 2, 14)
    found = PAR.espnet(beam_size=3).decode(model, encoded(model, states, frames, log_probs))
    for i, hypothesis in enumerate(found):
        n = int(frames[i])
        want = reference.decode(model, states[i, :n], log_probs[i, :n], 0.99, 3, 5)
        assert hypothesis.tokens == want.tokens


def test_fills_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More segments, or more kept drafts, cost no more reads from the device."""
    model = MODELS[KEYS[0]]
    reads = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(self.shape) or tolist(self))
    counts = []
    for batch in (1, 4):
        states, frames, log_probs = case(8, batch, 16)
        given = encoded(model, states, frames, log_probs)
        reads.clear()
        found = PAR(threshold=0.9, ctc_weight=1.0).decode(model, given)
        kept = sum(segment.fill == segment.draft for hypothesis in found for segment in hypothesis.segments)
        counts.append((len(reads), kept))
    assert counts[0][1] < counts[1][1]
    assert counts[0][0] == counts[1][0]


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_decoder_reads_only_utterances_with_masks(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[KEYS[0]]
    states, frames, log_probs = case(8, 3, 16)
    log_probs[1] = (100 * log_probs[1]).log_softmax(-1)  # nothing there is unsure
    sizes: list[int] = []
    for name in ("cross_cache", "prefill"):
        real = getattr(RowDecoder, name)

        def spy(self, first, *rest, real=real):  # type: ignore[no-untyped-def]
            sizes.append(len(first))
            return real(self, first, *rest)

        monkeypatch.setattr(RowDecoder, name, spy)
    found = PAR(threshold=0.9, rounds=rounds).decode(model, encoded(model, states, frames, log_probs))
    assert [h.counts["masked_tokens"] > 0 for h in found] == [True, False, True]
    assert [h.counts["decoder_passes"] > 0 for h in found] == [True, False, True]
    assert sizes[:2] == [2, 2] and max(sizes) == 2
