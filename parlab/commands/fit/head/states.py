"""What a head reads of each utterance, on disk in float16: an epoch then costs the head alone.

A folder has parts, each a flat file of frames (frames, width) and a JSON line per utterance that says where its frames are.
A process writes a part of its own, and reads all: what was computed before it was stopped is kept.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from parlab.data.utterance import Utterance, read_lines
from parlab.errors import UserError
from parlab.predictions.files import writing

_LARGEST = 65504.0  # of float16


@dataclass(frozen=True)
class Span:
    """Where the frames of an utterance are: in which part, from which frame, and how many."""

    part: Path
    start: int
    frames: int


def state_key(utterance: Utterance, speed: float) -> str:
    """The name of an utterance's states at a speed: other audio has another."""
    return json.dumps([utterance.id, str(utterance.audio), utterance.start, utterance.duration, speed])


@dataclass
class StateStore:
    """The states of many utterances below a folder, each (frames, width) float16."""

    folder: Path
    width: int
    spans: dict[str, Span] = field(default_factory=dict)
    _maps: dict[Path, np.ndarray] = field(default_factory=dict)
    _writer: StateWriter | None = None

    def read_index(self) -> StateStore:
        """Find what all parts hold; a line that a kill cut off is passed over."""
        self.spans, self._maps = {}, {}
        for index in sorted(self.folder.glob("*.jsonl")):
            part = index.with_suffix(".f16")
            there = part.stat().st_size // (2 * self.width) if part.is_file() else 0
            for line in read_lines(index):
                try:
                    key, start, frames = json.loads(line)
                    if start + frames <= there:
                        self.spans[str(key)] = Span(part, int(start), int(frames))
                except (ValueError, TypeError):
                    continue
        return self

    def __contains__(self, key: str) -> bool:
        return key in self.spans

    def frames(self, key: str) -> int:
        """Frames of an utterance."""
        return self.spans[key].frames

    def read(self, key: str) -> np.ndarray:
        """The states (frames, width) of an utterance, mapped and not copied."""
        span = self.spans[key]
        if span.part not in self._maps:
            self._maps[span.part] = np.memmap(span.part, np.float16, "r").reshape(-1, self.width)
        return self._maps[span.part][span.start : span.start + span.frames]

    def write(self, key: str, states: Tensor) -> None:
        """Add the states (frames, width) of an utterance; ``read_index`` finds them."""
        if self._writer is None:
            self._writer = StateWriter(self.folder)
        self._writer.add(key, states)

    def close(self) -> None:
        """End this process's part."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class StateWriter:
    """One part of a store."""

    def __init__(self, folder: Path):
        self.path = folder / f"{uuid.uuid4().hex[:12]}.f16"
        self.written = 0
        with writing(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._data: IO[bytes] = self.path.open("wb")
            self._index: IO[str] = self.path.with_suffix(".jsonl").open("w", encoding="utf-8")

    def add(self, key: str, states: Tensor) -> None:
        """Write (frames, width), then the line that says where.

        Raises:
            UserError: the states are no numbers, or the disk is full.
        """
        if not bool(states.isfinite().all()):
            raise UserError(f"the encoder's states of {key} are not finite (NaN or infinite); check its audio")
        values: Any = states.clamp(-_LARGEST, _LARGEST).to(torch.float16).cpu().numpy()
        with writing(self.path):
            self._data.write(values.tobytes())
            self._data.flush()
            self._index.write(json.dumps([key, self.written, len(values)]) + "\n")
            self._index.flush()
        self.written += len(values)

    def close(self) -> None:
        """Bring all of it to the disk."""
        with writing(self.path):
            for file in (self._data, self._index):
                file.flush()
                os.fsync(file.fileno())
                file.close()
