"""The encoders' fused attention equals ESPnet's own, and compiles into one graph."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from parlab.model.families.espnet import load
from parlab.model.families.espnet_attention import is_fast, use_fast_attention
from parlab.model.hybrid import HybridModel
from tests.models import s2t_model, s2t_tokenizer, tiny_model

WIDTH, HEADS = 32, 4
KINDS = {"plain": "", "latest": "RelPosition", "legacy": "LegacyRelPosition"}


def attention(kind: str, seed: int = 0, **options: Any) -> Any:
    """ESPnet's module with random weights."""
    torch.manual_seed(seed)
    name = f"{KINDS[kind]}MultiHeadedAttention"
    module = load("espnet.nets.pytorch_backend.transformer.attention", name)(HEADS, WIDTH, 0.1, **options)
    return module.eval().requires_grad_(False)


def inputs(kind: str, frames: int, lengths: list[int]) -> list[Tensor]:
    """Query, key, value, positions where the kind has them, and the mask."""
    x = torch.randn(len(lengths), frames, WIDTH)
    mask = torch.arange(frames) < torch.tensor(lengths).view(-1, 1, 1)
    columns = {"plain": 0, "latest": 2 * frames - 1, "legacy": frames}[kind]
    return [x, x, x, *([torch.randn(1, columns, WIDTH)] if columns else []), mask]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 3, 17, 64])
def test_attention_is_espnets(kind: str, frames: int) -> None:
    module = attention(kind)
    given = inputs(kind, frames, [frames] * 3)
    want = module(*given)
    use_fast_attention(module)
    assert is_fast(module)
    torch.testing.assert_close(module(*given), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(*given[:-1], None), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "latest"])
def test_padding_is_not_seen(kind: str) -> None:
    module = attention(kind)
    given = inputs(kind, 20, [20, 13, 1])
    want = module(*given)
    use_fast_attention(module)
    torch.testing.assert_close(module(*given), want, atol=1e-5, rtol=1e-5)


def test_legacy_positions_are_those_of_the_utterance_alone() -> None:
    """ESPnet's own depend on the padded length."""
    module = attention("legacy")
    lengths = [20, 13, 2, 1]
    x, _, _, positions, mask = inputs("legacy", 20, lengths)
    want = [module(*[x[i : i + 1, :n]] * 3, positions[:, :n], mask[i : i + 1, :, :n])[0] for i, n in enumerate(lengths)]
    padded = module(x, x, x, positions, mask)
    assert not torch.allclose(padded[1, :13], want[1], atol=1e-3)
    use_fast_attention(module)
    found = module(x, x, x, positions, mask)
    for i, n in enumerate(lengths):
        torch.testing.assert_close(found[i, :n], want[i], atol=1e-5, rtol=1e-5)


def test_training_runs_espnets_code() -> None:
    module = attention("latest").train()
    given = inputs("latest", 9, [9, 5])
    torch.manual_seed(1)
    want = module(*given)
    use_fast_attention(module)
    torch.manual_seed(1)
    assert torch.equal(module(*given), want)


def test_what_it_does_not_have_stays_espnets() -> None:
    module = attention("latest", zero_triu=True)
    use_fast_attention(module)
    assert not is_fast(module)


def test_a_copy_has_its_own_weights() -> None:
    model = tiny_model(0)
    other = copy.deepcopy(model)
    speech, lengths = torch.randn(1, 8000), torch.tensor([8000])
    want = model.encode(speech, lengths)[0]
    for parameter in model.encoder.parameters():
        parameter.zero_()
    assert torch.equal(other.encode(speech, lengths)[0], want)
    assert not torch.equal(model.encode(speech, lengths)[0], want)


def calls_of(model: HybridModel) -> list[int]:
    """Sizes of the batches that the encoder gets from now on."""
    sizes: list[int] = []
    model.encoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    return sizes


def test_one_call_for_legacy_positions() -> None:
    model = tiny_model(0, encoder_conf={"rel_pos_type": "legacy"})
    sizes = calls_of(model)
    model.encode(torch.randn(4, 16000), torch.tensor([16000, 9000, 12345, 8320]))
    assert sizes == [4]


def test_one_call_for_each_prompt_of_owsm_ctc(tmp_path: Any) -> None:
    model = s2t_model(s2t_tokenizer(tmp_path), "s2t_ctc")
    assert model.s2t is not None
    sizes = calls_of(model)
    lengths = torch.tensor([16000, 12000, 14000, 9000])
    speech = torch.randn(4, 16000)
    together, frames = model.encode(speech, lengths)
    assert sizes == [4]
    english, german = model.s2t.prompt("eng"), model.s2t.prompt("deu")
    model.encode(speech, lengths, [english, german, english, english])
    assert sizes == [4, 3, 1]
    for i, n in enumerate(lengths.tolist()):
        alone, count = model.encode(speech[i : i + 1, :n], lengths[i : i + 1])
        assert int(count) == int(frames[i])
        torch.testing.assert_close(together[i, :count], alone[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("positions", ["latest", "legacy"])
def test_the_encoder_is_one_graph(positions: str) -> None:
    """For all lengths, without a break; the results are the same."""
    model = tiny_model(0, encoder_conf={"rel_pos_type": positions, "num_blocks": 1})
    lengths = [torch.tensor([16000, 9000]), torch.tensor([12000, 11000]), torch.tensor([15000, 8320])]
    speech = [torch.randn(2, int(n.max())) for n in lengths]
    want = [model.encode(s, n) for s, n in zip(speech, lengths, strict=True)]
    torch._dynamo.reset()
    graphs: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    model.compile_encoder(backend)
    with torch.inference_mode():
        found = [model.encode(s, n) for s, n in zip(speech, lengths, strict=True)]
    assert len(graphs) == 1
    for one, other in zip(want, found, strict=True):
        torch.testing.assert_close(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert copy.deepcopy(model).compiled is None
