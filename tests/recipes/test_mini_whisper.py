"""The hybrid of ``recipes/mini_librispeech/fit.yaml`` as it starts: Whisper's own encoder and decoder, with another vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.commands.fit.construct import NetworkOptions, make_network
from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import Greedy
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel
from parlab.text.targets import Targets
from tests.commands.test_construct import ONE_RANK
from tests.models import encoded

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "mini_librispeech" / "fit.yaml"


class Texts:
    """Training texts alone."""

    broken = "raise"

    def __init__(self, manifest: Path):
        self.texts = [utterance.text or "" for utterance in read_data(manifest)]

    def training_texts(self) -> list[str]:
        return self.texts


@pytest.fixture(scope="module")
def start(whisper_folder: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["model"]
    options = NetworkOptions(str(whisper_folder), model["network"], model["tokenizer"])
    data: Any = Texts(shared_data / "librispeech5" / "train.jsonl")
    network, tokenizer = make_network(options, data, tmp_path_factory.mktemp("tokenizer"), ONE_RANK)
    return network.eval(), tokenizer


@torch.no_grad()
def test_it_starts_from_what_whisper_knows(start: Any, whisper_folder: Path, shared_data: Path) -> None:
    model, tokenizer = start
    whisper, _ = read_model(whisper_folder)
    assert isinstance(model, HybridModel)
    utterances = read_data(shared_data / "librispeech5" / "dev.jsonl", 4)
    right = total = 0.0
    for utterance in utterances:
        wave = load_audio(utterance.audio, 16000)[None]
        states, frames = model.encode(wave, torch.tensor([wave.size(1)]))
        assert Greedy().decode(model, encoded(model, states, frames))[0].tokens == ()  # blanks alone, as taken over
        text = torch.tensor([tokenizer.encode(utterance.text or "")])
        losses = model.loss(wave, torch.tensor([wave.size(1)]), Targets(text, torch.tensor([text.size(1)])))
        assert losses.accuracy is not None and losses.ctc is not None
        right += float(losses.accuracy) * (text.size(1) + 1)
        total += text.size(1) + 1
        assert float(losses.ctc) < 12.0 * text.size(1)  # a random head: more than 50 for each token
    assert right / total > 0.3  # of 300 tokens; a decoder that has learnt nothing: below 0.05
    whole = torch.nn.functional.pad(wave, (0, 480000 - wave.size(1)))
    states = model.encode(whole, torch.tensor([480000]))[0]
    torch.testing.assert_close(states, whisper.encode(wave, torch.tensor([wave.size(1)]))[0], atol=1e-3, rtol=1e-3)
