"""The row-wise decoder against ESPnet's own, and the memory it promises."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from parlab.model.caches import SharedSuffix
from parlab.model.packed import PositionTable
from parlab.model.rows import RowDecoder, RowLayout
from tests.models import tiny_model

VARIANTS = [
    {},
    {"normalize_before": False},
    {"concat_after": True},
    {"normalize_before": False, "concat_after": True},
    {"qk_norm": True},
]


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(3, 30, 32, generator=generator)
    tokens = torch.randint(3, 20, (3, 9), generator=generator)
    return states, torch.tensor([30, 21, 8]), tokens


def scaled_model():  # type: ignore[no-untyped-def]
    """A decoder with ESPnet's scaled positional encoding (its ``alpha`` is learned)."""
    from parlab.model.families.espnet import load

    model = tiny_model(0)
    encoding = load("espnet.nets.pytorch_backend.transformer.embedding", "ScaledPositionalEncoding")(32, 0.0)
    encoding.alpha.data.fill_(1.7)
    model.decoder.embed[1] = encoding
    return model


@pytest.mark.parametrize("conf", VARIANTS)
def test_a_pass_equals_espnets(conf: dict) -> None:
    model = tiny_model(0, decoder_conf=conf)
    states, lengths, tokens = batch()
    want, _ = model.decoder(states, lengths, tokens, torch.full((3,), 9))
    rows = model.rows
    got, _ = rows.prefill(tokens, rows.cross_cache(states, lengths))
    torch.testing.assert_close(rows.logits(got), want, atol=1e-4, rtol=1e-4)


def test_scaled_positions() -> None:
    model = scaled_model()
    states, lengths, tokens = batch()
    want, _ = model.decoder(states, lengths, tokens, torch.full((3,), 9))
    got, _ = model.rows.prefill(tokens, model.rows.cross_cache(states, lengths))
    torch.testing.assert_close(model.rows.logits(got), want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("conf", VARIANTS)
@pytest.mark.parametrize("owners", [[0, 0, 1, 2], [0, 1, 2], [1, 1, 1], [2]])
def test_steps_equal_a_pass(conf: dict, owners: list[int]) -> None:
    """Rows that start at different indices of shared prefixes, stepped with caches, say what a whole pass says."""
    model = tiny_model(0, decoder_conf=conf)
    states, lengths, tokens = batch()
    rows = model.rows
    cross = rows.cross_cache(states, lengths)
    hidden, prefix = rows.prefill(tokens, cross)
    owner = torch.tensor(owners)
    starts = torch.tensor([(3 * i) % 5 + 1 for i in range(len(owners))])
    layout = RowLayout.of(owner, starts, 3)
    suffix = None
    for step in range(4):
        index = starts + step
        got, suffix = rows.step(tokens[owner, index], layout, cross, prefix, suffix)
        torch.testing.assert_close(got, hidden[owner, index], atol=1e-4, rtol=1e-4)


def test_copies_share_the_cross_cache() -> None:
    """Several sequences of an utterance in one pass are those sequences alone."""
    model = tiny_model(0)
    states, lengths, tokens = batch()
    rows = model.rows
    cross = rows.cross_cache(states, lengths)
    several = torch.stack([tokens, tokens.flip(1)], 1).flatten(0, 1)
    both, _ = rows.prefill(several, cross, copies=2)
    first, _ = rows.prefill(tokens, cross)
    second, _ = rows.prefill(tokens.flip(1), cross)
    torch.testing.assert_close(both, torch.stack([first, second], 1).flatten(0, 1), atol=1e-5, rtol=1e-4)


def test_changed_weights_are_seen() -> None:
    """The fused snapshot is made anew after the weights have changed."""
    model = tiny_model(0)
    before = model.rows
    assert model.rows is before
    with torch.no_grad():
        model.decoder.decoders[0].self_attn.linear_q.weight.mul_(2.0)
    assert model.rows is not before


@pytest.mark.parametrize("how", ["written", "replaced", "loaded"])
def test_changes_that_torch_does_not_count_are_seen(how: str) -> None:
    """Averaged weights are mostly written through ``.data``."""
    model, other = tiny_model(0), tiny_model(1)
    before = model.rows
    own = model.decoder.decoders[1].feed_forward.w_2.weight  # not the first one
    if how == "written":
        own.data.mul_(0.5)
    elif how == "replaced":
        own.data = own.data * 0.5
    else:
        for a, b in zip(model.decoder.parameters(), other.decoder.parameters(), strict=True):
            a.data.copy_(b.data)
    assert model.rows is not before
    assert model.rows is model.rows


def test_bfloat16_weights() -> None:
    """Converted where autograd keeps no versions; the packed products are those of ESPnet's modules in that type."""
    model = tiny_model(0)
    states, lengths, tokens = batch()
    with torch.inference_mode():
        half = model.to(torch.bfloat16)
        want, _ = half.decoder(states.bfloat16(), lengths, tokens, torch.full((3,), 9))
        rows = half.rows
        got, _ = rows.prefill(tokens, rows.cross_cache(states.bfloat16(), lengths))
        assert rows.logits(got).dtype == torch.float32
        torch.testing.assert_close(rows.logits(got), want.float(), atol=0.1, rtol=0.1)


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x._base is None and x.untyped_storage().data_ptr():
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return out


def test_no_tensor_of_rows_times_frames_times_width() -> None:
    """Memory of a step: scores of rows x heads x (frames or prefix), never rows x frames x width."""
    model = tiny_model(0)
    frames, prefix_tokens, rows_per = 400, 120, 60
    states = torch.randn(2, frames, 32)
    rows: RowDecoder = model.rows
    cross = rows.cross_cache(states, torch.tensor([frames, frames - 100]))
    _, prefix = rows.prefill(torch.randint(3, 20, (2, prefix_tokens)), cross)
    owner = torch.arange(2).repeat_interleave(rows_per)
    layout = RowLayout.of(owner, torch.full((2 * rows_per,), 100), 2)
    with LargestTensor() as largest:
        rows.step(torch.randint(3, 20, (2 * rows_per,)), layout, cross, prefix, None)
    heads, width = 4, 32
    assert 2 * rows_per * frames * heads * 4 < 2 * rows_per * prefix_tokens * width * 4
    assert largest.bytes <= 2 * rows_per * frames * heads * 4


@pytest.mark.parametrize("conf", VARIANTS)
def test_tokens_that_rows_share_are_kept_once(conf: dict) -> None:
    """The states of rows with caches of their own, in far less memory, while a beam branches and dies back."""
    decoder = RowDecoder(tiny_model(0, decoder_conf=conf).decoder_spec())
    generator = torch.Generator().manual_seed(2)
    cross = decoder.cross_cache(torch.randn(1, 20, 32, generator=generator), torch.tensor([20]))
    _, prefix = decoder.prefill(torch.tensor([[19, 5]]), cross)
    rows, own, shared = 1, None, SharedSuffix.empty(prefix)
    for step in range(30):
        beam = 1 + step % 5
        parents = torch.randint(0, rows, (beam,), generator=generator)
        tokens = torch.randint(3, 19, (beam,), generator=generator)
        layout = RowLayout.of(torch.zeros(beam, dtype=torch.long), torch.full((beam,), 2), 1)
        own = None if own is None else own.select(parents)
        want, own = decoder.step(tokens, layout, cross, prefix, own)
        found, shared = decoder.step(tokens, layout, cross, prefix, shared.select(parents))
        torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
        rows = beam
    assert shared.length == 30 and shared.seen.sum(1).tolist() == [30] * rows
    assert shared.keys[0].size(1) < 2 * (30 + 15)  # of which each row needs 30; own caches hold 30 a row


def test_tables_of_positions_outlive_longer_ones() -> None:
    """A CUDA graph goes on reading the table that it was captured with; one that does not grow is kept once."""
    made: list[int] = []

    def positions(size: int) -> torch.Tensor:
        made.append(min(size, 30))
        return torch.arange(made[-1]).double().unsqueeze(1)

    table = PositionTable(positions, torch.zeros(1, 1))
    first = weakref.ref(table.of(10))
    longer = table.of(20)
    assert len(longer) == 20 and longer.dtype == torch.float32
    assert first() is not None and first().tolist() == [[i] for i in range(10)]
    assert table.of(15) is longer and made == [10, 20]
    whole = [len(table.of(size)) for size in (40, 50, 60)]  # there are no more than 30
    assert whole == [30, 30, 30]
    assert [len(x) for x in table.tables] == [0, 10, 20, 30]
