"""Light augmentation of synthetic speech, so that it sounds less like one machine in one room."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator


def pad_with_silence(wave: np.ndarray, rng: Generator, sample_rate: int, most: float = 0.35) -> np.ndarray:
    """Up to ``most`` seconds of silence on either side; recordings are never cut to the sample."""
    before, after = (int(rng.uniform(0.05, most) * sample_rate) for _ in range(2))
    return np.pad(wave, (before, after))


def reverberate(wave: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """A room: exponentially decaying noise, 50 to 350 ms, below the direct sound."""
    decay = rng.uniform(0.05, 0.35)
    length = int(decay * sample_rate)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail *= rng.uniform(0.1, 0.6) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return _filter(wave, np.fft.rfft(tail, _size(len(wave) + length)), len(wave))


def limit_band(wave: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """A microphone: high-pass at 20 to 200 Hz, low-pass at 3.4 to 7.8 kHz, and a spectral tilt of up to 6 dB."""
    size = _size(len(wave))
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    low, high = rng.uniform(20, 200), rng.uniform(3400, 7800)
    gain = 1 / np.sqrt(1 + (low / np.maximum(hertz, 1)) ** 4) / np.sqrt(1 + (hertz / high) ** 8)
    gain *= 10 ** (rng.uniform(-6, 6) * hertz / (sample_rate / 2) / 20)
    return _filter(wave, gain, len(wave))


def add_noise(wave: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """Coloured noise (flat to 1/f) at 10 to 40 dB below the speech."""
    size = _size(len(wave))
    colour = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 50.0) ** -rng.uniform(0.0, 1.0)
    noise = _filter(rng.standard_normal(len(wave)), colour, len(wave))
    ratio = 10 ** (-rng.uniform(10, 40) / 20)
    return wave + noise * ratio * np.std(wave) / max(float(np.std(noise)), 1e-9)


def augment(wave: np.ndarray, rng: Generator, sample_rate: int = 16000) -> np.ndarray:
    """Silence, then each of room, microphone and noise at random, then a random level.

    Args:
        wave: float (samples,).

    Returns:
        float32 (samples,), longer by the silence, its peak between 0.1 and 0.95.
    """
    wave = pad_with_silence(wave.astype(np.float64), rng, sample_rate)
    for effect, share in ((reverberate, 0.5), (limit_band, 0.7), (add_noise, 0.8)):
        if rng.random() < share:
            wave = effect(wave, rng, sample_rate)
    peak = max(float(np.abs(wave).max()), 1e-9)
    return (wave * rng.uniform(0.1, 0.95) / peak).astype(np.float32)


def _size(length: int) -> int:
    return 1 << (length - 1).bit_length()


def _filter(wave: np.ndarray, response: np.ndarray, length: int) -> np.ndarray:
    size = 2 * (len(response) - 1)
    return np.fft.irfft(np.fft.rfft(wave, size) * response, size)[:length]
