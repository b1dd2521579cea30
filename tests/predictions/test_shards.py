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


JUNK = [
    b"not json",
    b"[1, 2]",
    b"null",
    b'"a"',
    b"{}",
    b'{"id": "a"}',
    b'{"id": "a", "failed": "x", "rank": 0, "more": 1}',
    b'{"id": "a", "text": "x"}',
    b'{"id": "a", "text": "x", "timing": {}, "rank": 0}',
    b'{"id": "a", "text": "x", "timing": [], "rank": "zero"}',
    b'{"id": "a", "text": "x", "timing": {"load": "fast"}, "segments": [1]}',
    b"[" * 5000,
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_lines_of_others_are_decoded_again(tmp_path: Path, junk: bytes) -> None:
    """They are passed over, wherever they stand, and dropped."""
    write(tmp_path, predicted("b", "c"))
    shard = tmp_path / "shards" / "rank0.jsonl"
    kept = shard.read_bytes()
    shard.write_bytes(junk + b"\n" + kept + junk + b"\n")
    assert [entry.record.id for entry in read_shards(tmp_path)[0]] == ["b", "c"]
    batches = [[Utterance(n, Path("x.wav"))] for n in "abc"]
    assert unfinished(tmp_path, batches) == {"a"}
    forget(tmp_path, {"a"})
    assert shard.read_bytes() == kept


def test_a_changed_line_is_decoded_again(tmp_path: Path) -> None:
    """A line without what ``predict`` always writes may have lost more."""
    write(tmp_path, predicted("a"))
    shard = tmp_path / "shards" / "rank0.jsonl"
    whole = json.loads(shard.read_bytes())
    for key in whole.keys() - {"ref", "speaker"}:
        write_jsonl(shard, [{k: v for k, v in whole.items() if k != key}])
        assert read_shards(tmp_path) == ([], []), key


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

        def fileno(self) -> int:
            return int(self.out.fileno())

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


def test_the_disk_is_waited_for_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds and at the end; what was appended can be read at once, also after a kill."""
    now, syncs = [100.0], []
    monkeypatch.setattr("parlab.predictions.shards.time.monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", lambda _: syncs.append(now[0]))
    writer = ShardWriter(tmp_path, 0)
    writer.open()
    for i in range(20):
        now[0] += 0.25
        writer.append(*predicted(f"u{i:02}"))
        assert len(read_shards(tmp_path)[0]) == i + 1
    assert syncs == [102.0, 104.0]
    writer.close()
    assert len(syncs) == 3
    writer.close()
    assert len(syncs) == 3


def test_a_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.9}, "parlab": "1"})
    claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.9}, "parlab": "1"})
    with pytest.raises(UserError, match=r"configuration \(decoder\.threshold was 0\.9, is 0\.8\)"):
        claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.8}, "parlab": "1"})
    with pytest.raises(UserError, match='parlab was "1", is "2"'):
        claim_directory(tmp_path / "p", {"decoder": {"name": "par", "threshold": 0.9}, "parlab": "2"})
    for text in ("", "{", "[1]", "[" * 5000):
        (tmp_path / "p" / "identity.json").write_text(text)
        with pytest.raises(UserError, match=r"identity.json cannot be read, .* remove the folder"):
            claim_directory(tmp_path / "p", {"parlab": "1"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds no prediction"):
        claim_directory(tmp_path / "mine", {})
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "identity.json.partial").write_text("{")  # killed during the first write
    claim_directory(tmp_path / "killed", {"a": 1})
    assert json.loads((tmp_path / "killed" / "identity.json").read_text()) == {"a": 1}


def test_what_differs_is_named_with_both_values(tmp_path: Path) -> None:
    """Options of decoders by their names on the command line; those of another decoder are left out."""

    def identity(decoder: str, normalizer: str = "none", **options: Any) -> dict[str, Any]:
        return {
            "decoder": {"name": decoder, "options": options},
            "normalizer": {"name": normalizer, "version": normalizer},
            "limit": options.pop("limit", None),
        }

    claim_directory(tmp_path, identity("par", threshold=0.9, beam_size=10))
    for other, message in (
        (identity("par", threshold=0.8, beam_size=10), "decoder.threshold was 0.9, is 0.8"),
        (
            identity("par", threshold=0.8, beam_size=1),
            "decoder.threshold was 0.9, is 0.8; decoder.beam_size was 10, is 1",
        ),
        (identity("ar", beam_size=5), 'decoder was "par", is "ar"'),
        (identity("par", "basic", threshold=0.9, beam_size=10), 'normalizer was "none", is "basic"'),
        (identity("par", threshold=0.9, beam_size=10, limit=3), "limit was null, is 3"),
    ):
        with pytest.raises(UserError) as caught:
            claim_directory(tmp_path, other)
        assert f"({message})" in str(caught.value)
