"""The demo's parts, and the whole of it on a tiny model; `make demo` runs it on the shipped one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from parlab.cli import main
from parlab.commands.demo import command as demo
from parlab.commands.demo import corpus
from parlab.commands.demo.choice import chosen
from parlab.commands.demo.shown import Change, changes, examples
from parlab.commands.demo.steps import Stopped, run_command
from parlab.data.sources import read_data
from parlab.errors import UserError
from parlab.metrics.wer import ErrorCounts
from parlab.model.families.espnet_build import build_model
from parlab.model.folder import write_model
from parlab.options import resources
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.metrics import Metrics, Named, ParCounts, read_metrics
from parlab.predictions.prediction import Prediction
from parlab.synth.corpus import speakers_of
from parlab.text.tokenizer import Tokenizer


def test_data_are_made_with_the_real_code(tmp_path: Path) -> None:
    manifests = corpus.make_data(tmp_path, 0.01, 0, Console(quiet=True))
    found = {part: read_data(path) for part, path in manifests.items()}
    assert {part: len(utterances) for part, utterances in found.items()} == {"train": 6, "dev": 4, "test": 4}
    assert len({u.text for utterances in found.values() for u in utterances}) == 14  # no sentence is made twice


def test_variants_of_the_parts_are_disjoint() -> None:
    given = list(corpus.recipes(3).values())
    variants = [set(recipe.variants) for recipe in given]
    assert [len(v) for v in variants] == [voices for _, voices, _ in corpus.PARTS.values()]
    assert sum(map(len, variants)) == len(set.union(*variants))
    assert all({s.voice.variant for s in speakers_of(recipe)} == set(recipe.variants) for recipe in given)


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


def test_no_model_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "parlab")
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    assert "expected the one that parlab ships" in capsys.readouterr().err


def test_a_command_that_fails_ends_the_demo_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corpus, "PARTS", dict.fromkeys(("train", "dev", "test"), (4, 2, 2)))
    arguments = ["--out", str(tmp_path / "out"), "--model", str(tmp_path / "nowhere"), "--size", "0.1"]
    assert main(["demo", *arguments]) == 2
    shown = capfd.readouterr()
    assert "no model at" in shown.err and "ended with status 2" in shown.err
    assert "$ python -m parlab predict --model" in shown.out


def test_commands_are_shown_with_short_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(demo.__file__).parents[3]))
    console = Console(record=True, quiet=False, width=200)
    run_command(console, "slurm", "--name", "two words", "--", "fit", "--config", tmp_path / "fit.yaml")
    shown = console.export_text()
    assert "$ python -m parlab slurm --name 'two words' -- fit --config fit.yaml" in shown
    with pytest.raises(Stopped) as stop:
        run_command(console, "predcit")
    assert stop.value.status == 2


CHILD = """
import signal, sys
from rich.console import Console
from parlab.commands.demo import steps
code = "import signal, sys; print('up', flush=True); signal.sigwait([signal.SIGTERM, signal.SIGINT]); sys.exit(7)"
ready = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT]);"
print(steps._wait([sys.executable, "-c", ready + code]), flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command_and_its_status_comes_back(signum: signal.Signals) -> None:
    root = Path(demo.__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(0.3)
        if signum == signal.SIGINT:
            os.killpg(process.pid, signum)  # as the terminal does
        else:
            process.send_signal(signum)
        assert process.stdout.readline() == "7\n"
        assert process.wait(20) == 0


def prediction(*entries: dict[str, Any]) -> Prediction:
    """A prediction of these lines of ``hypotheses.jsonl``."""
    return Prediction(Path("par"), Metrics(Named("par")), [UtteranceRecord.from_json(e) for e in entries], "par")


def test_examples_show_what_par_changed_in_whole_words() -> None:
    same = {"id": "a", "text": "A", "ref": "A", "token_text": ["▁A"]}
    same["segments"] = [{"start": 0, "end": 1, "draft": [1], "fill": [1], "draft_text": ["▁A"], "fill_text": ["▁A"]}]
    changed = {
        "id": "b",
        "text": "CALL ROBERT",
        "ref": "CALL ROBERT",
        "token_text": ["▁CALL", "▁RO", "B", "ERT"],
        "segments": [{"start": 2, "end": 3, "draft": [1], "fill": [2], "draft_text": ["V"], "fill_text": ["B"]}],
    }
    shown = "\n".join(str(line) for line in examples(prediction(same, changed)))
    assert shown.count("reference  ") == 1
    assert "draft      CALL ROVERT" in shown
    assert "ROVERT -> ROBERT   (reference: ROBERT)" in shown
    assert "PAR changed words of 1 of 2 utterances: fewer errors than the draft in 1, more in 0" in shown
    assert examples(prediction(same)) == []


def test_examples_are_those_that_gained_most() -> None:
    def changed(name: str, draft: str, fill: str, ref: str) -> dict[str, Any]:
        """One segment of words over the whole utterance."""
        before, after = ([f"\u2581{word}" for word in text.split()] for text in (draft, fill))
        ids = [list(range(len(words))) for words in (before, after)]
        segment = {
            "start": 0,
            "end": len(before),
            "draft": ids[0],
            "fill": ids[1],
            "draft_text": before,
            "fill_text": after,
        }
        return {"id": name, "text": fill, "ref": ref, "token_text": after, "segments": [segment]}

    made = [
        changed("a", "YES", "NO", "YES"),  # harm
        changed("b", "X B", "Y B", "A B"),  # neither
        changed("c", "X Y C", "A B C", "A B C"),  # two words
        changed("d", "X B", "A B", "A B"),
    ]
    shown = [str(line) for line in examples(prediction(*made), 2)]
    assert "4 of 4 utterances: fewer errors than the draft in 2, more in 1" in shown[0]
    assert [line.strip() for line in shown if "reference  " in line] == ["reference  A B C", "reference  A B"]
    assert [line.strip() for line in shown if "PAR   " in line] == ["PAR        A B C", "PAR        A B"]


def test_changes_name_the_words_of_the_reference_that_stand_there() -> None:
    def found(draft: str, result: str, reference: str) -> list[Change]:
        return changes(draft.split(), result.split(), reference.split())

    assert found("A B C", "A B C", "A X C") == []
    assert found("A B C", "A X C", "A Y C") == [Change("B", "X", "Y")]
    assert found("A C", "A B C", "A B C") == [Change("", "B", "B")]
    assert found("A B C", "A C", "A C") == [Change("B", "", "")]
    assert found("A B C D", "A X Y D", "A X Z D") == [Change("B C", "X Y", "X Z")]
    assert found("B", "X", "W X") == [Change("B", "X", "W X")]
    assert found("B", "", "") == [Change("B", "", "")]


def test_the_demo_chooses_by_wer_then_cer_then_masks() -> None:
    def point(threshold: float, wer: int, cer: int, masked: int) -> Prediction:
        options = {"threshold": threshold, "mask_unit": "word", "beam_size": 10}
        counts = ParCounts(tokens=100, masked_tokens=masked)
        rates = (ErrorCounts(wer, 0, 0, 100), ErrorCounts(cer, 0, 0, 100))
        return Prediction(Path("p"), Metrics(Named("par", options), wer=rates[0], cer=rates[1], par=counts), [], "p")

    points = [point(0.7, 3, 1, 1), point(0.8, 2, 5, 1), point(0.9, 2, 4, 9), point(0.99, 2, 4, 8)]
    assert chosen(points) == {"threshold": 0.99, "mask_unit": "word"}
    assert chosen(points[:3]) == {"threshold": 0.9, "mask_unit": "word"}
    assert chosen(points[:2]) == {"threshold": 0.8, "mask_unit": "word"}


@pytest.mark.slow  # seven processes start
def test_the_whole_demo_on_a_tiny_model(
    tmp_path: Path, network: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
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
    options = metrics["decoder"]["options"]
    points = [read_metrics(point) for point in sorted((out / "choice" / "points").iterdir())]
    assert len(points) == 6 and (options["threshold"], options["mask_unit"]) in {
        (p.decoder.options["threshold"], p.decoder.options["mask_unit"]) for p in points if p.wer
    }
    assert (out / "fit" / "model" / "config.yaml").is_file()
    assert (out / "report.html").stat().st_size > 1000
    shown = capsys.readouterr().out
    for word in ("not fine-tuned", "AR, joint beam", "PAR", "report.html"):
        assert word in shown
