"""Manifests, audio files, folders and lists of them; every mistake is an error that names its line."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile

from parlab.data.sources import read_data, read_manifest
from parlab.errors import UserError


def manifest(path: Path, *entries: Any) -> Path:
    lines = [e if isinstance(e, str) else json.dumps(e, ensure_ascii=False) for e in entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def entry(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"id": name, "audio_filepath": f"{name}.wav", **more}


def test_manifest(tmp_path: Path) -> None:
    first = entry("a", duration=1.5, text="HELLO", speaker="s", offset=0.5, lang="en", text_prev="WELL", note=[1])
    path = manifest(tmp_path / "m.jsonl", first, "", {"audio_filepath": "/abs/b.flac", "duration": 2})
    one, two = read_data(path)
    assert (one.id, one.text, one.duration, one.speaker, one.start) == ("a", "HELLO", 1.5, "s", 0.5)
    assert one.audio == tmp_path / "a.wav"
    assert one.extra == {"lang": "en", "text_prev": "WELL", "note": [1]}
    assert (two.id, two.text, two.duration, two.audio) == ("/abs/b", None, 2.0, Path("/abs/b.flac"))


def test_text_keeps_what_is_no_line_feed(tmp_path: Path) -> None:
    text = "A\u2028B\x85C\u00e9"  # str.splitlines would cut here
    assert read_data(manifest(tmp_path / "m.jsonl", entry(text=text)))[0].text == text


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(entry(n)).encode() for n in "ab"))
    assert [u.id for u in read_data(tmp_path / "m.jsonl")] == ["a", "b"]


def test_packed_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress(json.dumps(entry()).encode()))
    assert read_data(tmp_path / "m.jsonl.gz")[0].audio == tmp_path / "a.wav"


def test_ids_that_are_numbers(tmp_path: Path) -> None:
    path = manifest(tmp_path / "m.jsonl", {"id": 0, "audio_filepath": "x.wav"}, {"id": 1, "audio_filepath": "x.wav"})
    assert [u.id for u in read_data(path)] == ["0", "1"]


GOOD = json.dumps(entry("good"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'id': 1}", "line 2: no valid JSON"),
        ('{"id": "a", "audio_filepath": "a.w', "line 2: no valid JSON"),
        ("[" * 100000, "line 2: no valid JSON"),
        ("[1, 2]", "line 2: the key 'audio_filepath' is missing"),
        ('{"id": "a"}', "line 2: the key 'audio_filepath' is missing"),
        ('{"audio_filepath": ""}', "line 2: 'audio_filepath' is ''"),
        ('{"audio_filepath": ["a.wav"]}', "line 2: 'audio_filepath' is "),
        (json.dumps(entry(duration="long")), "line 2: 'duration' is 'long', expected seconds"),
        (json.dumps(entry(duration=[1])), r"line 2: 'duration' is '\[1\]', expected seconds"),
        (json.dumps(entry(duration=True)), "line 2: 'duration' is 'True', expected seconds"),
        (json.dumps(entry(duration=float("nan"))), "line 2: 'duration' is 'nan'"),
        (json.dumps(entry(duration=-1)), "line 2: 'duration' is '-1'"),
        (json.dumps(entry(duration=float("inf"))), "line 2: 'duration' is 'inf'"),
        (json.dumps(entry(duration=1e305)), r"line 2: 'duration' is '1e\+305'"),
        (json.dumps(entry(duration=10**400)), "line 2: 'duration' is '1000"),
        (GOOD.replace("}", f', "duration": {"9" * 5000}}}'), "line 2: no valid JSON"),
        (json.dumps(entry(offset=-0.1)), "line 2: 'offset' is '-0.1'"),
        (json.dumps(entry(offset=1e305)), r"line 2: 'offset' is '1e\+305'"),
        (r'{"id": "\ud800", "audio_filepath": "a.wav"}', r"line 2: \\ud800 is half of a character"),
        (r'{"id": "a", "audio_filepath": "a.wav", "text": "x \uDC00"}', r"line 2: \\udc00 is half of a character"),
        (r'{"id": "a", "audio_filepath": "a.wav", "note": ["\udfff"]}', r"line 2: \\udfff is half of a character"),
        (json.dumps(entry("a\nb")), r"line 2: 'id' is 'a\\nb', with the control character"),
        (json.dumps(entry("a\0b")), "line 2: 'id' is .* with the control character"),
        (json.dumps({"audio_filepath": "a\0.wav"}), "line 2: 'audio_filepath' is .* with the control character"),
        (json.dumps({**entry(), "id": {"x": 1}}), "line 2: 'id' is .* expected text"),
        (json.dumps(entry(text=["A", "B"])), "line 2: 'text' is .* expected text"),
        (GOOD, "lines 1 and 2: both have the id 'good'"),
    ],
)
def test_bad_lines(line: str, message: str, tmp_path: Path) -> None:
    path = manifest(tmp_path / "m.jsonl", GOOD, line)
    with pytest.raises(UserError, match=message) as error:
        read_data(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_number_counts_empty_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 4: no valid JSON"):
        read_manifest(manifest(tmp_path / "m.jsonl", GOOD, "", "", "x"))


def test_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes('{"audio_filepath": "é.wav"}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"no UTF-8 text \(byte 20\)"):
        read_data(tmp_path / "m.jsonl")


def test_damaged_gzip(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress(json.dumps(entry()).encode())[:20])
    with pytest.raises(UserError, match="cannot be read"):
        read_data(tmp_path / "m.jsonl.gz")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_nothing_in_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(UserError, match="there are no utterances"):
        read_data(tmp_path / "m.jsonl")


def test_audio_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.wav", "sub/a.FLAC", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [(u.id, u.audio) for u in read_data(tmp_path)] == [
        ("b", tmp_path / "b.wav"),
        ("sub/a", tmp_path / "sub" / "a.FLAC"),
    ]
    assert [u.id for u in read_data(tmp_path, limit=1)] == ["b"]
    both = read_data([tmp_path / "sub" / "a.FLAC", str(tmp_path / "b.wav")])
    assert [u.id for u in both] == ["a", "b"]
    assert both[0].text is None and both[0].duration is None


def test_wrong_sources(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"neither wav\.scp nor audio files"):
        read_data(tmp_path)
    with pytest.raises(UserError, match="of no known kind"):
        read_data(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="does not exist"):
        read_data(tmp_path / "absent.jsonl")


def test_one_id_in_two_sources(tmp_path: Path) -> None:
    paths = [manifest(tmp_path / name, entry()) for name in ("m.jsonl", "n.jsonl")]
    with pytest.raises(UserError, match="the id 'a' occurs twice"):
        read_data(paths)


@pytest.mark.parametrize("corpus", ["an4", "librispeech5"])
@pytest.mark.parametrize("split", ["train", "dev"])
def test_real_corpora_twice(corpus: str, split: str, shared_data: Path) -> None:
    by_manifest = read_data(shared_data / corpus / f"{split}.jsonl")
    by_kaldi = {u.id: u for u in read_data(shared_data / corpus / "kaldi" / split)}
    assert len(by_manifest) == len(by_kaldi) > 30
    for u in by_manifest:
        other = by_kaldi[u.id]
        assert (u.text, u.speaker) == (other.text, other.speaker)
        assert u.audio.samefile(other.audio)
    for u in by_manifest[:30]:
        assert soundfile.info(str(u.audio)).duration == pytest.approx(u.duration, abs=0.02)


def test_a_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    path = manifest(tmp_path / "m.jsonl", r'{"id": "\ud83d\ude00", "audio_filepath": "a.wav"}')
    assert read_data(path)[0].id == "\U0001f600"


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    """They would end a run when its results are written."""
    for name, problem in ((b"a\xff.wav", "no UTF-8 text"), (b"a\nb.wav", "control character")):
        folder = tmp_path / problem.replace(" ", "")
        folder.mkdir()
        (folder / os.fsdecode(name)).write_bytes(b"")
        with pytest.raises(UserError, match=problem):
            read_data(folder)
