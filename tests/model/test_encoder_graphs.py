"""Graphs of the encoder, with a stand-in for CUDA's capture that runs the encoder on the graph's own buffers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parlab.model.families import espnet_graphs
from parlab.model.families.espnet_graphs import EncoderGraphs, Run
from tests.models import tiny_model

CAPTURED: list[tuple[int, ...]] = []


def replayed(run: Run, x: Tensor, frames: Tensor) -> Run:
    """As a graph: one buffer for inputs, one for the output, both of which the next batch writes over."""
    CAPTURED.append(tuple(x.shape))
    x, frames = x.clone(), frames.clone()
    output = run(x, frames)[:2]

    def replay(new: Tensor, count: Tensor) -> Any:
        x.copy_(new)
        frames.copy_(count)
        for buffer, value in zip(output, run(x, frames)[:2], strict=True):
            buffer.copy_(value)
        return tuple(buffer.clone() for buffer in output)

    return replay


def batch(seed: int, *samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(len(samples), max(samples), generator=generator), torch.tensor(samples)


BATCHES = [batch(0, 16000, 9000), batch(1, 15000, 14000), batch(2, 16000, 9000), batch(3, 30000, 8320)]


@pytest.mark.parametrize("encoder", ["conformer", "branchformer", "e_branchformer", "transformer"])
def test_graphs_change_no_output(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with graphs of earlier batches; padding of a bucket is cut off."""
    model = tiny_model(0, encoder=encoder)
    want = [model.encode(*given) for given in BATCHES]
    CAPTURED.clear()
    monkeypatch.setattr(EncoderGraphs.__init__, "__defaults__", (replayed, "cpu"))
    model.compile_encoder(None, graphs=True)
    found = [model.encode(*given) for given in BATCHES]
    for one, other in zip(want, found, strict=True):
        torch.testing.assert_close(other[0], one[0], atol=2e-5, rtol=1e-4)
        assert torch.equal(other[1], one[1])
    assert CAPTURED == [(2, 128, 40), (2, 192, 40)]  # 16000 and 15000 samples share a graph


def test_the_oldest_graphs_go_and_new_weights_need_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espnet_graphs, "MOST_GRAPHS", 1)
    model = tiny_model(0)
    graphs = EncoderGraphs(model.encoder, model._run_encoder, replayed, "cpu")
    features = [model.features(*given) for given in BATCHES]
    CAPTURED.clear()
    for i in (0, 2, 3, 0):
        graphs(*features[i])
    assert len(CAPTURED) == 3 and len(graphs.kept) == 1
    for parameter in model.encoder.parameters():
        parameter.data = parameter.data.clone()
    graphs(*features[0])
    assert len(CAPTURED) == 4


def test_a_longer_table_of_positions_needs_new_graphs() -> None:
    """The old one is freed; until then graphs keep it alive."""
    model = tiny_model(0)
    graphs = EncoderGraphs(model.encoder, model._run_encoder, replayed, "cpu")
    features = model.features(*BATCHES[0])
    want = graphs(*features)[0]
    [module] = graphs.positions
    CAPTURED.clear()
    graphs(*features)
    assert not CAPTURED
    before = module.pe.size(1)
    module.extend_pe(torch.zeros(1, before, 32))  # as for frames that are more than it has positions for
    assert module.pe.size(1) > before
    torch.testing.assert_close(graphs(*features)[0], want)
    graphs(*features)
    assert len(CAPTURED) == 1


def test_off_where_they_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, for large batches, and for encoders that pad differently."""
    model = tiny_model(0)
    CAPTURED.clear()
    model.compile_encoder(None, graphs=True)
    model.encode(*BATCHES[0])
    monkeypatch.setattr(espnet_graphs, "MOST_FEATURES", 100)
    EncoderGraphs(model.encoder, model._run_encoder, replayed, "cpu")(*model.features(*BATCHES[0]))
    assert not CAPTURED
    model._batch_invariant = False
    model.compile_encoder(None, graphs=True)
    assert not isinstance(model.compiled, EncoderGraphs)
