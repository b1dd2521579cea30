"""The search in fixed shapes: the results of the search that drops rows, one graph a step, buffers that graphs share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from parlab.decode import AR, PAR, CTCBeam, Decoder, Rescore
from parlab.decode.search import graphs
from parlab.decode.search.fixed import FixedSearch, GridState
from parlab.decode.search.frames import FrameSearch
from parlab.decode.search.mode import SearchMode, search_mode
from parlab.decode.search.plan import Plan, bucket
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.model.packed import PackedLinear
from parlab.options.devices import set_tf32
from parlab.types import Hypothesis
from tests.models import encoded, examples, random_posteriors, tiny_model, write_lm

OPTIONS: list[Decoder] = [
    *(
        PAR(**{"beam_size": 4, **options})
        for options in (
            {},
            {"ctc_weight": 0.0},
            {"ctc_weight": 1.0},
            {"ctc_weight": 0.3, "threshold": 1.0},
            {"ctc_mode": "rescore"},
            {"length_normalize": True, "nbest": 3},
            {"max_seq_len": 3},
            {"max_seq_len": 20, "ctc_weight": 0.0},
            {"length_tolerance": 0.0, "ctc_weight": 0.0, "margin": 8},
            {"length_tolerance": 0.2, "ctc_mode": "rescore", "rounds": 2},
            {"beam_size": 1},
            {"max_mask_parallel": 2},
            {"mask_unit": "word"},
            {"allow_unk": True, "margin": 0},
        )
    ),
    *(
        AR(**{"beam_size": 4, **options})
        for options in (
            {},
            {"ctc_weight": 0.0},
            {"ctc_weight": 1.0},
            {"maxlenratio": -7},
            {"nbest": 3, "normalize_length": True, "penalty": 0.3},
            {"ctc_margin": 3, "minlenratio": 0.2},
            {"beam_size": 1, "allow_special": True},
            {"maxlenratio": 0.8, "minlenratio": 0.4, "ctc_weight": 0.0},
        )
    ),
]


def batch(seed: int) -> tuple[HybridModel, Encoded]:
    """One to five utterances of 8 to 40 frames, and a model of their own."""
    model = tiny_model(seed, sharpness=6.0)
    generator = torch.Generator().manual_seed(seed)
    count = 1 + seed % 5
    states = torch.randn(count, 40, 32, generator=generator)
    frames = torch.randint(8, 41, (count,), generator=generator)
    frames[0] = 40
    return model, encoded(model, states, frames, random_posteriors(seed, count, 40, model.vocab_size, peak=4.0))


def same(found: Hypothesis, wanted: Hypothesis) -> bool:
    return (
        found.tokens == wanted.tokens
        and found.score == pytest.approx(wanted.score, abs=1e-3, nan_ok=True)
        and found.counts == wanted.counts
        and [s.forced for s in found.segments] == [s.forced for s in wanted.segments]
        and [h.tokens for h in found.nbest] == [h.tokens for h in wanted.nbest]
    )


def agree(decoder: Decoder, model: HybridModel, inputs: Encoded, **how: Any) -> bool:
    """Whether both searches give the same."""
    with torch.inference_mode():
        wanted = decoder.decode(model, inputs)
        with search_mode(fixed=True, **how):
            found = decoder.decode(model, inputs)
    return all(same(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("decoder", OPTIONS, ids=str)
def test_fixed_shapes_change_no_result(decoder: Decoder) -> None:
    """``PARLAB_EXAMPLES=50`` makes 2000 searches of it."""
    for seed in range(examples(2)):
        assert agree(decoder, *batch(seed)), seed


@pytest.mark.parametrize("kind", ["transformer", "seq_rnn"])
@pytest.mark.parametrize("decoder", [PAR(beam_size=3), AR(beam_size=3, maxlenratio=-9)], ids=["par", "ar"])
def test_with_a_language_model(kind: str, decoder: Decoder, tmp_path: Path) -> None:
    fused = replace(decoder, lm=str(write_lm(tmp_path / kind, kind)), lm_weight=0.4)  # type: ignore[call-arg]
    for seed in (2, 3):
        assert agree(fused, *batch(seed))


def test_scores_that_are_no_numbers() -> None:
    """They stay so in both searches."""
    model, inputs = batch(3)
    decoder = AR(beam_size=3, maxlenratio=-6, penalty=float("nan"))
    assert agree(decoder, model, inputs)
    with torch.inference_mode(), search_mode(fixed=True):
        assert all(h.score != h.score for h in decoder.decode(model, inputs))


def test_the_device_chooses() -> None:
    assert SearchMode().is_fixed(torch.device("cuda"))
    assert not SearchMode().is_fixed(torch.device("cpu"))
    assert SearchMode(fixed=True).is_fixed(torch.device("cpu"))
    assert SearchMode().stepper(torch.device("cuda")) is graphs.run_captured
    assert SearchMode().stepper(torch.device("cpu")) is None


def test_margins_do_not_depend_on_the_batch() -> None:
    """CTC looks for a token within an utterance's own window, however long its neighbours are."""
    model, inputs = batch(9)
    decoder = AR(beam_size=4, ctc_margin=2, ctc_weight=0.8)
    with torch.inference_mode():
        together = decoder.decode(model, inputs)
        for i, hypothesis in enumerate(together):
            size = int(inputs.frames[i])
            assert inputs.ctc_log_probs is not None
            one = encoded(
                model, inputs.states[i : i + 1, :size], inputs.frames[i : i + 1], inputs.ctc_log_probs[i : i + 1, :size]
            )
            [alone] = decoder.decode(model, one)
            assert alone.tokens == hypothesis.tokens
            assert alone.score == pytest.approx(hypothesis.score, abs=1e-3)


CTC = [CTCBeam(beam_size=4), CTCBeam(beam_size=1), CTCBeam(beam_size=3, nbest=5, blank_skip=0.6), Rescore(beam_size=4)]


@pytest.mark.parametrize("decoder", CTC, ids=str)
def test_several_frames_at_once_change_no_result(decoder: Decoder) -> None:
    for seed in range(examples(6)):
        model, inputs = batch(seed)
        assert agree(decoder, model, inputs), seed
        assert inputs.ctc_log_probs is not None
        short = replace(inputs, ctc_log_probs=inputs.ctc_log_probs[:, :3], frames=inputs.frames.clamp(max=3))
        assert agree(decoder, model, short), seed


# ---- tiles --------------------------------------------------------------------------------------


def test_tiles_are_half_full_and_hold_one_utterance() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        count = int(torch.randint(1, 30, (), generator=generator))
        owner = torch.randint(0, 12, (count,), generator=generator).sort().values
        plan = Plan.of(owner.tolist(), 4, torch.device("cpu"))
        groups = plan.source[plan.real]
        assert groups.tolist() == list(range(count))
        assert plan.slot[:count].tolist() == plan.real.nonzero().squeeze(1).tolist()
        tiles = owner[plan.source].view(-1, plan.tile)
        assert (tiles == tiles[:, :1]).all()
        assert plan.slots <= bucket(2 * count)


def test_buckets_are_few_and_near() -> None:
    sizes = {bucket(n) for n in range(1, 1025)}
    assert len(sizes) <= 40
    assert all(n <= bucket(n) <= 1.25 * n for n in range(1, 1025))


# ---- one graph a step ---------------------------------------------------------------------------


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear layers as accelerators have them."""
    monkeypatch.setattr(PackedLinear, "MOST_BYTES", 0)


GRAPHED = [PAR(beam_size=4), AR(beam_size=4, ctc_weight=0.0)]


@pytest.mark.parametrize("decoder", GRAPHED, ids=str)
def test_a_step_compiles_without_a_break(decoder: Decoder, unpacked: None) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(FixedSearch.step, fullgraph=True, backend="eager")
    model, inputs = batch(2)
    with torch.no_grad():
        wanted = decoder.decode(model, inputs)
        with search_mode(fixed=True, step=compiled):
            found = decoder.decode(model, inputs)
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))


def test_frames_compile_without_a_break() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(FrameSearch.step, fullgraph=True, backend="eager")
    model, inputs = batch(2)
    with torch.no_grad():
        wanted = CTCBeam(beam_size=4).decode(model, inputs)
        with search_mode(fixed=True, step=compiled):
            found = CTCBeam(beam_size=4).decode(model, inputs)
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))


Step = FixedSearch | FrameSearch


class OneStep(torch.nn.Module):
    """A step as a module of tensors, as an export wants it."""

    def __init__(self, search: Step, state: Any):
        super().__init__()
        self.search, self.state = search, state

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        given = iter(tensors)
        state = graphs.with_tensors(self.state, lambda _: next(given))
        return list(graphs.tensors_of(self.search.step(state)))


@pytest.mark.parametrize("decoder", [*GRAPHED, CTCBeam(beam_size=4)], ids=str)
def test_a_step_exports_without_operators_that_depend_on_data(decoder: Decoder, unpacked: None) -> None:
    """And the exported step, on tensors, does what the step does."""
    exported: list[torch.export.ExportedProgram] = []

    def export(search: Any, state: Any) -> Any:
        following = search.step(state)
        if not exported:
            tensors = [x.clone() for x in graphs.tensors_of(state)]
            exported.append(torch.export.export(OneStep(search, state), (tensors,), strict=False))
            for one, other in zip(exported[0].module()(tensors), graphs.tensors_of(following), strict=True):
                torch.testing.assert_close(one, other, equal_nan=True)  # dropped rows gain no number
        return following

    model, inputs = batch(2)
    with torch.no_grad(), search_mode(fixed=True, step=export):
        decoder.decode(model, inputs)
    names = {str(node.target) for node in exported[0].graph.nodes if node.op == "call_function"}
    assert "aten.topk.default" in names
    waiting = ("aten.item", "nonzero", "_local_scalar_dense", "masked_select", "bincount", "unique")
    assert not [name for name in names if any(word in name for word in waiting)]


# ---- buffers of graphs --------------------------------------------------------------------------


class Replayed:
    """What a CUDA graph does, on CPU: the same step on the same buffers."""

    def __init__(self, search: FixedSearch, state: GridState):
        self.search, self.state = search, state

    def replay(self) -> None:
        graphs.write(self.state, self.search.step(self.state))


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FixedSearch]]:
    """Searches that were captured; the graphs are ``Replayed``."""
    made: list[FixedSearch] = []

    def capture(search: FixedSearch, state: GridState) -> graphs.Captured:
        made.append(search)
        search, state = (graphs.with_tensors(x, Tensor.clone) for x in (search, state))
        return graphs.Captured(Replayed(search, state), search, state)

    monkeypatch.setattr(graphs.Captured, "of", staticmethod(capture))
    graphs._kept.graphs.clear()
    yield made
    graphs._kept.graphs.clear()


@pytest.mark.parametrize("decoder", [*OPTIONS[::3], CTCBeam(beam_size=4)], ids=str)
def test_graphs_give_the_same_results(decoder: Decoder, captures: list[FixedSearch]) -> None:
    for seed in (1, 2):
        model, inputs = batch(seed)
        assert agree(decoder, model, inputs, step=graphs.run_captured)
        before = len(captures)
        assert agree(decoder, model, inputs, step=graphs.run_captured)
        assert len(captures) == before > 0, "the second time the graphs of the first serve"


def test_one_graph_serves_batches_of_a_size(captures: list[FixedSearch]) -> None:
    """Other speech of the same size needs no graph of its own; another model does."""
    model, first = batch(4)
    decoder = AR(beam_size=4, maxlenratio=-9)
    assert agree(decoder, model, first, step=graphs.run_captured)
    assert first.ctc_log_probs is not None
    other = replace(first, states=first.states.flip(0), ctc_log_probs=first.ctc_log_probs.flip(0))
    assert agree(decoder, model, other, step=graphs.run_captured)
    assert len(captures) == 1
    assert agree(decoder, tiny_model(5, sharpness=6.0), first, step=graphs.run_captured)
    assert len(captures) == 2


def test_a_graph_keeps_the_rounding_of_its_capture(captures: list[FixedSearch]) -> None:
    """Products that are rounded to TF32 need a graph of their own, which serves when they are again."""
    model, inputs = batch(2)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for allowed, count in ((False, 1), (True, 2), (False, 2), (True, 2)):
            set_tf32(allowed)
            assert agree(AR(beam_size=2, maxlenratio=-5), model, inputs, step=graphs.run_captured)
            assert len(captures) == count
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_graphs_are_few(captures: list[FixedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    for beam in (1, 2, 3, 4):
        assert agree(AR(beam_size=beam, maxlenratio=-5), *batch(2), step=graphs.run_captured)
    assert len(captures) == 4
    assert len(graphs._kept.graphs) == 2
    monkeypatch.setattr(graphs, "MOST_KEPT", 1000)
    assert agree(AR(beam_size=4, maxlenratio=-5), *batch(3), step=graphs.run_captured)
    assert len(graphs._kept.graphs) == 1


def test_graphs_can_be_turned_off(captures: list[FixedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(graphs.SWITCH, "0")
    assert agree(PAR(beam_size=4), *batch(2), step=graphs.run_captured)
    monkeypatch.delenv(graphs.SWITCH)
    monkeypatch.setattr(graphs, "MOST_BYTES", 1000)  # a search too large for buffers of its own
    assert agree(PAR(beam_size=4), *batch(2), step=graphs.run_captured)
    assert not captures
