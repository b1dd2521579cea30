"""The Python door: inputs, types, segments."""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import parlab
from parlab.decode import Decoder
from parlab.errors import TranscriptionError, UserError
from parlab.model.folder import write_model
from parlab.recognition.recognizer import Recognizer
from parlab.recognition.waveforms import mono
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure
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
    # A recording that has no near tie: there rounding moves a mask, and with it PAR's score by a step (the first one, on some CPUs).
    audio = [(tone(1.0, seed=1), 16000)]
    half = parlab.load(folder, device="cpu", dtype="bfloat16")
    assert next(half.model.encoder.parameters()).dtype == torch.bfloat16
    for decoder, options in (("par", {"threshold": 0.6}), ("greedy", {})):
        (found,) = half.transcribe(audio, decoder=decoder, **options)
        assert found.score == pytest.approx(
            parlab.load(folder).transcribe(audio, decoder=decoder, **options)[0].score, rel=0.1
        )


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


def test_kinds_of_audio(folder: Path, tmp_path: Path) -> None:
    """Bare arrays, open files, Hugging Face's dictionaries, generators: the same text as the file's."""
    asr = parlab.load(folder, device="cpu")
    integers = np.round(tone(1.0) * 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", integers, 16000)
    floats = integers.astype(np.float32) / 32768
    data = (tmp_path / "a.wav").read_bytes()
    kinds = [
        floats,
        integers,
        integers.astype(np.int32) * 65536,
        torch.from_numpy(floats),
        io.BytesIO(data),
        {"array": floats, "sampling_rate": 16000, "path": "dir/b.wav"},
        {"bytes": data, "path": None},
        {"path": str(tmp_path / "a.wav"), "bytes": None},
    ]
    found = asr.transcribe((kind for kind in kinds), decoder="greedy", batch_size=2)
    (wanted,) = asr.transcribe(tmp_path / "a.wav", decoder="greedy")
    assert wanted.tokens
    assert [h.tokens for h in found] == [wanted.tokens] * len(kinds)
    assert [h.id for h in found] == ["0", "1", "2", "3", "4", "b", "6", "a"]
    (alone,) = asr.transcribe(floats, decoder="greedy")
    assert alone.tokens == wanted.tokens
    (through,) = asr.transcribe_long(io.BytesIO(data), decoder="greedy")
    assert through.tokens == wanted.tokens


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros(16000, dtype=np.uint8), "array of uint8"),
        (np.full(16000, 3000.0), "floats up to 3000"),
        (np.zeros(16000, dtype=bool), "array of bool"),
        ((np.zeros(16000), "16k"), "the rate of the audio is '16k'"),
        ({"array": np.zeros(16000)}, "the rate of the audio is None"),
        ({"text": "a"}, "the audio is a dict"),
        (io.BytesIO(b"no audio"), "cannot be decoded as audio"),
        (3.5, "the audio is a float"),
        (None, "the audio is a NoneType"),
    ],
)
def test_what_is_no_audio(wrong: Any, message: str, folder: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parlab.load(folder).transcribe([wrong])
    assert "\n" not in str(caught.value)


def test_one_bad_recording_loses_no_other(folder: Path, tmp_path: Path) -> None:
    asr = parlab.load(folder)
    audio = [(tone(0.6, 1), 16000), tmp_path / "missing.wav", (tone(0.9, 2), 16000), (np.zeros(3), 16000)]
    alone = [asr.transcribe(item, threshold=0.6)[0].tokens for item in (audio[0], audio[2])]
    with pytest.raises(TranscriptionError, match="2 of 4 recordings failed, the first is 'missing'") as caught:
        asr.transcribe(audio, threshold=0.6, batch_size=1)
    assert [h and h.tokens for h in caught.value.hypotheses] == [alone[0], None, alone[1], None]
    assert [f.id for f in caught.value.failures] == ["missing", "3"]
    found = asr.transcribe(audio, threshold=0.6, errors="return")
    assert [isinstance(f, Failure) for f in found] == [False, True, False, True]
    assert "too short" in found[3].reason
    with pytest.raises(UserError, match="errors is 'skip'"):
        asr.transcribe(audio, errors="skip")


def test_a_long_recording_is_not_padded_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 112 s among seven of 1.6 s: at most two are as wide as it, as ``predict`` does it."""
    batches: list[list[float]] = []

    def recognize(self: Recognizer, decoder: Decoder, waves: Sequence[torch.Tensor]) -> list[Failure]:
        batches.append([round(len(wave) / 16000, 1) for wave in waves])
        return [Failure("", f"{len(wave)} samples") for wave in waves]

    monkeypatch.setattr(Recognizer, "recognize", recognize)
    audio = [tone(seconds) for seconds in (*[1.6] * 3, 112.0, *[1.6] * 4)]
    found = parlab.load(folder, device="cpu").transcribe(audio, decoder="greedy", errors="return")
    assert batches == [[112.0, 1.6], [1.6] * 6]
    assert [f.reason for f in found if isinstance(f, Failure)] == [f"{len(wave)} samples" for wave in audio]


def test_audio_is_read_as_it_is_needed(folder: Path) -> None:
    """Of a long generator only a window is in memory: the first results come before the last recording is made."""
    asr = parlab.load(folder)
    alive: set[int] = set()
    most = 0

    def recordings() -> Iterator[np.ndarray]:
        nonlocal most
        for i in range(40):
            wave = tone(0.4, i)
            alive.add(i)
            weakref.finalize(wave, alive.discard, i)
            most = max(most, len(alive))
            yield wave
            del wave

    assert len(asr.transcribe(recordings(), decoder="greedy", batch_size=1)) == 40
    assert most <= 18
