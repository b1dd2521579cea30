"""Predictions on disk as they are made: one shard per rank, merged at the end, resumed after a fault."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from parlab.data.sources import Utterance
from parlab.errors import UserError
from parlab.predictions.records import hypothesis_record, read_jsonl, write_json, write_jsonl, writing
from parlab.recognition.prediction import Predicted


class PredictionWriter(Callback):
    """Append every batch to ``DIR/shards/rankN.jsonl``, flushed to the disk before the next batch starts."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._out: Any = None
        self._path = directory

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        shards = self.directory / "shards"
        self._path = shards / f"rank{trainer.global_rank}.jsonl"
        with writing(self._path):
            shards.mkdir(parents=True, exist_ok=True)
            # Unbuffered: after a failed write nothing is left that closing the file would write again.
            self._out = self._path.open("ab", buffering=0)
            if self._path.stat().st_size and not self._path.read_bytes().endswith(b"\n"):
                self._out.write(b"\n")  # after a kill in the middle of a line

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        predicted: Predicted = outputs
        lines = [
            {**hypothesis_record(u, h, pl_module.tokenizer, d, t), "rank": trainer.global_rank}
            for u, h, d, t in zip(
                predicted.utterances, predicted.hypotheses, predicted.durations, predicted.timing, strict=True
            )
        ]
        failures = [{"id": name, "failed": reason, "rank": trainer.global_rank} for name, reason in predicted.failed]
        rest = memoryview("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [*lines, *failures]).encode())
        with writing(self._path):
            while rest:  # an unbuffered write may take only a part
                rest = rest[self._out.write(rest) :]
            os.fsync(self._out.fileno())

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None


def read_shards(directory: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """All records and failures of the shards, each id once, sorted by id."""
    records: dict[str, dict[str, Any]] = {}
    failed: dict[str, dict[str, str]] = {}
    for shard in sorted((directory / "shards").glob("rank*.jsonl")):
        for line in read_jsonl(shard):
            if "failed" in line:
                failed[line["id"]] = {"id": line["id"], "reason": line["failed"]}
            else:
                records.setdefault(line["id"], line)
    kept = [failed[name] for name in sorted(failed) if name not in records]
    return [records[name] for name in sorted(records)], kept


def unfinished(directory: Path, plan: Sequence[Sequence[Utterance]]) -> set[str]:
    """Ids that are still to be decoded: all of each batch of ``plan`` that misses one, or has one that failed.

    Batches are done anew as a whole, because the last digits of a score may depend on the batch: so a restart with
    the same batches ends with the same bytes as an unbroken run.
    """
    held = {record["id"] for record in read_shards(directory)[0]}
    return {u.id for batch in plan if any(u.id not in held for u in batch) for u in batch}


def forget(directory: Path, ids: set[str]) -> None:
    """Drop from the shards what will be decoded again, failures included."""
    for shard in sorted((directory / "shards").glob("rank*.jsonl")):
        lines = read_jsonl(shard)
        kept = [line for line in lines if "failed" not in line and line["id"] not in ids]
        if len(kept) < len(lines):
            write_jsonl(shard, kept)


def claim_directory(directory: Path, identity: Mapping[str, Any]) -> None:
    """Make ``directory`` this run's own, or find that it already is (a restart).

    Raises:
        UserError: it holds results of another configuration.
    """
    mark = directory / "identity.json"
    if mark.is_file():
        held = json.loads(mark.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(identity))
        different = [key for key in wanted if held.get(key) != wanted[key]]
        if different:
            key = different[0]
            raise UserError(
                f"{directory} holds results of another configuration ({', '.join(different)} differ: {key} was "
                f"{_short(held.get(key))}, is {_short(wanted[key])}); name another --out, or remove the folder"
            )
        return
    # A kill during the very first write leaves a partial file, which is ours.
    if directory.is_dir() and any(entry.suffix != ".partial" for entry in directory.iterdir()):
        raise UserError(f"{directory} is not empty and holds no prediction of parlab; name another --out")
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_json(mark, dict(identity))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 100 else text[:97] + "..."
