"""Shards: what a kill, a full disk or a strange character may do to them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.metrics.speed import Timing
from parlab.predictions.files import read_jsonl, write_json, write_jsonl
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.shards import ShardEntry, ShardWriter, claim_directory, forget, read_shards, unfinished
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure, Hypothesis

RECORDS = [{"id": "a", "text": "x\u2028y\u0085z"}, {"id": "b", "text": "tschüß"}]
TOKENIZER = Tokenizer(["<blank>", "<unk>", "<space>", "a", "<sos/eos>"], "char")
Batch = tuple[list[ShardEntry], list[Failure]]


def predicted(*names: str, failed: tuple[str, ...] = ()) -> Batch:
    timing = Timing(0.1, 0.2, 0.1, 0.3, 0.6)
    entries = [
        ShardEntry(
            UtteranceRecord.of(
                Utterance(n, Path(f"{n}.wav"), "ä a"), Hypothesis((3,), -1.0, (0.5,), text="a"), TOKENIZER, 1.0, 0.6
            ),
            timing,
        )
        for n in names
    ]
    return entries, [Failure(n, "broken") for n in failed]


def write(folder: Path, *batches: Batch) -> None:
    writer = ShardWriter(folder, 0)
    writer.open()
    for batch in batches:
        writer.append(*batch)
    writer.close()


def test_line_separators_inside_a_text_are_text(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "r.jsonl", RECORDS)
    assert read_jsonl(tmp_path / "r.jsonl") == RECORDS


def test_a_file_cut_at_any_byte_keeps_its_whole_lines(tmp_path: Path) -> None:
    """Also in the middle of a character of two bytes."""
    path = tmp_path / "r.jsonl"
    write_jsonl(path, RECORDS)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert read_jsonl(path) == RECORDS[: whole[:size].count(b"\n")]


def test_a_shard_cut_at_any_byte_can_be_continued(tmp_path: Path) -> None:
    write(tmp_path / "whole", predicted("a"), predicted("b"))
    wanted = read_shards(tmp_path / "whole")
    whole = (tmp_path / "whole" / "shards" / "rank0.jsonl").read_bytes()
    shard = tmp_path / "cut" / "shards" / "rank0.jsonl"
    shard.parent.mkdir(parents=True)
    for size in range(len(whole) + 1):  # the reference has a character of two bytes
        shard.write_bytes(whole[:size])
        left = [n for n in "ab" if n not in {r["id"] for r in read_jsonl(shard)}]
        write(tmp_path / "cut", *(predicted(n) for n in left))
        assert read_shards(tmp_path / "cut") == wanted


def test_a_batch_that_misses_one_is_done_anew_as_a_whole(tmp_path: Path) -> None:
    plan = [[Utterance(n, Path(n)) for n in names] for names in ("ab", "cd", "ef")]
    assert unfinished(tmp_path, plan) == set("abcdef")
    write(tmp_path, predicted("a", "b"), predicted("c"), predicted("e", failed=("f",)))
    assert unfinished(tmp_path, plan) == set("cdef")
    forget(tmp_path, set("cdef"))
    assert unfinished(tmp_path, plan) == set("cdef")  # another rank finds the same before and after
    records, failed = read_shards(tmp_path)
    assert [entry.record.id for entry in records] == ["a", "b"]
    assert failed == []


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, predicted("a"))
    writer = ShardWriter(tmp_path, 0)
    writer.open()

    class Full:
        """Takes half of what it is given, then nothing: what a disk does that fills up."""

        def __init__(self, out: Any):
            self.out, self.full = out, False

        def write(self, data: Any) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.full = True
            return int(self.out.write(data[: len(data) // 2]))

        def close(self) -> None:
            self.out.close()

    writer._out = Full(writer._out)  # type: ignore[assignment]
    with pytest.raises(UserError, match="No space left on device"):
        writer.append(*predicted("b"))
    writer.close()
    assert [entry.record.id for entry in read_shards(tmp_path)[0]] == ["a"]
    write(tmp_path, predicted("b"))
    assert [entry.record.id for entry in read_shards(tmp_path)[0]] == ["a", "b"]

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left on device"):
        write_json(tmp_path / "metrics.json", {})
    assert not (tmp_path / "metrics.json").exists()


def test_a_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.9}, "parlab": "1"})
    claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.9}, "parlab": "1"})
    with pytest.raises(UserError, match="decoder differ: decoder was"):
        claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.8}, "parlab": "1"})
    with pytest.raises(UserError, match="parlab differ"):
        claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.9}, "parlab": "2"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds no prediction"):
        claim_directory(tmp_path / "mine", {})
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "identity.json.partial").write_text("{")  # killed during the first write
    claim_directory(tmp_path / "killed", {"a": 1})
    assert json.loads((tmp_path / "killed" / "identity.json").read_text()) == {"a": 1}
