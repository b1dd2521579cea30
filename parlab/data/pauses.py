"""Long recordings cut at pauses, so that pieces of a bounded length are decoded side by side.

Every sample belongs to exactly one piece, so nothing can be lost or doubled at a seam; a cut lies in the middle of the
quietest stretch near the end of the longest piece allowed, so that words are cut only where nobody ever pauses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parlab.data.audio import audio_seconds
from parlab.data.utterance import Utterance
from parlab.errors import UserError

STEP = 0.01  # seconds per value of an envelope
PAUSE = 0.3  # seconds over which quietness is judged
PART = "part_of"  # key of ``extra`` that names the recording of a piece
_LEAST = 0.1  # seconds of the longest piece
_SHORTEST = 0.5  # seconds that the last piece has at least
_BLOCK_SECONDS = 30.0  # read at a time: an hour is never in memory as a whole


def read_blocks(path: str | Path, start: float, duration: float | None) -> Iterator[tuple[NDArray[np.float32], int]]:
    """A part of a file as blocks of mono samples, each with the rate.

    Raises:
        UserError: the file cannot be read.
    """
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as sound:
            rate = sound.samplerate
            sound.seek(min(round(start * rate), sound.frames))
            left = sound.frames - sound.tell() if duration is None else round(duration * rate)
            while left > 0:
                block = sound.read(min(left, round(_BLOCK_SECONDS * rate)), dtype="float32", always_2d=True)
                if len(block) == 0:
                    return
                left -= len(block)
                yield block.mean(axis=1), rate
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise UserError(
            f"the audio file {path} cannot be decoded ({str(error)[:120]}); copy or convert it again"
        ) from error


def envelope(blocks: Iterable[tuple[NDArray[np.float32], int]]) -> NDArray[np.float32]:
    """Log energy (n,) in steps of 10 ms, the last of which may be shorter."""
    values: list[NDArray[np.float32]] = []
    rest, done = np.zeros(0, dtype=np.float32), 0
    for block, rate in blocks:
        samples = np.concatenate([rest, block])
        # At 22.05 kHz a step is no whole number of samples; the edges are rounded, so that they do not drift.
        edge = round(done * STEP * rate)
        count = int(len(samples) / (STEP * rate)) + 1
        edges = np.round(np.arange(done, done + count + 1) * (STEP * rate)).astype(np.int64) - edge
        edges = edges[edges <= len(samples)]
        values.append(_log_energy(samples[: edges[-1]], edges[:-1]))
        done += len(edges) - 1
        rest = samples[edges[-1] :]
    if len(rest):
        values.append(_log_energy(rest, np.zeros(1, dtype=np.int64)))
    return np.concatenate(values) if values else np.zeros(0, dtype=np.float32)


def _log_energy(samples: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of the stretches that begin at ``starts`` and together are ``samples``."""
    if len(starts) == 0:
        return np.zeros(0, dtype=np.float32)
    sums = np.add.reduceat(np.square(samples), starts)
    return np.log(sums / np.diff(starts, append=len(samples)) + 1e-10).astype(np.float32)


def cut_points(energy: NDArray[np.float32], longest: float) -> list[float]:
    """Seconds at which to cut, so that no piece is longer than ``longest`` seconds; none where one piece is enough.

    Each cut lies where the second half of the longest piece is quietest.

    Raises:
        UserError: ``longest`` is too short for a piece.
    """
    _check(longest)
    most = round(longest / STEP)
    width = min(round(PAUSE / STEP), max(most // 4, 1))
    smooth = np.convolve(energy, np.full(width, 1 / width, dtype=np.float32), mode="same")
    shortest = min(round(_SHORTEST / STEP), most // 4)
    cuts: list[float] = []
    start = 0
    while len(energy) - start > most:
        first = start + most // 2
        last = max(min(start + most, len(energy) - shortest), first + 1)  # what is left must be worth decoding
        # The latest of equals: digital silence is the same everywhere, and long pieces are decoded best.
        start = last - 1 - int(np.argmin(smooth[first:last][::-1]))
        cuts.append(start * STEP)
    return cuts


def _check(longest: float) -> None:
    if longest < _LEAST:
        raise UserError(f"a piece may have {longest} seconds, expected at least {_LEAST}; raise piece_seconds")


def cut_at_pauses(utterances: Sequence[Utterance], longest: float) -> list[Utterance]:
    """Replace each recording longer than ``longest`` seconds by its pieces, named ``ID#0000``, ``ID#0001``, ...

    A recording that cannot be read stays whole, to fail by itself when it is loaded.

    Raises:
        UserError: ``longest`` is too short for a piece.
    """
    _check(longest)
    out: list[Utterance] = []
    for u in utterances:
        try:
            duration = u.duration if u.duration is not None else max(audio_seconds(u.audio) - u.start, 0.0)
            cuts = (
                cut_points(envelope(read_blocks(u.audio, u.start, u.duration)), longest) if duration > longest else []
            )
        except UserError:
            out.append(u)
            continue
        edges = [0.0, *cuts, duration]
        if not cuts:
            out.append(u)
            continue
        for n, (begin, end) in enumerate(pairwise(edges)):
            extra = {**u.extra, PART: u.id}
            piece = replace(
                u, id=f"{u.id}#{n:04d}", text=None, start=u.start + begin, duration=end - begin, extra=extra
            )
            out.append(piece)
    return out
