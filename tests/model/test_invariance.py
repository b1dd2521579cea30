"""An utterance's encoder output does not depend on its neighbours, and equals ESPnet's for it alone."""

from __future__ import annotations

import pytest
import torch

from parlab.model.families.espnet import load
from parlab.model.families.espnet_build import build_model
from parlab.text.targets import Targets
from tests.models import tiny_config, tiny_model

LENGTHS = [16000, 9000, 12345, 8320]


def speech() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor(LENGTHS)
    waves = torch.randn(4, max(LENGTHS), generator=generator) * 0.1
    return waves.masked_fill(torch.arange(max(LENGTHS)) >= lengths.unsqueeze(1), 0.0), lengths


@pytest.mark.parametrize("encoder", ["conformer", "transformer", "branchformer", "e_branchformer"])
@pytest.mark.parametrize("layer", ["conv2d", "conv2d1", "conv2d2", "conv2d6", "conv2d8", "linear"])
def test_a_batch_changes_nothing(encoder: str, layer: str) -> None:
    model = tiny_model(0, encoder=encoder, encoder_conf={"input_layer": layer})
    waves, lengths = speech()
    together, frames = model.encode(waves, lengths)
    for i, n in enumerate(LENGTHS):
        alone, count = model.encode(waves[i : i + 1, :n], lengths[i : i + 1])
        assert int(count) == int(frames[i]) == alone.size(1)
        torch.testing.assert_close(together[i, :count], alone[0], atol=2e-5, rtol=1e-4)


def test_legacy_positions_in_a_batch() -> None:
    """Their attention depends on the length of the utterance; ESPnet takes that of the batch."""
    conf = {"rel_pos_type": "legacy"}
    model = tiny_model(0, encoder_conf=conf)
    waves, lengths = speech()
    together, frames = model.encode(waves, lengths)
    for i, n in enumerate(LENGTHS):
        alone, count = model.encode(waves[i : i + 1, :n], lengths[i : i + 1])
        torch.testing.assert_close(together[i, : frames[i]], alone[0], atol=2e-5, rtol=1e-4)
        assert int(count) == int(frames[i])


@pytest.mark.parametrize("normalize", ["utterance_mvn", "global_mvn", None])
@pytest.mark.parametrize("encoder", ["conformer", "e_branchformer"])
def test_one_utterance_equals_espnet(encoder: str, normalize: str | None, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Our front end, normalisation and hooks against ESPnet's modules, on the same weights."""
    model = tiny_model(1, encoder=encoder, normalize=normalize)
    if normalize == "global_mvn":
        model.normalize.mean.uniform_(-1, 1)
        model.normalize.std.uniform_(0.5, 2)
    plain = build_model(tiny_config(encoder=encoder, normalize=normalize)).eval()
    plain.load_state_dict(model.state_dict())
    wave = speech()[0][:1]
    spectrum = torch.stft(
        wave, 512, 160, 400, torch.hann_window(400), center=True, pad_mode="reflect", return_complex=True
    )
    power = spectrum.abs().square().transpose(1, 2)
    features, _ = plain.frontend.logmel(power, torch.tensor([power.size(1)]))
    if normalize == "utterance_mvn":
        features = features - features.mean(1, keepdim=True)
    elif normalize == "global_mvn":
        features = (features - model.normalize.mean) / model.normalize.std
    name = {"conformer": "ConformerEncoder", "e_branchformer": "EBranchformerEncoder"}[encoder]
    conf = tiny_config(encoder=encoder)["encoder_conf"]
    theirs = load(f"espnet2.asr.encoder.{encoder}_encoder", name)(input_size=40, **conf).eval()
    theirs.load_state_dict(model.encoder.state_dict())
    want, size, _ = theirs(features, torch.tensor([features.size(1)]))
    got, frames = model.encode(wave, torch.tensor([wave.size(1)]))
    assert int(frames) == int(size)
    torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4)


def test_statistics_do_not_change_while_training() -> None:
    """ESPnet's GlobalMVN casts its buffers in place; ours stay as they are."""
    model = build_model(tiny_config(normalize="global_mvn")).train()
    model.normalize.mean.uniform_(-1, 1)
    before = model.normalize.mean.clone(), model.normalize.std.clone()
    with torch.autocast("cpu", torch.bfloat16):
        model.loss(*speech(), Targets(torch.tensor([[3, 4]] * 4), torch.tensor([2] * 4))).total.backward()
    assert torch.equal(before[0], model.normalize.mean)
    assert torch.equal(before[1], model.normalize.std)
    assert model.normalize.mean.dtype == torch.float32


def test_shortest_usable_audio() -> None:
    """``min_samples`` is enough, for every subsampling."""
    for layer in ("conv2d", "conv2d6", "conv2d8"):
        model = tiny_model(0, encoder_conf={"input_layer": layer})
        n = model.min_samples
        states, frames = model.encode(torch.randn(1, n), torch.tensor([n]))
        assert int(frames) == states.size(1) >= 1
