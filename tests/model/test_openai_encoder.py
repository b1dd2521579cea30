"""ESPnet's ``encoder: whisper``: equal to ESPnet's and transformers' own, invariant to the batch, read and written, taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from parlab.commands.fit.batches import frame_counter
from parlab.errors import UserError
from parlab.model.families.espnet_build import build_model
from parlab.model.families.openai.encoder import WhisperEncoder
from parlab.model.families.openai.frontend import WhisperLogMel
from parlab.model.families.openai.taken_over import take_over_encoder
from parlab.model.families.whisper_model import WhisperFeatures, WhisperFrontend
from parlab.model.folder import read_model, write_model
from parlab.model.hybrid import HybridModel
from parlab.text.targets import Targets
from parlab.text.tokenizer import Tokenizer
from tests.models import tiny_config

LENGTHS = (16000, 30001, 9000)
SPECAUG = {"apply_time_warp": False, "freq_mask_width_range": [0, 20], "time_mask_width_range": [0, 10]}


def whisper_config(**encoder_conf: Any) -> dict[str, Any]:
    config = tiny_config(encoder="whisper")
    return {
        **config,
        "encoder_conf": {"whisper_model": "tiny.en", **encoder_conf},
        "frontend": None,
        "frontend_conf": None,
        "normalize": None,
        "input_size": 1,
    }


@pytest.fixture(scope="module")
def model() -> HybridModel:
    torch.manual_seed(0)
    return build_model(whisper_config()).eval()


def speech() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n) * scale for n, scale in zip(LENGTHS, (0.1, 0.3, 1.0), strict=True)]


def transformers_encoder() -> Any:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Original

    torch.manual_seed(2)
    sizes = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
    return Original(WhisperConfig(**sizes)).eval()


@torch.no_grad()
def test_equal_to_transformers_on_a_whole_window() -> None:
    original = transformers_encoder()
    ours = WhisperEncoder(whisper_model="tiny").eval()
    take_over_encoder(ours, original)
    wave, count = torch.randn(1, 480000) * 0.1, torch.tensor([480000])
    features, frames = WhisperLogMel()(wave, count)
    theirs, _ = WhisperFrontend(WhisperFeatures())(wave, count)
    assert torch.allclose(features, theirs, atol=1e-5)
    states, lengths, _ = ours(features, frames)
    assert lengths.tolist() == [1500]
    assert torch.allclose(states, original(theirs.transpose(1, 2)).last_hidden_state, atol=1e-4)


@torch.no_grad()
def test_equal_to_espnet_on_speech_of_any_length(model: HybridModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = pytest.importorskip("whisper", reason="openai-whisper is not installed, which ESPnet's encoder needs")
    monkeypatch.setattr(whisper.audio, "N_MELS", 80, raising=False)  # newer releases took it out
    sizes = whisper.model.ModelDimensions(80, 1500, 384, 6, 4, 51864, 448, 384, 6, 4)
    monkeypatch.setattr(whisper, "load_model", lambda *_, **__: whisper.model.Whisper(sizes))
    from espnet2.asr.encoder.whisper_encoder import OpenAIWhisperEncoder

    original = OpenAIWhisperEncoder(whisper_model="tiny.en").eval()
    original.load_state_dict(model.encoder.state_dict())  # the same keys
    for wave in speech():
        expected, frames, _ = original(wave[None], torch.tensor([len(wave)]))
        states, own = model.encode(wave[None], torch.tensor([len(wave)]))
        assert own.tolist() == frames.tolist()
        assert torch.allclose(states, expected, atol=1e-5)


@torch.no_grad()
def test_an_utterance_is_encoded_the_same_in_any_batch(model: HybridModel) -> None:
    waves = speech()
    together, frames = model.encode(pad_sequence(waves, batch_first=True), torch.tensor(LENGTHS))
    for i, wave in enumerate(waves):
        alone, own = model.encode(wave[None], torch.tensor([len(wave)]))
        assert own.item() == frames[i]
        assert torch.allclose(together[i, : own.item()], alone[0], atol=1e-5)


def test_frames_are_counted_as_the_encoder_makes_them(model: HybridModel) -> None:
    count = frame_counter(model)
    assert count is not None
    for n in (*LENGTHS, 16160, 320):
        _, frames = model.encode(torch.randn(1, n), torch.tensor([n]))
        assert count(n / 16000) == frames.item()
    assert model.frame_seconds == pytest.approx(0.02)
    _, frames = model.encode(torch.randn(1, model.min_samples), torch.tensor([model.min_samples]))
    assert frames.item() >= 1


def test_it_trains(model: HybridModel) -> None:
    network = build_model(whisper_config(use_specaug=True, specaug_conf=SPECAUG)).train()
    tokens = torch.tensor([[3, 4, 5]] * len(LENGTHS))
    targets = Targets(tokens, torch.full((len(LENGTHS),), 3))
    losses = network.loss(pad_sequence(speech(), batch_first=True), torch.tensor(LENGTHS), targets)
    losses.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.encoder.parameters())


def test_read_back_from_its_folder(model: HybridModel, tmp_path: Path) -> None:
    write_model(model, Tokenizer(model.token_list, "char"), tmp_path)
    again, _ = read_model(tmp_path)
    assert isinstance(again.encoder, WhisperEncoder)
    assert not any(key.startswith("frontend.") for key in model.state_dict())  # as ESPnet's
    states = [m.encode(speech()[0][None], torch.tensor([LENGTHS[0]]))[0] for m in (model, again)]
    assert torch.equal(*states)


def test_bad_input_is_told(model: HybridModel) -> None:
    with pytest.raises(UserError, match="s long, expected at most 30 s"):
        model.encode(torch.zeros(1, 30 * 16000 + 640), torch.tensor([30 * 16000 + 640]))
    with pytest.raises(UserError, match="another size"):
        take_over_encoder(WhisperEncoder(whisper_model="base"), transformers_encoder())
    with pytest.raises(UserError, match="expected one of"):
        build_model(whisper_config(whisper_model="tinny"))
    with pytest.raises(UserError, match="do_pad_trim"):
        build_model(whisper_config(do_pad_trim=True))
    with pytest.raises(UserError, match="normalize: null"):
        build_model({**whisper_config(), "normalize": "utterance_mvn"})
