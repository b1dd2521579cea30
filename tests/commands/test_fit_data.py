"""Data of a training: checked before anything is written, broken files left out, impossible targets dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.cli import main
from parlab.commands.fit.batches import frame_counter
from parlab.commands.fit.command import fit
from parlab.commands.fit.datamodule import ASRData
from parlab.data.examples import TrainingSet
from parlab.errors import UserError
from tests.commands.test_fit import rows
from tests.conftest import write_corpus
from tests.models import tiny_model


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A training manifest whose files a test may break."""
    return write_corpus(tmp_path / "corpus", 24, 5)


@pytest.fixture
def options(fit_config: Path, corpus: Path) -> list[str]:
    return ["--config", str(fit_config), "--data.train", str(corpus), "--trainer.max_epochs", "1"]


def garble(corpus: Path, *numbers: int) -> None:
    for number in numbers:
        (corpus.parent / f"{number}.wav").write_bytes(b"no audio at all" * 100)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--data.train", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--data.train", "{CORPUS: 1.0, nowhere.jsonl: 0.3}"], "nowhere.jsonl does not exist"),
        (["--data.dev", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--data.train", "MISSING"], "1 of 24 audio files are missing"),
        (["--model.init", "nowhere"], "no model at nowhere"),
        (["--model.network.encoder", "confromer"], "did you mean 'conformer'"),
        (["--data.broken", "skipp"], "did you mean 'skip'"),
        (["--wandb", "of"], "did you mean 'off'"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    options: list[str], corpus: Path, tmp_path: Path, change: list[str], sentence: str, capsys: Any
) -> None:
    """No W&B run, and no checkpoints; where the data is at fault not even a folder."""
    if change[1] == "MISSING":
        (corpus.parent / "3.wav").unlink()
        change = ["--data.train", str(corpus)]
    change = [value.replace("CORPUS", str(corpus)) for value in change]
    assert main(["fit", *options, "--wandb", "offline", *change]) == 2
    assert sentence in capsys.readouterr().err.strip().splitlines()[-1]
    run = tmp_path / "run"
    assert not run.exists() or {p.name for p in run.iterdir()} <= {"logs", "tokenizer"}


def test_a_broken_file_is_left_out_and_counted(options: list[str], corpus: Path, tmp_path: Path, capsys: Any) -> None:
    garble(corpus, 0, 7)
    assert fit([*options, "--trainer.max_epochs", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("warning: left out 'u5-7'") == 1 and "cannot be decoded" in shown.err
    assert "broken 2" in shown.out
    assert "left out 2 broken utterances" in shown.out
    assert [float(row["train/broken"]) for row in rows(tmp_path / "run") if row.get("train/broken")] == [2.0, 2.0]
    assert (tmp_path / "run/model/model.pth").is_file()


def test_workers_report_broken_files_too(options: list[str], corpus: Path, tmp_path: Path, capsys: Any) -> None:
    garble(corpus, 2)
    assert fit([*options, "--data.workers", "1"]) == 0
    assert "left out 1 broken utterances: u5-2" in capsys.readouterr().out
    assert main(["fit", *options, "--data.workers", "1", "--data.broken", "raise", "--fresh", "true"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("parlab: ")]
    assert "cannot be decoded" in line


@pytest.mark.parametrize("normalize", ["utterance_mvn", "global_mvn"])
def test_a_broken_file_ends_the_training_where_that_is_asked_for(
    options: list[str], corpus: Path, normalize: str, capsys: Any
) -> None:
    garble(corpus, 2)
    assert main(["fit", *options, "--data.broken", "raise", "--model.network.normalize", normalize]) == 2
    assert "2.wav cannot be decoded" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("count", [13, 24])
def test_too_many_broken_files_end_the_training(options: list[str], corpus: Path, count: int, capsys: Any) -> None:
    garble(corpus, *range(count))
    assert main(["fit", *options, "--model.network.normalize", "utterance_mvn"]) == 2
    assert f"{count} of 24 training utterances of an epoch are broken" in capsys.readouterr().err.splitlines()[-1]


def test_broken_development_files(options: list[str], tmp_path: Path, capsys: Any) -> None:
    dev = write_corpus(tmp_path / "dev", 6, 6)
    garble(dev, 1)
    assert fit([*options, "--data.dev", str(dev), "--data.dev_batch_size", "1"]) == 0
    (row,) = [row for row in rows(tmp_path / "run") if row["dev/wer"]]
    assert float(row["dev/broken"]) == 1.0 and float(row["dev/loss"]) > 0
    garble(dev, *range(5))
    assert main(["fit", *options, "--data.dev", str(dev), "--fresh", "true"]) == 2
    assert "5 of 6 development utterances of an epoch are broken" in capsys.readouterr().err.splitlines()[-1]


def test_empty_files_and_headers_without_a_duration(corpus: Path, noise_corpus: tuple[Path, Path]) -> None:
    entries = [json.loads(line) for line in corpus.read_text().splitlines()]
    entries[1].pop("duration")
    corpus.write_text("".join(json.dumps(e) + "\n" for e in entries))
    garble(corpus, 1)
    (corpus.parent / "2.wav").write_bytes(b"")
    data = ASRData(train=str(corpus), dev=str(noise_corpus[1]))
    data.check()
    assert [f.id for f in data.failed] == ["u5-1", "u5-2"] and data.left_out["broken"] == 2
    assert len(data.train_utterances()[0]) == 22
    with pytest.raises(UserError, match=r"1\.wav cannot be read"):
        ASRData(train=str(corpus), broken="raise").train_utterances()


def test_targets_longer_than_their_frames_are_dropped(options: list[str], corpus: Path, capsys: Any) -> None:
    entries = [json.loads(line) for line in corpus.read_text().splitlines()]
    entries[4]["text"] = "STOP " * 30
    corpus.write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert fit(options) == 0
    assert (
        "23 utterances (0.01 h) to train on, 6 for development; left out: 1 with more tokens" in capsys.readouterr().out
    )
    for entry in entries:
        entry["text"] = "STOP " * 30
    corpus.write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert main(["fit", *options, "--fresh", "true"]) == 2
    assert "each of the 24 training utterances has more tokens" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("layer", ["conv2d", "conv2d6", "conv1d2"])
def test_frames_are_those_of_the_encoder(layer: str) -> None:
    try:
        model = tiny_model(encoder_conf={"input_layer": layer})
    except UserError:
        pytest.skip(f"this ESPnet has no {layer}")
    frames = frame_counter(model)
    assert frames is not None
    for seconds in (0.3, 0.61, 1.0, 2.345):
        size = round(seconds * 16000)
        assert int(model.encode(torch.zeros(1, size), torch.tensor([size]))[1]) == frames(seconds)
    assert frame_counter(tiny_model(model_conf={"ctc_weight": 0.0})) is None


def test_a_dry_run_checks_all_and_leaves_nothing(options: list[str], corpus: Path, tmp_path: Path, capsys: Any) -> None:
    dry = ["fit", *options, "--wandb", "offline", "--dry_run", "true"]
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(dry) == 0
    out = capsys.readouterr().out
    for part in ("parameters", "24 utterances", "4 an epoch on each of 1 devices", "0 broken files"):
        assert part in out, out
    garble(corpus, 3)
    assert main(dry) == 1
    assert "failed: u5-3: the audio file" in capsys.readouterr().out
    assert main([*dry, "--model.optim.freeze", "[encodr.*]"]) == 2
    entries = [json.loads(line) for line in corpus.read_text().splitlines()]
    path = tmp_path / "letters"
    path.mkdir()
    (path / "tokens.txt").write_text("<blank>\n<unk>\n<space>\nA\n<sos/eos>\n")
    assert main([*dry, "--model.tokenizer", yaml.safe_dump({"path": str(path), "token_type": "char"})]) == 2
    assert f"of '{entries[0]['id']}'" in capsys.readouterr().err
    path.joinpath("tokens.txt").unlink()
    path.rmdir()
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_batch_without_utterances_moves_no_weight(options: list[str], monkeypatch: Any, corpus: Path) -> None:
    """With momentum and weight decay, a gradient of zeros would."""
    from parlab.commands.fit.module import ASRModule

    original, calls, states = TrainingSet.__getitem__, [], []

    def getitem(self: TrainingSet, items: Any) -> Any:
        calls.append(len(items))
        if len(calls) == 3:  # all of this batch is broken
            monkeypatch.setattr(self.cache, "load", lambda _: (_ for _ in ()).throw(UserError("broken")))
            try:
                return original(self, items)
            finally:
                monkeypatch.undo()
                monkeypatch.setattr(TrainingSet, "__getitem__", getitem)
                monkeypatch.setattr(ASRModule, "on_train_batch_end", end)
        return original(self, items)

    ended = ASRModule.on_train_batch_end

    def end(self: ASRModule, *args: Any) -> None:
        ended(self, *args)
        states.append({k: v.clone() for k, v in self.state_dict().items()})

    monkeypatch.setattr(TrainingSet, "__getitem__", getitem)
    monkeypatch.setattr(ASRModule, "on_train_batch_end", end)
    fit(options)
    assert all(torch.equal(states[1][k], states[2][k]) for k in states[1])
    assert any(not torch.equal(states[2][k], states[3][k]) for k in states[2])
