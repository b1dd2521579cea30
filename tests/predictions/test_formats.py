"""``docs/formats.md`` says what is written: every key, its type, and whether it is always there; what is written is read back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parlab.cli import main
from parlab.data.utterance import Utterance
from parlab.decode import AR, PAR, Greedy
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.hypotheses import (
    Alternative,
    Piece,
    SegmentRecord,
    UtteranceRecord,
    read_hypotheses,
    write_hypotheses,
)
from parlab.predictions.metrics import (
    DeviceShare,
    Hashes,
    Metrics,
    Named,
    NormalizerVersion,
    ParCounts,
    Speed,
    read_metrics,
    write_metrics,
)
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure, Hypothesis, Segment
from tests.helpers import predict

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
FREE = {"counts", "decoder.options", "versions", "config", "options"}  # objects whose keys are names of something else
NAMES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "list",
    dict: "object",
    type(None): "null",
}


def documented(file: str) -> dict[str, tuple[str, bool]]:
    """Type and "always" of each key in the table of a file."""
    section = PAGE.read_text(encoding="utf-8").split(f"## `{file}`", 1)[1].split("\n## ", 1)[0]
    keys: dict[str, tuple[str, bool]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            for key in re.findall(r"`([\w.]+)`", cells[0]):
                keys[key] = (cells[1], cells[3] == "yes")
    assert keys
    return keys


def written(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of an object, those of the objects inside with dots."""
    if isinstance(value, dict) and key not in FREE:
        for name, inner in value.items():
            yield from ((f"{key}.{name}" if key else name, inner), *written(inner, f"{key}.{name}" if key else name))
    elif isinstance(value, list):
        for inner in value:
            yield from written(inner, key)


def fits(value: Any, kind: str) -> bool:
    """Whether a value is of a documented type."""
    own = NAMES[type(value)]
    kinds = re.split(r" or |, ", kind)
    if own == "list":
        return any(
            kind == "list" or kind.startswith("list of ") and all(fits(v, kind.removeprefix("list of ")) for v in value)
            for kind in kinds
        )
    return own in kinds or (own == "integer" and "number" in kinds)


def check(content: dict[str, Any], file: str) -> set[str]:
    """Hold a file's content against its table; returns the keys that were seen."""
    table = documented(file)
    seen = set()
    for key, value in written(content):
        assert key in table, f"{file} has the key {key}, which the page does not name"
        assert fits(value, table[key][0]), f"{key} is {value!r}, the page says {table[key][0]}"
        seen.add(key)
    for key, (_, always) in table.items():
        parent = key.rpartition(".")[0]
        if always and (not parent or (parent in seen and empty(content, parent) is False)):
            assert key in seen, f"the page says that {file} always has {key}"
    return seen


def empty(content: Any, key: str) -> bool:
    """Whether a list, or a list inside, holds nothing: then none of its keys are there."""
    values = [value for name, value in written(content) if name == key]
    return all(value == [] for value in values)


def test_the_page_and_the_files(model: Path, data: Path, tmp_path: Path) -> None:
    """Over predictions of all kinds every key of the page is seen, but for what only S2T models and GPUs write."""
    predict(model, data, PAR(threshold=0.999), tmp_path / "par")
    predict(model, data, AR(nbest=2, beam_size=2), tmp_path / "nbest", limit=2)
    predict(model, data, Greedy(), tmp_path / "long", long_audio=True, piece_seconds=0.5)
    sweep = ["sweep", "--model", str(model), "--data", str(data), "--out", str(tmp_path / "s"), "--wandb", "off"]
    more = ["--decoder.threshold", "0.999", "--limit", "3", "--timed_utterances", "1", "--repeats", "1"]
    assert main([*sweep, *more]) == 0
    missing = data.parent / "missing.jsonl"
    missing.write_text(data.read_text() + json.dumps({"id": "gone", "audio_filepath": "gone.wav"}) + "\n")
    predict(model, missing, Greedy(), tmp_path / "failed")
    predict(model, data, Greedy(), tmp_path / "latency", limit=2, latency=True)
    folders = [tmp_path / n for n in ("par", "nbest", "long", "failed", "latency")] + list(
        (tmp_path / "s" / "points").iterdir()
    )
    seen: dict[str, set[str]] = {"hypotheses.jsonl": set(), "metrics.json": set()}
    for folder in folders:
        seen["metrics.json"] |= check(json.loads((folder / "metrics.json").read_text()), "metrics.json")
        for line in (folder / "hypotheses.jsonl").read_text().splitlines():
            seen["hypotheses.jsonl"] |= check(json.loads(line), "hypotheses.jsonl")
    assert set(documented("metrics.json")) - seen["metrics.json"] == {"speed.joules_per_audio_hour"}
    assert set(documented("hypotheses.jsonl")) - seen["hypotheses.jsonl"] == {"times"}


RECORDS = [
    UtteranceRecord(
        id="a",
        text="ä a",
        ref="",
        speaker="s",
        tokens=(1, 2),
        token_text=("ä", "a"),
        token_confidence=(0.5, 1.0),
        token_frames=((0, 1), (3, 3)),
        token_times=((0.0, 0.08), (0.12, 0.16)),
        segments=(SegmentRecord(0, 1, (4,), (1,), ("b",), ("ä",), -1.5, True),),
        score=None,
        duration=1.5,
        audio="a.wav",
        counts={"tokens": 2},
        times=((0.0, 1.0, "ä a"),),
        nbest=(Alternative("ä a", -1.0), Alternative("a", None)),
        pieces=(Piece("a#0000", 0.0, 1.5, "ä a"),),
        seconds=0.25,
    ),
    UtteranceRecord(id="b", text=""),
]
METRICS = Metrics(
    decoder=Named("par", {"threshold": 0.9, "lm": None}),
    model="m",
    data=["d", "e"],
    wer=ErrorCounts(1, 2, 3, 10),
    cer=ErrorCounts(0, 0, 1, 40),
    speed=Speed(8, "32-true", "cpu", 1, 100, 10.0, 2.0, 0.1, 10.0, devices=(DeviceShare(0, 2, 10.0, 1.0),), repeats=3),
    par=ParCounts(1, 20, 3, 2, 1.5, 2, 4, 1, 1),
    counts={"tokens": 20},
    utterances=2,
    scored=1,
    failed=(Failure("c", "broken"),),
    versions={"parlab": "0.1.0", "cuda": None},
    normalizer=NormalizerVersion("lower", "1"),
    hashes=Hashes("1", "2"),
    config={"limit": None},
    options={"model": "m"},
    search_memory_bytes=5,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_hypotheses(tmp_path, RECORDS)
    assert read_hypotheses(tmp_path) == RECORDS
    write_metrics(tmp_path, METRICS)
    assert read_metrics(tmp_path) == METRICS
    bare = Metrics(decoder=Named("greedy"))
    write_metrics(tmp_path, bare)
    assert read_metrics(tmp_path) == bare


def test_files_of_the_contract_alone_are_read(tmp_path: Path) -> None:
    """Another program may write fewer keys: the words of the text stand for the tokens."""
    (tmp_path / "hypotheses.jsonl").write_text('{"id": "b", "text": "a b"}\n{"id": "a", "text": "c", "tokens": [1]}\n')
    first, second = read_hypotheses(tmp_path)
    assert (first.id, first.tokens, second.token_text, second.token_confidence) == ("a", (1,), ("a", "b"), (None, None))
    (tmp_path / "metrics.json").write_text('{"decoder": {"name": "par"}, "speed": {"rtfx": 3.0}}')
    metrics = read_metrics(tmp_path)
    assert metrics.speed is not None
    assert (metrics.speed.rtfx, metrics.speed.rtf, metrics.par.masked_share) == (3.0, None, 0.0)


@pytest.mark.parametrize("value", [float("-inf"), float("nan")])
def test_scores_that_json_cannot_hold(value: float) -> None:
    tokenizer = Tokenizer(["<blank>", "<unk>", "<space>", "a", "<sos/eos>"], "char")
    hypothesis = Hypothesis((3,), value, (0.123456,), segments=(Segment(0, 1, (3,), (3,), value),))
    record = UtteranceRecord.of(Utterance("a", Path("a.wav")), hypothesis, tokenizer, 1.0)
    assert record.score is None
    assert record.segments[0].score is None
    assert record.token_confidence == (0.1235,)


@pytest.mark.parametrize(
    "line",
    [
        '{"id": 7, "text": "A B", "ref": "A"}',  # an id that is a number
        '{"id": "u", "text": "A B"}',  # no tokens: the words stand for them
        '{"id": "u", "text": "A B", "token_text": ["A", "B"], "token_confidence": [0.5]}',  # one confidence is missing
        '{"id": "u", "text": "A", "token_text": ["A"], "token_confidence": [null], "score": NaN, "more": [{}]}',
        '{"id": "u", "text": "\\ud800", "token_text": ["A"], "token_confidence": [1], "duration": 2, "speaker": null}',
        '{"id": "u", "text": "A", "token_text": ["A"], "token_confidence": [1.0], "counts": {"tokens": 3, "x": 0.5}, '
        '"segments": [{"start": 0, "end": 1, "draft": [4], "fill": [5], "more": 1}], "token_times": [[0.0, 0.5]]}',
    ],
)
def test_the_fast_reader_reads_what_the_lenient_one_does(tmp_path: Path, line: str) -> None:
    (tmp_path / "hypotheses.jsonl").write_text(line + "\n", encoding="utf-8")
    [found] = read_hypotheses(tmp_path)
    assert repr(found) == repr(UtteranceRecord.from_json(json.loads(line)))
