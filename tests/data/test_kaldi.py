"""Kaldi folders: where relative paths lead, segments, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlab.data.sources import read_data
from parlab.errors import UserError


def kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(content, encoding="utf-8")
    return folder


def test_all_files(tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path / "k",
        wav_scp="u2 /x/2.wav\nu1\t/x/with space.wav\n\n",
        text="u1 HELLO  THERE\nu2\n",
        utt2spk="u1 s\nu2 t\n",
        utt2dur="u1 1.25\n",
        lang="u2 de\n",
        text_prev="u2 DAVOR WAR\n",
    )
    two, one = read_data(folder)
    assert (one.id, one.text, one.speaker, one.duration) == ("u1", "HELLO  THERE", "s", 1.25)
    assert one.audio == Path("/x/with space.wav") and one.extra == {}
    assert (two.id, two.text, two.duration) == ("u2", "", None)
    assert two.extra == {"lang": "de", "text_prev": "DAVOR WAR"}


def test_only_wav_scp(tmp_path: Path) -> None:
    (only,) = read_data(kaldi(tmp_path, wav_scp="u1 /x/1.wav\n"))
    assert only.text is None and only.speaker is None


@pytest.mark.parametrize("where", ["corpus/kaldi/dev", "corpus/kaldi", "corpus", "."])
def test_relative_paths_lead_upwards(where: str, tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "corpus" / "kaldi" / "dev", wav_scp="u1 audio/1.wav\n")
    audio = tmp_path / where / "audio" / "1.wav"
    audio.parent.mkdir()
    audio.write_bytes(b"x")
    assert read_data(folder)[0].audio.samefile(audio)


def test_relative_paths_near_before_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kaldi(tmp_path / "corpus" / "k", wav_scp="u1 1.wav\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert read_data(folder)[0].audio == folder / "1.wav"  # nowhere: found missing when it is loaded
    for path in (Path("1.wav"), tmp_path / "corpus" / "1.wav", folder / "1.wav"):
        path.write_bytes(b"x")
        assert read_data(folder)[0].audio.samefile(path)


def test_segments(tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path,
        wav_scp="r /x/r.wav\n",
        segments="u1 r 0.5 2.0\nu2 r 2 -1\n",
        text="u1 A\nu2 B\n",
        utt2spk="u1 s\nu2 s\n",
    )
    one, two = read_data(folder)
    assert (one.id, one.text, one.speaker, one.start, one.duration) == ("u1", "A", "s", 0.5, 1.5)
    assert (two.start, two.duration) == (2.0, None)  # -1: to the end


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_scp": "u1 sph2pipe -f wav a.sph |\n"}, "'u1' is a pipe .*commands are not run"),
        ({"wav_scp": "u1 a.ark:1234\n"}, r"'u1' has the path 'a\.ark:1234'"),
        ({"wav_scp": "u1\n"}, "'u1' has the path ''"),
        ({"wav_scp": "u1 a.wav\nu2 b.wav\nu1 c.wav\n"}, "lines 1 and 3: both have the id 'u1'"),
        ({"wav_scp": "u1 a.wav\n", "text": "u1 A\nu1 B\n"}, "text, lines 1 and 2"),
        ({"wav_scp": "u1 a.wav\n", "utt2dur": "u1 long\n"}, "'u1' has the time 'long'"),
        ({"wav_scp": "u1 a.wav\n", "utt2dur": "u1 1e305\n"}, "'u1' has the time '1e305', expected seconds up to"),
        ({"wav_scp": "u\0 a.wav\n"}, "with the control character"),
        ({"wav_scp": "r a.wav\n", "segments": "u1 r 0\n"}, "is no line 'utterance recording start end'"),
        ({"wav_scp": "r a.wav\n", "segments": "u1 q 0 1\n"}, "of a recording in wav.scp"),
        ({"wav_scp": "r a.wav\n", "segments": "u1 r 0 end\n"}, "'u1' has the time 'end'"),
        ({"wav_scp": "r a.wav\n", "segments": "u1 r 2 1\n"}, r"goes from 2\.0 to 1\.0 s"),
        ({"wav_scp": "r a.wav\n", "segments": "u1 r -2 1\n"}, r"goes from -2\.0 to 1\.0 s"),
        ({"wav_scp": ""}, "there are no utterances"),
        (
            {"wav_scp": "u1 a.wav\n", "text": "u-1 A\n"},
            "none of its 1 ids is one of the 1 utterances, .*'u-1' and 'u1'",
        ),
        ({"wav_scp": "r a.wav\n", "text": "r A\n", "segments": "u1 r 0 1\n"}, "none of its 1 ids .*'r' and 'u1'"),
    ],
)
def test_what_is_refused(files: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_data(kaldi(tmp_path, **files))


def test_a_few_references_or_none(tmp_path: Path) -> None:
    some = read_data(kaldi(tmp_path / "some", wav_scp="u1 a.wav\nu2 b.wav\n", text="u0 A\nu2 B\n"))
    assert [u.text for u in some] == [None, "B"]
    assert [u.text for u in read_data(kaldi(tmp_path / "none", wav_scp="u1 a.wav\n", text=""))] == [None]


def test_commands_are_not_run(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "k", wav_scp=f"u1 touch {tmp_path}/ran |\n")
    with pytest.raises(UserError):
        read_data(folder)
    assert not (tmp_path / "ran").exists()
