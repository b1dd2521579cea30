"""Audio of every kind that a user may hand over, good and bad."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from parlab.data.audio import audio_seconds, check_waveform, load_audio
from parlab.errors import UserError

RATE = 16000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * math.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def flac_without_length(path: Path) -> None:
    """As ``ffmpeg ... | cat > x.flac`` writes it: STREAMINFO's count of samples (36 bits from byte 21 on) is 0."""
    soundfile.write(path, tone(), RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)


def test_samples_are_those_of_the_file(tmp_path: Path) -> None:
    wanted = tone()
    soundfile.write(tmp_path / "a.wav", wanted, RATE, subtype="FLOAT")
    got = load_audio(tmp_path / "a.wav", RATE)
    assert got.dtype == torch.float32 and torch.equal(got, torch.from_numpy(wanted))


@pytest.mark.parametrize(("name", "error"), [("a.flac", 1e-4), ("a.ogg", 0.05), ("a.opus", 0.05)])
def test_formats(name: str, error: float, tmp_path: Path) -> None:
    options = {"format": "OGG", "subtype": "OPUS"} if name.endswith("opus") else {}
    soundfile.write(tmp_path / name, tone(), RATE, **options)
    got = load_audio(tmp_path / name, RATE).numpy()
    assert len(got) == len(tone())
    assert np.abs(got - tone())[1000:-1000].max() < error  # lossy codecs ring at the edges


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_the_sound(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate), rate, subtype="FLOAT")
    got = load_audio(tmp_path / "a.wav", RATE).numpy()
    assert abs(len(got) - RATE) <= 1
    middle = slice(1000, 15000)
    assert np.abs(got[middle] - tone(1.0)[middle]).max() < 0.01


def test_resampling_removes_what_would_alias(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, 48000, hertz=11000.0), 48000)  # above 8 kHz, the limit at 16 kHz
    assert load_audio(tmp_path / "a.wav", RATE)[1000:15000].abs().max() < 0.01


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(), np.zeros_like(tone())], 1), RATE, subtype="FLOAT")
    assert torch.allclose(load_audio(tmp_path / "a.wav", RATE), torch.from_numpy(tone()) / 2)


def test_a_part(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0), RATE, subtype="FLOAT")
    whole = load_audio(tmp_path / "a.wav", RATE)
    assert torch.equal(load_audio(tmp_path / "a.wav", RATE, 0.25, 0.5), whole[4000:12000])
    assert torch.equal(load_audio(tmp_path / "a.wav", RATE, start=0.25), whole[4000:])
    assert torch.equal(load_audio(tmp_path / "a.wav", RATE, 0.75, 5.0), whole[12000:])


def test_silence_is_fine(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), RATE)
    assert torch.equal(load_audio(tmp_path / "a.wav", RATE), torch.zeros(8000))


def write_bad(kind: str, folder: Path) -> Path:
    path = folder / "bad.wav"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no audio at all")
    elif kind == "raw":
        path = folder / "bad.raw"
        path.write_bytes(bytes(1000))
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind == "one sample":
        soundfile.write(path, np.zeros(1), RATE)
    elif kind in ("nan", "inf"):
        soundfile.write(path, np.full(8000, float(kind), dtype=np.float32), RATE, subtype="FLOAT")
    elif kind == "no length":
        path = folder / "bad.flac"
        flac_without_length(path)
    elif kind == "folder":
        path.mkdir()
    elif kind.startswith("cut"):
        path = folder / f"bad.{kind.split()[1]}"
        soundfile.write(path, tone(), RATE)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "is missing"),
        ("folder", "is missing"),
        ("empty", r"is empty \(0 bytes\)"),
        ("text", "cannot be decoded"),
        ("raw", "cannot be decoded"),
        ("no samples", "is too short: it has 0 samples"),
        ("one sample", "is too short: it has 1 samples at 16000 Hz, expected at least 2"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("no length", "does not say how long it is"),
        ("cut wav", "is truncated: 8022 bytes are missing"),
        ("cut flac", "cannot be decoded"),
        ("cut ogg", "too short|cannot be decoded|truncated"),
    ],
)
def test_bad_audio(kind: str, message: str, tmp_path: Path) -> None:
    path = write_bad(kind, tmp_path)
    with pytest.raises(UserError, match=message) as error:
        load_audio(path, RATE)
    message = str(error.value)
    assert "\n" not in message and ";" in message and str(path) in message


def test_a_wav_written_to_a_pipe_is_fine(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4  # its lengths are not known when the header is written
    (tmp_path / "a.wav").write_bytes(data)
    assert len(load_audio(tmp_path / "a.wav", RATE)) == len(tone())


def test_limits(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(3.0, 8000), 8000)
    with pytest.raises(UserError, match="is 3 s long, expected at most 2 s"):
        load_audio(tmp_path / "a.wav", RATE, max_seconds=2.0)
    assert len(load_audio(tmp_path / "a.wav", RATE, duration=2.0, max_seconds=2.0)) == 2 * RATE
    with pytest.raises(UserError, match=r"expected at least 64000 \(4 s\)"):
        load_audio(tmp_path / "a.wav", RATE, min_samples=64000)


def test_too_long_is_told_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "hour.flac", np.zeros(3600 * 8000, dtype=np.int16), 8000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("an hour was read"))
    with pytest.raises(UserError, match="is 3600 s long, expected at most 120 s"):
        load_audio(tmp_path / "hour.flac", RATE, max_seconds=120.0)


def test_beyond_the_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    with pytest.raises(UserError, match="has 0 samples"):
        load_audio(tmp_path / "a.wav", RATE, start=2.0, duration=1.0)


def test_length_from_the_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(0.75, 8000), 8000)
    assert audio_seconds(tmp_path / "a.flac") == 0.75
    flac_without_length(tmp_path / "b.flac")
    with pytest.raises(UserError, match="does not say how long"):
        audio_seconds(tmp_path / "b.flac")
    with pytest.raises(UserError, match="is missing"):
        audio_seconds(tmp_path / "c.flac")
    (tmp_path / "d.wav").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        audio_seconds(tmp_path / "d.wav")


def test_arrays_are_checked_too() -> None:
    assert check_waveform(np.zeros(4, dtype=np.float64), "an array", RATE).dtype == torch.float32
    with pytest.raises(UserError, match="an array is too short"):
        check_waveform(np.zeros(1), "an array", RATE)


def test_real_speech(shared_data: Path) -> None:
    flac = load_audio(shared_data / "an4" / "audio" / "fash-an251-b.flac", RATE)
    assert 0.01 < flac.abs().max() <= 1.0
    opus = sorted((shared_data / "librispeech5" / "audio").rglob("*.o*"))[0]
    assert load_audio(opus, RATE).std() > 1e-3
