"""trn, ctm, stm, Kaldi text and manifests: written, read back, compared; and the numbers that SCTK has for the same files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from parlab.cli import main
from parlab.commands.compare.groups import groups_of
from parlab.commands.export import ExportOptions, export
from parlab.errors import UserError
from parlab.metrics.matched_pairs import mapsswe
from parlab.predictions.formats.manifests import read_manifest
from parlab.predictions.formats.systems import read_references, read_systems
from parlab.predictions.formats.texts import read_kaldi_text, read_trn, trn_id
from parlab.predictions.formats.timed import read_ctm, read_stm
from parlab.predictions.hypotheses import UtteranceRecord, write_hypotheses
from parlab.predictions.prediction import read_prediction
from tests.fake_predictions import write_prediction

SCTK = Path(__file__).parent.parent / "metrics" / "sctk"
GOLDEN = json.loads((SCTK / "golden.json").read_text())
ALL = ["trn", "ctm", "stm", "text", "manifest"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prediction of 12 utterances with times, the last one without a word."""
    folder = write_prediction(tmp_path / "par", "par", 12)
    records = read_prediction(folder).records
    timed = [
        replace(r, token_times=tuple((0.1 * i, 0.1 * i + 0.08) for i in range(len(r.token_text)))) for r in records[:-1]
    ]
    nothing = replace(records[-1], text="", tokens=(), token_text=(), token_confidence=(), segments=())
    write_hypotheses(folder, [*timed, nothing])
    return folder


# ---- SCTK's own numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "b"])
def test_rates_of_speakers_are_those_of_sclite(name: str, tmp_path: Path) -> None:
    """Words, errors by kind and sentences with errors, of each speaker and of all, as sclite prints them."""
    references, _ = read_references(SCTK / "ref.trn")
    (tmp_path / "ref.jsonl").write_text(
        "".join(
            json.dumps({"audio_filepath": r.id, "text": r.ref, "pred_text": "", "speaker": r.id.split("-")[0]}) + "\n"
            for r in references
        )
    )
    [system] = read_systems([SCTK / f"{name}.trn"], tmp_path / "ref.jsonl")
    groups = {g.name: g for g in groups_of([system], "speaker")}
    assert len(groups) == 6
    for row, want in GOLDEN[name].items():
        group = groups["all" if row == "Sum/Avg" else row]
        [counts] = group.wer
        assert (group.utterances, group.words) == (want["sentences"], want["words"])
        got = {
            "sub": counts.substitutions,
            "del": counts.deletions,
            "ins": counts.insertions,
            "err": counts.errors,
            "corr": counts.total - counts.substitutions - counts.deletions,
        }
        for kind, number in got.items():
            assert 100 * number / counts.total == pytest.approx(want[kind], abs=0.0501), (row, kind)
        assert 100 * group.wrong[0] / group.utterances == pytest.approx(want["sentence_err"], abs=0.0501)


def test_matched_pairs_are_those_of_sc_stats() -> None:
    texts = [read_trn(SCTK / f"{name}.trn") for name in ("ref", "b", "a")]
    found = mapsswe(*([own[name] for name in texts[0]] for own in texts))
    want = GOLDEN["mapsswe"]
    assert found.segments == want["segments"]
    assert found.mean_difference == pytest.approx(want["mean"], abs=5e-4)
    assert found.mean_difference / found.z * want["segments"] ** 0.5 == pytest.approx(want["std_dev"], abs=5e-4)
    assert found.z == pytest.approx(want["z"], abs=5e-4)
    assert found.p_normal == pytest.approx(want["p"], abs=5e-4)


# ---- there and back -----------------------------------------------------------------------------


def test_what_is_exported_is_read_back(folder: Path, tmp_path: Path) -> None:
    prediction = read_prediction(folder)
    export(prediction, ExportOptions(str(tmp_path / "out"), ALL))
    files = [tmp_path / "out" / name for name in ("hyp.trn", "hyp.ctm", "text", "manifest.jsonl")]
    for system in read_systems([folder, *files])[1:]:
        assert [(r.id, r.text, r.ref, r.speaker) for r in system.records] == [
            (r.id, r.text, r.ref, r.speaker) for r in prediction.records
        ]
        assert system.word_counts == prediction.word_counts
    seconds = sum(r.seconds or 0.0 for r in prediction.records)
    manifest = read_systems([folder, files[3]])[1]
    assert manifest.speed.rtfx == pytest.approx(sum(r.duration or 0.0 for r in prediction.records) / seconds)
    for name in ("ref.trn", "ref.stm", "ref.text", "manifest.jsonl"):
        references, _ = read_references(tmp_path / "out" / name)
        ids = [trn_id(r) if name == "ref.trn" else r.id for r in prediction.records]
        assert sorted((r.id, r.ref) for r in references) == sorted(zip(ids, prediction.references, strict=True))


def test_texts_are_normalised_or_as_they_are(folder: Path, tmp_path: Path) -> None:
    prediction = read_prediction(folder)
    first = replace(prediction.records[0], text="Hello,  world", token_text=("\u2581Hello,", "\u2581world"))
    first = replace(first, token_times=((0.0, 0.5), (0.5, 1.0)))
    lower = replace(prediction.metrics, normalizer=replace(prediction.metrics.normalizer, name="basic"))
    changed = replace(prediction, records=[first], metrics=lower)
    for normalize, words in ((True, ["hello", "world"]), (False, ["Hello,", "world"])):
        export(changed, ExportOptions(str(tmp_path / str(normalize)), ALL, normalize))
        assert read_kaldi_text(tmp_path / str(normalize) / "text") == {first.id: " ".join(words)}
        assert [w.text for w in read_ctm(tmp_path / str(normalize) / "hyp.ctm")[first.id]] == words


def test_segments_of_one_recording(tmp_path: Path) -> None:
    """Words of a ctm go to the segment in which their middle lies; ignored segments and comments count for nothing."""
    (tmp_path / "ref.stm").write_text(
        ";; a comment\n"
        "talk 1 ann 0.0 2.0 <o,f0> hello there\n"
        "talk 1 bob 2.0 4.0 <o,f0> yes\n"
        "talk 1 ann 4.0 5.0 IGNORE_TIME_SEGMENT_IN_SCORING\n"
        "other 1 eve 0.0 9.5 no label here\n"
    )
    (tmp_path / "hyp.ctm").write_text(
        "talk 1 0.1 0.3 hello 0.9\ntalk 1 1.95 0.3 yes 0.5\ntalk 1 1.0 0.5 here\ntalk 1 4.2 0.1 noise\n"
    )
    [system] = read_systems([tmp_path / "hyp.ctm"], tmp_path / "ref.stm")
    assert [(r.id, r.speaker, r.ref, r.text) for r in system.records] == [
        ("other", "eve", "no label here", ""),
        ("talk-0000000-0000200", "ann", "hello there", "hello here"),
        ("talk-0000200-0000400", "bob", "yes", "yes"),
    ]
    assert len(read_stm(tmp_path / "ref.stm")) == 3


def test_manifests_of_the_leaderboard_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two published systems, without a folder of ours: intervals, paired test, and RTFx of their own times."""
    for name, wrong in (("MODEL_a", 7), ("MODEL_b", 3)):
        rows = [
            {"audio_filepath": f"sample_{i}", "duration": 4.0, "time": 0.5, "text": "one two", "pred_text": "one two" if i % 10 >= wrong else "one"}
            for i in range(40)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    files = [str(tmp_path / f"MODEL_{name}.jsonl") for name in "ab"]
    out = tmp_path / "found.json"
    assert main(["compare", *files, "--json", str(out), "--by", "duration", "--normalizer", "lower"]) == 0
    found = json.loads(out.read_text())
    assert [s["wer"]["rate"] for s in found["systems"]] == [0.35, 0.15]
    assert [s["speed"]["rtfx"] for s in found["systems"]] == [8.0, 8.0]
    assert found["pairs"][0]["by_utterance"]["high"] < 0
    assert [(g["name"], g["utterances"]) for g in found["groups"]] == [("2 to 5 s", 40), ("all", 40)]
    assert "better on 40 utterances" in " ".join(capsys.readouterr().out.split())


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.trn", "no id here\n", "line 1 does not end with an id"),
        ("x.trn", "a (u1)\nb (u1)\n", "line 2 has the id 'u1'"),
        ("x.ctm", "u1 1 0.0 word\n", "line 1 is no word"),
        ("x.ctm", "u1 1 zero 0.1 word\n", "has the time 'zero'"),
        ("x.ctm", "u9 1 0.0 0.1 word\n", "words of 'u9'"),
        ("text", "u1 a\nu1 b\n", "line 2 has the id 'u1'"),
        ("x.jsonl", '{"audio_filepath": "u1"}\n', "line 1 is no utterance of a manifest"),
        ("x.jsonl", "[]\n", "line 1 is no utterance of a manifest"),
        ("x.trn", "a (u1)\n", "lacks 1 of the 2 utterances and has 0 others"),
        ("x.trn", "a (u1)\nb (u2)\nc (u3)\n", "lacks 0 of the 2 utterances and has 1 others"),
        ("x.stm", "u1 1 a 0 1 word\n", "holds references"),
    ],
)
def test_wrong_files(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "ref.trn").write_text("a (u1)\nb (u2)\n")
    with pytest.raises(UserError, match=message):
        read_systems([tmp_path / name], tmp_path / "ref.trn")


def test_what_cannot_be_exported_or_compared(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prediction = read_prediction(folder)
    untimed = replace(prediction, records=[replace(prediction.records[0], token_times=())])
    with pytest.raises(UserError, match="a text without times"):
        export(untimed, ExportOptions(str(tmp_path / "out"), ["ctm"]))
    spaced = UtteranceRecord("a b", "text")
    with pytest.raises(UserError, match="holds a space"):
        export(replace(prediction, records=[spaced]), ExportOptions(str(tmp_path / "out"), ["trn"]))
    assert main(["export", str(folder), "--out", str(tmp_path / "o"), "--formats", "[tnr]"]) == 2
    assert "did you mean 'trn'" in capsys.readouterr().err
    assert main(["export", str(folder)]) == 2
    assert "name one (--out DIR)" in capsys.readouterr().err
    (tmp_path / "x.trn").write_text("a (u1)\n")
    assert main(["compare", str(tmp_path / "x.trn")]) == 2
    assert "has no references" in capsys.readouterr().err
    assert main(["compare", str(folder), str(folder), str(tmp_path / "x.trn")]) == 2
    assert "named twice" in capsys.readouterr().err
    assert main(["compare", str(folder), "--by", "age"]) == 2
    assert "by is 'age', expected speaker or duration" in capsys.readouterr().err


def test_the_export_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0
    written = [Path(line.removeprefix("wrote ")) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in written] == ["hyp.trn", "ref.trn", "text", "ref.text", "manifest.jsonl"]
    assert len(read_manifest(written[-1])) == len(read_trn(written[0])) == 12
