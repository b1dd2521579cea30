"""The Python door: inputs, types, segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import parlab
from parlab.errors import UserError
from parlab.model.folder import write_model
from parlab.recognition.waveforms import mono
from parlab.text.tokenizer import Tokenizer
from tests.models import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = tiny_model(4, sharpness=8.0)
    return write_model(net, Tokenizer(net.token_list, "char"), tmp_path_factory.mktemp("model") / "m")


def tone(seconds: float, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).uniform(0.01, 0.4, int(16000 * seconds))
    return (0.3 * np.sin(np.cumsum(steps))).astype(np.float32)


def test_every_kind_of_array_is_the_same_audio(folder: Path, tmp_path: Path) -> None:
    """What a file, floats, 16-bit integers, stereo and a tensor hold is the same."""
    asr = parlab.load(folder, device="cpu")
    integers = np.round(tone(1.0) * 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", integers, 16000)
    floats = integers.astype(np.float32) / 32768
    pairs = [
        (x, 16000)
        for x in (floats, integers, np.stack([integers] * 2, 1), torch.from_numpy(floats), floats.astype(float))
    ]
    found = asr.transcribe([tmp_path / "a.wav", *pairs], decoder="greedy")
    assert found[0].tokens
    assert all(h.tokens == found[0].tokens for h in found)
    assert all(h.score == pytest.approx(found[0].score, abs=1e-4) for h in found)
    assert asr.transcribe((floats, 16000), decoder="greedy")[0].tokens == found[0].tokens
    assert [h.id for h in found[:2]] == ["a", "1"]
    for samples, _ in pairs:  # the model may normalise a wrong scale away
        np.testing.assert_array_equal(mono(samples), floats)


def test_batch_size_and_order_change_nothing(folder: Path) -> None:
    asr = parlab.load(folder)
    audio = [(tone(0.4 + 0.2 * i, i), 16000) for i in (3, 0, 4, 1)]
    together = asr.transcribe(audio, threshold=0.6, batch_size=4)
    alone = [asr.transcribe([pair], threshold=0.6)[0] for pair in audio]
    assert [h.tokens for h in together] == [h.tokens for h in alone]
    assert [h.text for h in together] == [asr.tokenizer.decode(h.tokens) for h in alone]
    assert asr.transcribe([]) == []


def test_texts_of_segments(folder: Path) -> None:
    asr = parlab.load(folder)
    (found,) = asr.transcribe([(tone(1.2), 16000)], decoder="par", threshold=0.6)
    assert found.segments
    for segment, draft, fill in asr.segment_texts(found):
        assert draft == asr.tokenizer.decode(segment.draft)
        assert fill == asr.tokenizer.decode(segment.fill)


def test_half_precision(folder: Path) -> None:
    audio = [(tone(1.0), 16000)]
    half = parlab.load(folder, device="cpu", dtype="bfloat16")
    assert next(half.model.encoder.parameters()).dtype == torch.bfloat16
    (found,) = half.transcribe(audio, decoder="par", threshold=0.6)
    assert found.score == pytest.approx(parlab.load(folder).transcribe(audio, threshold=0.6)[0].score, rel=0.3)


def test_wrong_input_is_told(folder: Path) -> None:
    asr = parlab.load(folder)
    with pytest.raises(UserError, match="transpose"):
        asr.transcribe((np.zeros((2, 16000)), 16000))
    with pytest.raises(UserError, match="expected \\(samples,\\)"):
        asr.transcribe((np.zeros((2, 2, 2)), 16000))
    with pytest.raises(UserError, match="not finite"):
        asr.transcribe((np.full(16000, np.nan), 16000))
    with pytest.raises(UserError, match="batch_size is 0"):
        asr.transcribe([], batch_size=0)
    with pytest.raises(UserError, match="did you mean 'threshold'"):
        asr.transcribe([(tone(0.5), 16000)], thresold=0.5)
    with pytest.raises(UserError, match="the dtype is 'bf16'"):
        parlab.load(folder, dtype="bf16")
    with pytest.raises(UserError, match="the device is 'gpu'"):
        parlab.load(folder, device="gpu")
