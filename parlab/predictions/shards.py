"""Predictions on disk as they are made: one shard per rank, merged at the end, resumed after a fault."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.metrics.speed import Timing
from parlab.predictions.files import Entry, Json, read_jsonl, write_json, write_jsonl, writing
from parlab.predictions.hypotheses import UtteranceRecord, read_fields
from parlab.predictions.summary import Timed
from parlab.types import Failure

_FOLDER = "shards"
_IDENTITY = "identity.json"


@dataclass(frozen=True)
class ShardEntry:
    """A line of a shard: a record with its timing, and the rank that wrote it."""

    record: UtteranceRecord
    timing: Timing
    rank: int = 0

    def to_json(self) -> dict[str, Json]:
        return {**self.record.to_json(), "timing": dict(vars(self.timing)), "rank": self.rank}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> ShardEntry:
        return ShardEntry(
            UtteranceRecord.from_json(entry), read_fields(Timing, entry["timing"]), int(entry.get("rank", 0))
        )

    @property
    def timed(self) -> Timed:
        """What the figures of speed need."""
        return Timed(self.record.duration or 0.0, self.timing, self.rank)


class ShardWriter:
    """Appends to ``DIR/shards/rankN.jsonl``; every batch is on the disk before the next one starts."""

    def __init__(self, directory: Path, rank: int):
        self.path = directory / _FOLDER / f"rank{rank}.jsonl"
        self.rank = rank
        self._out: BinaryIO | None = None

    def open(self) -> None:
        """Open the shard; a line that a kill cut is ended.

        Raises:
            UserError: it cannot be written.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: after a failed write nothing is left that closing the file would write again.
            self._out = self.path.open("ab", buffering=0)  # type: ignore[assignment]
            if self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n"):
                self._out.write(b"\n")  # type: ignore[union-attr]

    def append(self, entries: Sequence[ShardEntry], failed: Sequence[Failure]) -> None:
        """Write a batch.

        Raises:
            UserError: the disk is full, or another fault of the file system.
        """
        assert self._out is not None, "open() comes first"
        lines: list[Entry] = [entry.to_json() for entry in entries]
        lines += [{"id": f.id, "failed": f.reason, "rank": self.rank} for f in failed]
        rest = memoryview("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        with writing(self.path):
            while rest:  # an unbuffered write may take only a part
                rest = rest[self._out.write(rest) :]
            os.fsync(self._out.fileno())

    def close(self) -> None:
        """Close the shard, if it is open."""
        if self._out is not None:
            self._out.close()
            self._out = None


def _shards(directory: Path) -> list[Path]:
    return sorted((directory / _FOLDER).glob("rank*.jsonl"))


def read_shards(directory: Path) -> tuple[list[ShardEntry], list[Failure]]:
    """All entries and failures of the shards, each id once, sorted by id."""
    entries: dict[str, ShardEntry] = {}
    failed: dict[str, Failure] = {}
    for shard in _shards(directory):
        for line in read_jsonl(shard):
            name = str(line["id"])
            if "failed" in line:
                failed[name] = Failure(name, str(line["failed"]))
            else:
                entries.setdefault(name, ShardEntry.from_json(line))
    return [entries[name] for name in sorted(entries)], [failed[n] for n in sorted(failed) if n not in entries]


def unfinished(directory: Path, batches: Sequence[Sequence[Utterance]]) -> set[str]:
    """Ids that are still to be decoded: all of each batch that misses one, or has one that failed.

    Batches are decoded again as a whole, because the last digits of a score may depend on the batch: so a restart with
    the same batches ends with the same bytes as an unbroken run.
    """
    done = {entry.record.id for entry in read_shards(directory)[0]}
    return {u.id for batch in batches if any(u.id not in done for u in batch) for u in batch}


def forget(directory: Path, ids: set[str]) -> None:
    """Drop from the shards what will be decoded again, failures included."""
    for shard in _shards(directory):
        lines = read_jsonl(shard)
        kept = [line for line in lines if "failed" not in line and line["id"] not in ids]
        if len(kept) < len(lines):
            write_jsonl(shard, kept)


def claim_directory(directory: Path, identity: Entry) -> None:
    """Make ``directory`` this run's own, or find that it already is (a restart).

    Raises:
        UserError: it holds results of another configuration.
    """
    mark = directory / _IDENTITY
    if mark.is_file():
        written = json.loads(mark.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(identity))
        different = [key for key in wanted if written.get(key) != wanted[key]]
        if different:
            key = different[0]
            raise UserError(
                f"{directory} holds results of another configuration ({', '.join(different)} differ: {key} was "
                f"{_short(written.get(key))}, is {_short(wanted[key])}); name another --out, or remove the folder"
            )
        return
    # A kill during the very first write leaves a partial file, which is ours.
    if directory.is_dir() and any(entry.suffix != ".partial" for entry in directory.iterdir()):
        raise UserError(f"{directory} is not empty and holds no prediction of parlab; name another --out")
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_json(mark, dict(identity))


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 100 else text[:97] + "..."
