"""The files of transcripts: one for each utterance, whatever its id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parlab.predictions.formats.timed import ctm
from parlab.predictions.hypotheses import SegmentRecord, UtteranceRecord
from parlab.predictions.subtitles import file_names, write_subtitles

LONG = "talk-" + "x" * 300


@pytest.mark.parametrize(
    "ids",
    [
        [LONG, LONG + "y", "\u4e2d" * 200],  # too long for a file system
        ["Talk", "talk", "TALK"],  # one file where case says nothing
        ["caf\u00e9", "cafe\u0301"],  # one file where accents are written in one way
        ["a/b", "a%2Fb", "a\\b", "a:b", "a?b"],
        ["", ".", "..", " ", "a.", "a", "a "],
        ["a\nb", "a\0b", "a\u202eb"],
        ["CON", "nul.x", "con"],
    ],
)
def test_every_id_has_a_file_of_its_own(ids: list[str], tmp_path: Path) -> None:
    records = [UtteranceRecord(id=i, text=f"text {n}", duration=1.0) for n, i in enumerate(ids)]
    write_subtitles(tmp_path / "transcripts", records, ["srt", "json"])
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "transcripts").glob("*.json")]
    assert sorted((entry["id"], entry["text"]) for entry in found) == sorted((r.id, r.text) for r in records)
    names = list(file_names(ids).values())
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(len(name.encode()) <= 200 and not set(name) & set('/\\:*?"<>|') for name in names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["transcripts"]


def test_plain_ids_are_their_own_names() -> None:
    assert file_names(["u-1_a.b", "\u4e2d\u6587"]) == {"u-1_a.b": "u-1_a.b", "\u4e2d\u6587": "\u4e2d\u6587"}


def test_a_name_says_where_it_comes_from() -> None:
    """The start of the id stays, and the name does not depend on the other ids."""
    assert file_names([LONG])[LONG] == file_names([LONG, "other"])[LONG]
    assert file_names([LONG])[LONG].startswith("talk-xxx")


def test_words_have_their_confidence_and_their_writer(tmp_path: Path) -> None:
    """In JSON and ctm: the least sure of a word's tokens; none where one of them is not known."""
    record = UtteranceRecord(
        id="a",
        text="HELLO YOU THERE",
        token_text=("\u2581HE", "LLO", "\u2581YOU", "\u2581THERE"),
        token_confidence=(0.9, 0.75, 0.5, None),
        token_times=((0.1, 0.2), (0.2, 0.4), (0.5, 0.9), (2.0, 2.5)),
        segments=(SegmentRecord(2, 3, (8,), (7,), ("\u2581HUE",), ("\u2581YOU",), -1.0, False),),
        duration=3.0,
    )
    write_subtitles(tmp_path, [record], ["json"])
    assert json.loads((tmp_path / "a.json").read_text())["words"] == [
        {"word": "HELLO", "start": 0.1, "end": 0.4, "confidence": 0.75, "filled": False},
        {"word": "YOU", "start": 0.5, "end": 0.9, "confidence": 0.5, "filled": True},
        {"word": "THERE", "start": 2.0, "end": 2.5, "filled": False},
    ]
    assert ctm([record], str.lower).splitlines() == [
        "a 1 0.100 0.300 hello 0.7500",
        "a 1 0.500 0.400 you 0.5000",
        "a 1 2.000 0.500 there",
    ]
