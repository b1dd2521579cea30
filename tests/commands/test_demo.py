"""The demo's parts; the whole of it is `make demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from parlab.cli import main
from parlab.commands.demo import command as demo
from parlab.data.sources import read_data
from parlab.errors import UserError


def test_data_are_made_with_the_real_code(tmp_path: Path) -> None:
    manifests = demo.make_data(tmp_path, 0.01, 0, Console(quiet=True))
    found = {part: read_data(path) for part, path in manifests.items()}
    assert {part: len(utterances) for part, utterances in found.items()} == {"train": 6, "dev": 4, "test": 4}
    assert len({u.text for utterances in found.values() for u in utterances}) == 14  # no sentence is made twice


def test_variants_of_the_parts_are_disjoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parlab.synth import corpus as synth

    given = []
    monkeypatch.setattr(synth, "write_corpus", lambda recipe, *args, **kwargs: given.append(recipe) or tmp_path)
    demo.make_data(tmp_path, 1.0, 3, Console(quiet=True))
    variants = [set(recipe.variants) for recipe in given]
    assert [len(v) for v in variants] == [voices for _, voices, _ in demo._CORPUS.values()]
    assert sum(map(len, variants)) == len(set.union(*variants))
    assert all({s.voice.variant for s in synth.speakers_of(recipe)} == set(recipe.variants) for recipe in given)


def test_an_earlier_demo_is_removed_and_nothing_else(tmp_path: Path) -> None:
    mine = tmp_path / "demo"
    demo.claim(mine)
    (mine / "par").mkdir()
    (mine / "notes.txt").touch()
    demo.claim(mine)
    assert not (mine / "par").exists()
    assert (mine / "notes.txt").exists()
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    with pytest.raises(UserError, match="expected a new or empty one"):
        demo.claim(other)
    assert (other / "data").exists()


def test_no_model_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SHIPPED_MODEL", tmp_path / "none")
    assert main(["demo", "--out", str(tmp_path / "out"), "--model", str(tmp_path / "none")]) == 2
    assert "expected the one that parlab ships" in capsys.readouterr().err


def test_examples_show_what_par_changed(tmp_path: Path) -> None:
    same = {"text": "A", "ref": "A", "segments": [{"draft": [1], "fill": [1]}]}
    changed = {
        "text": "CALL B",
        "ref": "CALL B",
        "segments": [{"draft": [1], "fill": [2], "draft_text": ["▁D"], "fill_text": ["▁B"]}],
    }
    path = tmp_path / "hypotheses.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (same, changed)), encoding="utf-8")
    shown = "\n".join(str(line) for line in demo.examples(path))
    assert shown.count("reference") == 1
    assert "D -> B" in shown


def test_the_whole_demo_on_a_tiny_model(
    tmp_path: Path, network: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("parlab.commands.report", reason="the report is not built yet")
    import torch

    from parlab.model.families.espnet_build import build_model
    from parlab.model.folder import write_model
    from parlab.text.tokenizer import Tokenizer

    torch.manual_seed(0)
    tokens = ["<blank>", "<unk>", "<space>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "<sos/eos>"]
    config = {**network, "normalize": "utterance_mvn", "token_list": tokens, "token_type": "char"}
    model = write_model(build_model(config), Tokenizer(tokens, "char", None), tmp_path / "model")
    out = tmp_path / "demo"
    arguments = ["--out", str(out), "--model", str(model), "--size", "0.07", "--minutes", "0.05"]
    assert main(["demo", *arguments]) == 0
    for name in ("before", "greedy", "ar", "par"):
        metrics = json.loads((out / name / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["utterances"] == 7
        assert metrics["failed"] == []
    assert metrics["par"]["masked_tokens"] > 0
    assert (out / "fit" / "model" / "config.yaml").is_file()
    assert (out / "report.html").stat().st_size > 1000
    shown = capsys.readouterr().out
    for word in ("not fine-tuned", "AR, joint beam", "PAR", "report.html"):
        assert word in shown
