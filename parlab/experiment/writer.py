"""Predictions on disk as they are made: one shard per rank, merged at the end, resumed after a fault."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from parlab.errors import UserError
from parlab.experiment.prediction import Predicted
from parlab.experiment.records import hypothesis_record, read_jsonl, write_json


class PredictionWriter(Callback):
    """Append every batch to ``DIR/shards/rankN.jsonl``, flushed to the disk before the next batch starts."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._out: Any = None

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        shards = self.directory / "shards"
        shards.mkdir(parents=True, exist_ok=True)
        path = shards / f"rank{trainer.global_rank}.jsonl"
        self._out = path.open("a", encoding="utf-8")
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._out.write("\n")  # after a kill in the middle of a line

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
        for line in [*lines, *failures]:
            self._out.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._out.flush()
        os.fsync(self._out.fileno())

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
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
    if directory.is_dir() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty and holds no prediction of parlab; name another --out")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(mark, dict(identity))
    except OSError as error:
        raise UserError(f"{directory} cannot be written ({error.strerror}); name another --out") from error


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 100 else text[:97] + "..."


def forget_failures(directory: Path) -> None:
    """Drop failures from the shards, so that a restart tries those files again."""
    for shard in sorted((directory / "shards").glob("rank*.jsonl")):
        kept = [line for line in read_jsonl(shard) if "failed" not in line]
        partial = shard.with_name(shard.name + ".partial")
        partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), encoding="utf-8")
        shutil.move(partial, shard)
