"""Front end, encoder and CTC head read nothing back from their device, and make no tensor on another one.

The tensors of torch's ``meta`` device have no values: whoever reads one, or mixes it with one of the CPU, fails.
"""

from __future__ import annotations

import contextlib

import pytest
import torch

from parlab.commands.bench.cases import make_case
from parlab.commands.bench.sizes import random_recognizer
from tests.models import tiny_model

META = torch.device("meta")


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not know the meta device."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


@pytest.mark.parametrize("encoder", ["conformer", "transformer", "e_branchformer"])
@pytest.mark.parametrize("normalize", ["utterance_mvn", "global_mvn"])
def test_encoding_reads_nothing_back(encoder: str, normalize: str) -> None:
    model = tiny_model(0, encoder=encoder, normalize=normalize).to(META)
    lengths = torch.tensor([16000, 9000])
    states, frames = model.encode(torch.empty(2, 16000, device=META), lengths.to(META))
    assert states.device == frames.device == model.ctc_log_probs(states).device == META
    here = tiny_model(0, encoder=encoder, normalize=normalize).encode(torch.randn(2, 16000), lengths)
    assert (states.shape, frames.shape) == (here[0].shape, here[1].shape)


def test_legacy_positions_read_nothing_back() -> None:
    model = tiny_model(0, encoder_conf={"rel_pos_type": "legacy"}).to(META)
    states, _ = model.encode(torch.empty(2, 16000, device=META), torch.tensor([16000, 9000]).to(META))
    assert states.device == META


def test_meta_tensors_cannot_be_read_or_mixed() -> None:
    """The tests above would fail where something is read or mixed."""
    with pytest.raises(RuntimeError):
        int(torch.empty(2, device=META).max())
    with pytest.raises(RuntimeError):
        torch.empty(2, 2, device=META) + torch.empty(2, 2)


def test_a_case_of_the_bench_lies_on_its_device() -> None:
    case = make_case(random_recognizer("tiny", META), 2.0, 3, 2)
    encoded = case.encoded
    tensors = (case.speech, case.lengths, encoded.states, encoded.frames, encoded.posteriors)
    assert {tensor.device for tensor in tensors} == {META}
