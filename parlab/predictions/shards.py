"""Predictions on disk as they are made: one shard per rank, merged at the end, resumed after a fault."""

from __future__ import annotations

import json
import os
import time
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
_SYNC_SECONDS = 2.0  # between two orders to the disk: what a crash of the machine may lose, and no kill of the process


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
    """Appends to ``DIR/shards/rankN.jsonl``.

    A batch is with the system when ``append`` returns, so that a kill of the process loses none of it. Every two seconds, and at the end,
    the system writes all to the disk, which a crash of the machine needs.
    """

    def __init__(self, directory: Path, rank: int):
        self.path = directory / _FOLDER / f"rank{rank}.jsonl"
        self.rank = rank
        self._out: BinaryIO | None = None
        self._synced = time.monotonic()

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
            if time.monotonic() >= self._synced + _SYNC_SECONDS:
                os.fsync(self._out.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        """Write all to the disk and close the shard, if it is open.

        Raises:
            UserError: the disk is full, or another fault of the file system.
        """
        out, self._out = self._out, None
        if out is not None:
            try:
                with writing(self.path):
                    os.fsync(out.fileno())
            finally:
                out.close()


def _shards(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / _FOLDER).glob("rank*.jsonl") if path.is_file())


def _parsed(shard: Path) -> list[ShardEntry | Failure]:
    """The lines of a shard that are as they were written; others are passed over, and their utterances decoded again."""
    found: list[ShardEntry | Failure] = []
    for line in read_jsonl(shard):
        try:
            if set(line) == {"id", "failed", "rank"}:
                found.append(Failure(str(line["id"]), str(line["failed"])))
            elif json.loads(json.dumps((entry := ShardEntry.from_json(line)).to_json())) == line:
                found.append(entry)
        except (TypeError, ValueError, KeyError, AttributeError):  # no line of ours
            continue
    return found


def read_shards(directory: Path) -> tuple[list[ShardEntry], list[Failure]]:
    """All entries and failures of the shards, each id once, sorted by id."""
    entries: dict[str, ShardEntry] = {}
    failed: dict[str, Failure] = {}
    for shard in _shards(directory):
        for line in _parsed(shard):
            if isinstance(line, Failure):
                failed[line.id] = line
            else:
                entries.setdefault(line.record.id, line)
    return [entries[name] for name in sorted(entries)], [failed[n] for n in sorted(failed) if n not in entries]


def unfinished(directory: Path, batches: Sequence[Sequence[Utterance]]) -> set[str]:
    """Ids that are still to be decoded: all of each batch that misses one, or has one that failed.

    Batches are decoded again as a whole, because the last digits of a score may depend on the batch: so a restart with
    the same batches ends with the same bytes as an unbroken run.
    """
    done = {entry.record.id for entry in read_shards(directory)[0]}
    return {u.id for batch in batches if any(u.id not in done for u in batch) for u in batch}


def forget(directory: Path, ids: set[str]) -> None:
    """Drop from the shards what will be decoded again: failures and lines that cannot be read too."""
    for shard in _shards(directory):
        parsed = _parsed(shard)
        kept = [line for line in parsed if isinstance(line, ShardEntry) and line.record.id not in ids]
        if len(kept) < sum(1 for line in shard.read_bytes().split(b"\n") if line):
            write_jsonl(shard, [line.to_json() for line in kept])


def claim_directory(directory: Path, identity: Entry) -> None:
    """Make ``directory`` this run's own, or find that it already is (a restart).

    Raises:
        UserError: it holds results of another configuration, or does not say of which.
    """
    mark = directory / _IDENTITY
    if mark.is_file():
        different = _differences(_read_identity(mark), json.loads(json.dumps(identity)))
        if different:
            raise UserError(
                f"{directory} holds results of another configuration ({'; '.join(different)}); name another --out, or "
                "remove the folder"
            )
        return
    # A kill during the very first write leaves a partial file, which is ours.
    if directory.is_dir() and any(entry.suffix != ".partial" for entry in directory.iterdir()):
        raise UserError(f"{directory} is not empty and holds no prediction of parlab; name another --out")
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_json(mark, dict(identity))


def _read_identity(mark: Path) -> dict[str, Any]:
    try:
        written = json.loads(mark.read_bytes())
    except (OSError, ValueError, RecursionError):
        written = None
    if not isinstance(written, dict):
        raise UserError(
            f"{mark} cannot be read, expected the JSON object that says of which configuration the results are; name "
            "another --out, or remove the folder"
        )
    return written


def _differences(written: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``decoder.threshold was 0.9, is 0.8`` for every option that differs; options of another decoder are left out."""
    found: list[str] = []
    for key, value in wanted.items():
        before = written.get(key)
        if before == value:
            continue
        name = prefix.removesuffix(".") if key == "name" else f"{prefix}{key}"
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            found += _differences(before, value, prefix if key == "options" else f"{name}.")
        else:
            found.append(f"{name} was {_short(before)}, is {_short(value)}")
        if key == "name":
            break
    return found


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 100 else text[:97] + "..."
