"""Cuts at pauses: bounded pieces, nothing lost, nothing doubled, words left whole."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.data.pauses import cut_at_pauses, cut_points, envelope, read_blocks
from parlab.data.utterance import Utterance
from parlab.errors import UserError

RATE = 16000


def bursts(times: list[tuple[float, float]], seconds: float) -> np.ndarray:
    """Noise at the given times, near silence elsewhere."""
    rng = np.random.default_rng(0)
    wave = 1e-4 * rng.standard_normal(round(seconds * RATE))
    for start, end in times:
        a, b = round(start * RATE), round(end * RATE)
        wave[a:b] += 0.3 * rng.standard_normal(b - a)
    return wave.astype(np.float32)


def test_cuts_lie_in_pauses() -> None:
    speech = [(0.2, 3.6), (4.2, 7.7), (8.3, 11.6), (12.4, 15.0)]
    cuts = cut_points(envelope([(bursts(speech, 15.5), RATE)]), 5.0)
    assert len(cuts) >= 3
    for cut in cuts:
        assert not any(a < cut < b for a, b in speech)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-20, 0), min_size=1, max_size=900), st.floats(0.3, 4.0))
def test_pieces_are_bounded_and_cover_everything(energy: list[float], longest: float) -> None:
    values = np.array(energy, dtype=np.float32)
    cuts = cut_points(values, longest)
    edges = [0.0, *cuts, len(values) * 0.01]
    sizes = np.diff(edges)
    assert (sizes > 0).all()
    assert sizes.max() <= longest + 0.011
    assert bool(cuts) == (len(values) > round(longest / 0.01))


def test_envelope_does_not_depend_on_blocks(tmp_path: Path) -> None:
    wave = bursts([(0.5, 1.0)], 65.0)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    streamed = envelope(read_blocks(tmp_path / "a.wav", 0.0, None))
    np.testing.assert_allclose(streamed, envelope([(wave, RATE)]), atol=0.05)
    assert len(streamed) == 6500


def test_long_recordings_become_utterances(tmp_path: Path) -> None:
    wave = bursts([(i, i + 0.7) for i in range(20)], 20.0)
    soundfile.write(tmp_path / "long.wav", wave, RATE)
    soundfile.write(tmp_path / "short.wav", wave[:RATE], RATE)
    whole = [Utterance("long", tmp_path / "long.wav", "some text"), Utterance("short", tmp_path / "short.wav", "x")]
    found = cut_at_pauses([*whole, Utterance("gone", tmp_path / "gone.wav")], 6.0)
    pieces = [u for u in found if u.id.startswith("long#")]
    assert [u.id for u in found if u not in pieces] == ["short", "gone"]
    assert pieces[0].start == 0.0
    for a, b in pairwise(pieces):
        assert a.start + (a.duration or 0) == pytest.approx(b.start)
    assert pieces[-1].start + (pieces[-1].duration or 0) == pytest.approx(20.0)
    assert all(u.text is None and (u.duration or 0) <= 6.0 for u in pieces)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100])
def test_the_envelope_keeps_time_at_any_rate(rate: int) -> None:
    """A step is no whole number of samples at 22.05 kHz; half an hour later that would be four seconds."""
    seconds = 1800
    wave = np.zeros(seconds * rate + round(0.004 * rate), dtype=np.float32)
    wave[round(1790 * rate) : round(1791 * rate)] = 0.5
    blocks = [(wave[i : i + 30 * rate], rate) for i in range(0, len(wave), 30 * rate)]
    energy = envelope(blocks)
    assert len(energy) == seconds * 100 + 1  # the last one of 4 ms
    loud = np.flatnonzero(energy > -5)
    assert loud[0] in (179000, 178999)
    assert loud[-1] in (179099, 179100)


def test_a_piece_needs_some_length() -> None:
    with pytest.raises(UserError, match="raise piece_seconds"):
        cut_points(np.zeros(1000, dtype=np.float32), 0.01)
