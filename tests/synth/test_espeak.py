"""eSpeak NG in process: deterministic, thread-safe, at the rate that was asked for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from parlab.errors import UserError
from parlab.synth.espeak import VARIANTS, Voice, speak


def test_speaks_at_the_asked_rate() -> None:
    at_16, at_22 = speak("one two three"), speak("one two three", sample_rate=22050)
    assert at_16.dtype == np.float32
    assert at_16.ndim == 1
    assert 0.05 < np.abs(at_16).max() <= 1.0
    assert len(at_16) / 16000 == pytest.approx(len(at_22) / 22050, abs=1e-3)
    assert 0.5 < len(at_16) / 16000 < 3.0


def test_rate_and_pitch_matter() -> None:
    slow, fast = (speak("one two three", Voice(rate=rate)) for rate in (100, 250))
    assert len(slow) > 1.5 * len(fast)

    def lowest_partial(wave: np.ndarray) -> float:  # Hz
        power = np.abs(np.fft.rfft(wave, 16000)[:300])
        return float(np.argmax(power > 0.3 * power.max()))

    assert lowest_partial(speak("ah", Voice(pitch=95))) > 1.2 * lowest_partial(speak("ah", Voice(pitch=5)))


@pytest.mark.parametrize("variant", ["", "f1", "klatt", "Marco", "m3"])
def test_same_speech_whatever_came_before(variant: str) -> None:
    """Flutter, echo and breath noise of eSpeak go on from text to text unless the library is loaded anew."""
    first = speak("rubout six", Voice(variant=variant))
    speak("something else", Voice("en-gb-scotland", "Gene2", rate=300))
    assert np.array_equal(first, speak("rubout six", Voice(variant=variant)))


def test_threads_do_not_mix_their_speech() -> None:
    texts = [f"number {i}" for i in range(12)]
    alone = [speak(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(alone, pool.map(speak, texts), strict=True):
            assert np.array_equal(a, b)


def test_voices_differ() -> None:
    assert len({speak("hello", Voice(variant=v)).tobytes() for v in VARIANTS}) > 0.8 * len(VARIANTS)


@pytest.mark.parametrize(
    ("voice", "named"), [(Voice("en-uss"), "did you mean 'en-us'"), (Voice("en-us", "klat"), "did you mean 'klatt'")]
)
def test_unknown_voice_names_the_nearest(voice: Voice, named: str) -> None:
    with pytest.raises(UserError, match=named):
        speak("hello", voice)


def test_nothing_to_say() -> None:
    with pytest.raises(UserError, match="said nothing"):
        speak("")
