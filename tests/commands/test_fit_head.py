"""``fit --kind head``: labels, cached states, and a head that learns, goes on, and is read back."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

import parlab
from parlab.commands.fit.command import fit, validate
from parlab.commands.fit.head.batches import StateMasks
from parlab.commands.fit.head.encoding import Encoding
from parlab.commands.fit.head.labels import Labels
from parlab.commands.fit.head.module import HeadModule
from parlab.commands.fit.head.scores import DraftScores, DraftWord
from parlab.commands.fit.head.states import StateStore
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.metrics.wer import word_errors
from parlab.model.families.espnet_build import build_model
from parlab.model.folder import read_model, write_model
from parlab.model.heads.folder import read_head
from parlab.model.heads.making import make_head, start_from
from parlab.model.heads.network import HeadOptions
from parlab.text.loops import loops, too_fast
from parlab.text.normalizer import normalizer
from parlab.text.tokenizer import Tokenizer
from tests.helpers import manifest
from tests.model.test_openai_decoder import config as openai_config
from tests.models import tiny_model
from tests.whisper import write_whisper

RATE = 16000
TONES = {"a": 300, "b": 900, "c": 2400}  # Hz: each letter is a tone


def say(text: str, rng: np.random.Generator) -> np.ndarray:
    """A tone per letter, silence for a blank: something that a head can learn in seconds."""
    time = np.arange(RATE // 8) / RATE
    parts = [0.3 * np.sin(2 * np.pi * TONES[c] * time) if c in TONES else 0.0 * time for c in text]
    return np.concatenate(parts) + 0.01 * rng.standard_normal(len(time) * len(parts))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper model ``w`` with a window of 1 s, ``train.jsonl`` and ``dev.jsonl``, and a prediction ``p`` of both."""
    folder = tmp_path_factory.mktemp("head")
    write_whisper(folder / "w", seed=5)
    rng = np.random.default_rng(0)
    labels = []
    for name, count in (("train", 24), ("dev", 6)):
        entries = []
        for i in range(count):
            text = "".join(rng.choice(list("abc"), 2)) + " " + "".join(rng.choice(list("abc"), 2))
            wave = say(text, rng)
            soundfile.write(folder / f"{name}{i}.wav", wave, RATE)
            entry = {"id": f"{name}{i}", "audio_filepath": f"{name}{i}.wav", "duration": len(wave) / RATE, "text": text}
            entries.append(entry)
            labels.append({"id": f"{name}{i}", "text": text, "tokens": []})
        manifest(folder, entries).rename(folder / f"{name}.jsonl")
    (folder / "p").mkdir()
    (folder / "p" / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in labels))
    return folder


def options(work: Path, run: Path, *more: str) -> list[str]:
    given = {
        "model.base": work / "w",
        "data.train": work / "train.jsonl",
        "data.dev": work / "dev.jsonl",
        "data.min_count": 1,
        "data.batch_seconds": 3,
        "data.cache": work / "states",
        "model.head.width": 32,
        "model.head.heads": 2,
        "model.head.blocks": 1,
        "model.head.stack": 1,
        "model.head.clones": 1,
        "model.optim.warmup_steps": 2,
        "model.optim.lr": 0.005,
        "trainer.max_epochs": 2,
        "trainer.default_root_dir": run,
        "trainer.enable_progress_bar": "false",
        "wandb": "off",
    }
    return ["--kind", "head", *[part for name, value in given.items() for part in (f"--{name}", str(value))], *more]


def test_a_head_learns_and_drafts(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert fit(options(work, run, "--trainer.max_epochs", "25", "--data.labels", str(work / "p"))) == 0
    out = capsys.readouterr().out
    assert "data: 24 utterances" in out
    assert "wrote" in out
    rows = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert len(rows) == 25
    model, tokenizer = read_model(work / "w")
    head = read_head(run / "head", model, tokenizer)
    assert head.tokenizer.token_list == ["<blank>", "<space>", "a", "b", "c"]
    assert head.layers == (1,)
    card = (run / "head" / "README.md").read_text()
    assert "24 utterances" in card and "the model itself wrote" in card
    asr = parlab.load(work / "w", device="cpu", head=run / "head")
    entries = [json.loads(line) for line in (work / "dev.jsonl").read_text().splitlines()]
    found = asr.transcribe([work / e["audio_filepath"] for e in entries], decoder="greedy")
    wrong = sum(h.text != e["text"] for h, e in zip(found, entries, strict=True))
    assert wrong <= 2, [(h.text, e["text"]) for h, e in zip(found, entries, strict=True)]
    config = yaml.safe_load((run / "fit.yaml").read_text())
    assert config["kind"] == "head"
    assert fit(options(work, run, "--trainer.max_epochs", "25", "--data.labels", str(work / "p"))) == 0
    assert "is finished" in capsys.readouterr().out
    checkpoint = torch.load(next((run / "checkpoints").glob("epoch*.ckpt")), weights_only=True)
    assert not [name for name in checkpoint["state_dict"] if not name.startswith("net.")]
    best = str(next((run / "checkpoints").glob("epoch*.ckpt")))
    assert validate([*options(work, run), "--ckpt_path", best]) == 0
    assert "dev/wer" in capsys.readouterr().out


def test_goes_on_exactly_after_a_signal(work: Path, tmp_path: Path, monkeypatch: Any) -> None:
    more = ("--model.optim.schedule", "steps", "--data.speeds", "[0.9,1.0]")
    assert fit(options(work, tmp_path / "whole", *more)) == 0
    original = HeadModule.on_train_batch_end

    def interrupt(self: Any, *args: Any) -> None:
        original(self, *args)
        if self.global_step == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(HeadModule, "on_train_batch_end", interrupt)
    assert fit(options(work, tmp_path / "broken", *more)) == 128 + signal.SIGTERM
    monkeypatch.setattr(HeadModule, "on_train_batch_end", original)
    assert fit(options(work, tmp_path / "broken", *more)) == 0
    one, other = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "broken")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_sample_is_decoded_as_predict_would(work: Path, tmp_path: Path) -> None:
    """``dev/par_wer`` is the word error rate of the default decoder with the head as it was then."""
    run = tmp_path / "run"
    assert fit(options(work, run, "--model.sample", "4", "--export.average", "0", "--trainer.max_epochs", "3")) == 0
    [row] = [row for row in _rows(run) if row.get("dev/par_wer") and int(row["epoch"]) == 2]
    entries = [json.loads(line) for line in (work / "dev.jsonl").read_text().splitlines()][:4]
    asr = parlab.load(work / "w", device="cpu", head=run / "head")
    # The exported weights are float16: those of the checkpoint gave the number.
    [last] = run.rglob("last.ckpt")
    state = torch.load(last, weights_only=True)["state_dict"]
    assert asr.recognizer.head is not None
    asr.recognizer.head.network.load_state_dict({name.removeprefix("net."): value for name, value in state.items()})
    found = asr.transcribe([work / e["audio_filepath"] for e in entries])
    normalize = normalizer("none")  # the model is not English-only
    errors = [word_errors(normalize(e["text"]), normalize(h.text)) for h, e in zip(found, entries, strict=True)]
    wanted = sum(e.errors for e in errors) / sum(e.total for e in errors)
    assert float(row["dev/par_wer"]) == pytest.approx(wanted, abs=1e-4)


def _rows(run: Path) -> list[dict[str, str]]:
    [table] = run.rglob("metrics.csv")
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_head_starts_from_another(work: Path, tmp_path: Path) -> None:
    """Of tokens that both know it takes the rows; sizes must agree."""
    first = tmp_path / "first"
    assert fit(options(work, first, "--trainer.max_epochs", "15")) == 0
    start = read_head(first / "head", *read_model(work / "w"))
    more = ("--model.init", str(first / "head"), "--model.sample", "0")
    module = HeadModule(str(work / "w"), start.network.options, init=str(first / "head"))
    module.read_start()
    tokens = Tokenizer(["<blank>", "<space>", "c", "x", "a"], "char")
    network = make_head(start.network.options, module.recognizer.model, 5)  # type: ignore[union-attr]
    own = network.output.weight[3].clone()
    start_from(network, tokens, start)
    assert torch.equal(network.output.weight[[0, 1, 2, 4]], start.network.output.weight[[0, 1, 4, 2]])
    assert torch.equal(network.output.weight[3], own)
    assert torch.equal(network.enter.weight, start.network.enter.weight)
    assert fit(options(work, tmp_path / "second", *more, "--trainer.max_epochs", "1", "--model.optim.lr", "1e-6")) == 0
    assert fit(options(work, tmp_path / "scratch", "--trainer.max_epochs", "1", "--model.optim.lr", "1e-6")) == 0
    losses = [float(_rows(tmp_path / name)[-1]["dev/loss"]) for name in ("second", "scratch")]
    assert losses[0] < 0.7 * losses[1]
    with pytest.raises(UserError, match="has width 32, expected 16"):
        fit(options(work, tmp_path / "third", *more, "--model.head.width", "16"))


def test_a_head_starts_from_a_hybrids_blocks(work: Path, tmp_path: Path) -> None:
    """``model.init`` may be an ESPnet-format model; the one here is of another width than the head."""
    model = build_model(openai_config())
    write_model(model, Tokenizer(model.token_list, "char"), tmp_path / "hybrid")
    sizes = HeadOptions(width=16, heads=2, clones=1)
    with pytest.raises(UserError, match=r"blocks of .* width 384, expected .* width 32"):
        HeadModule(str(work / "w"), sizes, init=str(tmp_path / "hybrid")).read_start()


def test_states_are_computed_once(work: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """What a stopped process wrote is kept; a line that was cut off is not believed."""
    counted: list[str] = []
    original = Encoding._encode

    def count(self: Any, batch: Any) -> Any:
        counted.extend(v.key for v in batch)
        return original(self, batch)

    monkeypatch.setattr(Encoding, "_encode", count)
    cache = ["--data.cache", str(tmp_path / "cache"), "--trainer.max_epochs", "1", "--data.speeds", "[1.0,1.1]"]
    assert fit([*options(work, tmp_path / "one"), *cache]) == 0
    assert len(counted) == 2 * 24 + 6
    [index] = (tmp_path / "cache").rglob("*.jsonl")
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:-1]) + lines[-1][:20])
    counted.clear()
    assert fit([*options(work, tmp_path / "two"), *cache]) == 0
    assert len(counted) == 1


def test_states_come_back_as_they_were_written(tmp_path: Path) -> None:
    store = StateStore(tmp_path, 4)
    given = {f"u{i}": torch.randn(3 + i, 4) for i in range(3)}
    for key, states in given.items():
        store.write(key, states)
    store.close()
    again = StateStore(tmp_path, 4).read_index()
    for key, states in given.items():
        assert again.frames(key) == len(states)
        assert torch.equal(torch.from_numpy(np.array(again.read(key))), states.half())
    with pytest.raises(UserError, match="not finite"):
        store.write("bad", torch.full((2, 4), float("nan")))


def test_a_model_of_espnets(work: Path, tmp_path: Path) -> None:
    """Several layers of an encoder of ESPnet's, in a vocabulary of pieces."""
    net = tiny_model(4)
    write_model(net, Tokenizer(net.token_list, "char"), tmp_path / "m")
    asked = options(work, tmp_path / "run", "--model.base", str(tmp_path / "m"), "--data.cache", str(tmp_path / "c"))
    asked += ["--model.head.clones", "0", "--model.head.layers", "[1,2]", "--data.min_seconds", "0.1"]
    asked += ["--model.tokenizer.token_type", "bpe", "--model.tokenizer.vocab_size", "10"]
    assert fit(asked) == 0
    head = read_head(tmp_path / "run" / "head", *read_model(tmp_path / "m"))
    assert head.layers == (1, 2)
    assert head.tokenizer.token_type == "bpe"


def test_dry_run(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(options(work, tmp_path / "run", "--dry_run", "true")) == 0
    assert "5 characters" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model.head.clones", "3"), "3 clones, but the encoder only 2"),
        (("--model.head.layers", "[5]"), "block 5, but there are 2"),
        (("--data.labels", "nowhere"), "labels nowhere cannot be read"),
        (("--data.min_count", "999"), "no character occurs 999 times"),
        (("--data.speeds", "[9]"), "speeds is \\[9"),
        (("--model.masks.time_share", "2"), "time_share is 2"),
        (("--kind", "heads"), "did you mean 'head'"),
        (("--model.base", "nowhere"), "nowhere"),
    ],
)
def test_bad_input(more: Sequence[str], message: str, work: Path, tmp_path: Path) -> None:
    from parlab.cli import _user_error

    with pytest.raises(Exception) as caught:  # noqa: PT011 (jsonargparse wraps what a constructor raised)
        fit(options(work, tmp_path / "run", *more))
    found = _user_error(caught.value)
    assert found is not None
    assert re.search(message, str(found)), found


# ---- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "circles"),
    [
        ("yes yes yes", False),
        ("go go go go", True),
        ("and then he said and then he said and then he said and then he said", True),
        ("one two three four five six seven eight nine ten eleven twelve", False),
        ("ha" * 60, True),
    ],
)
def test_loops(text: str, circles: bool) -> None:
    assert loops(text) is circles


def test_labels_of_no_use_are_left_out() -> None:
    data = [Utterance(name, Path("x.wav"), "own text", 2.0) for name in "abcde"]
    labels = Labels(
        {
            "a": " A  label. ",
            "b": "",
            "c": "no " * 9,
            "d": "somebody cannot possibly have pronounced quite so many different words",
        }
    )
    kept = labels.of(data)
    assert [(u.id, u.text) for u in kept] == [("a", "A label.")]
    assert dict(labels.left_out) == {
        "without a label": 2,
        "with a label in circles": 1,
        "with a label too long to be said": 1,
    }
    assert [u.text for u in Labels(None).of(data)] == ["own text"] * 5
    assert too_fast("x" * 70, 2.0) and not too_fast("x" * 50, 2.0)


def test_masks_hide_runs_and_keep_the_rest() -> None:
    torch.manual_seed(0)
    states, frames = torch.randn(2, 40, 16), torch.tensor([40, 20])
    assert torch.equal(StateMasks(0, 0.5, 0, 0.5)(states, frames), states)
    masked = StateMasks(2, 0.3, 1, 0.2)(states, frames)
    changed = masked != states
    assert 0 < changed.float().mean() < 0.8
    mean = states[0].mean(0).expand(40, -1)
    torch.testing.assert_close(masked[0][changed[0]], mean[changed[0]])
    whole = StateMasks(1, 0.5, 0, 0.0)(states, frames) != states
    assert torch.equal(whole.any(2), whole.all(2))  # frames are hidden whole
    assert not whole[1, 20:].any()


def test_scores() -> None:
    """Error rate, calibration and masks of words that are normalised alone."""
    scores = DraftScores(normalizer("lower"))
    scores.add("THE CAT SAT", [DraftWord("the", 0.95), DraftWord("cut", 0.45), DraftWord("sat", 0.85)])
    scores.add("ON", [DraftWord("on", 0.995), DraftWord("mat", 0.995)])
    found = DraftScores.results(scores.totals())
    assert found["dev/wer"] == pytest.approx(2 / 4)
    assert found["dev/masked_0.5"] == pytest.approx(1 / 5)
    assert found["dev/masked_error_0.5"] == 1.0
    assert found["dev/masked_0.9"] == pytest.approx(2 / 5)
    assert found["dev/masked_error_0.9"] == pytest.approx(1 / 2)
    assert found["dev/kept_error_0.9"] == pytest.approx(1 / 3)
    # Bins: 0.45 (wrong), 0.85 (right), and 0.95, 0.995, 0.995 of which one is wrong.
    assert found["dev/ece"] == pytest.approx((0.45 + 0.15 + abs(0.95 + 2 * 0.995 - 2)) / 5)
    assert "dev/loss" not in found


def test_words_that_normalise_to_nothing_or_to_several() -> None:
    scores = DraftScores(lambda text: " ".join(w for w in text.replace("-", " ").split() if w != "um"))
    scores.add("well known", [DraftWord("um", 0.3), DraftWord("well-known", 0.99)])
    found = DraftScores.results(scores.totals())
    assert found["dev/wer"] == 0.0
    assert sum(scores.bins[::3]) == 1
