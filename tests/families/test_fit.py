"""``fit`` of a foreign family from the command line: exports, checkpoints, going on, adapters."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.commands.fit.command import fit, validate
from parlab.commands.fit.module import ASRModule
from parlab.data.s2t_targets import s2t_targets
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.model.folder import read_model
from parlab.text.tokenizer import Tokenizer
from tests.families.dolphin_models import UNITS, write_dolphin
from tests.families.firered_models import write_firered
from tests.families.speechbrain_models import SEEDS, write_speechbrain
from tests.families.wenet_models import write_wenet
from tests.helpers import manifest, noise


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """Options of a training of ten utterances, four steps in two epochs; a test adds the model."""
    entries: list[dict[str, Any]] = []
    for i in range(10):
        noise(tmp_path / f"{i}.wav", 0.9, seed=i)
        entry = {"id": f"u{i}", "audio_filepath": f"{i}.wav", "text": "ab c" if i % 2 else "de", "duration": 0.9}
        entries.append({**entry, "lang": "zh-CN"})
    data = str(manifest(tmp_path, entries))
    config = {
        "model": {"optim": {"lr": 1e-3, "warmup_steps": 1}},
        "data": {"train": data, "dev": data, "batch_seconds": 5.0},
        "wandb": "off",
        "export": {"average": 0},
        "trainer": {"accelerator": "cpu", "max_epochs": 2, "enable_progress_bar": False},
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    return ["--config", str(tmp_path / "fit.yaml"), "--trainer.default_root_dir", str(tmp_path / "run")]


def state_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a model or checkpoint."""
    return read_model(path)[0].state_dict()


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def test_wenet(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run folder, its model/ and its checkpoint are one WeNet model; an interrupted training goes on exactly; a fresh one clears."""
    write_wenet(tmp_path / "from", "u2pp")
    options += ["--model.init", str(tmp_path / "from")]
    assert fit(options) == 0
    model, tokenizer = read_model(tmp_path / "run" / "model")
    assert model.family == "WeNet" and tokenizer.decode(tokenizer.encode("ab c")) == "ab c"
    names = {"train.yaml", "units.txt", "global_cmvn", "final.pt"}
    assert {p.name for p in (tmp_path / "run" / "model").iterdir()} == names
    trained = model.state_dict()
    assert not torch.equal(trained["decoder.embed.weight"], state_of(tmp_path / "from")["decoder.embed.weight"])
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert_same(trained, state_of(last))
    assert_same(trained, state_of(tmp_path / "run"))

    # A checkpoint can be trained on, without the folder that it came from.
    tuned = [*options, "--model.init", str(last), "--trainer.default_root_dir", str(tmp_path / "tuned")]
    (tmp_path / "from").rename(tmp_path / "away")
    assert fit([*tuned, "--trainer.max_epochs", "1"]) == 0
    assert {p.name for p in (tmp_path / "tuned" / "model").iterdir()} == names
    assert validate(["--model.init", str(tmp_path / "tuned"), "--data.dev", str(tmp_path / "data.jsonl")]) == 0
    (tmp_path / "away").rename(tmp_path / "from")

    original = ASRModule.on_train_batch_end

    def interrupt(self: ASRModule, *args: Any) -> None:
        original(self, *args)
        if self.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ASRModule, "on_train_batch_end", interrupt)
    broken = [*options, "--trainer.default_root_dir", str(tmp_path / "broken")]
    assert fit(broken) == 128 + signal.SIGTERM
    monkeypatch.setattr(ASRModule, "on_train_batch_end", original)
    assert fit(broken) == 0
    assert_same(trained, state_of(tmp_path / "broken"))

    (tmp_path / "broken" / "model" / "notes.md").write_text("mine")
    assert fit([*broken, "--fresh", "true", "--dry_run", "true"]) == 0  # removes nothing
    assert (tmp_path / "broken" / "model" / "final.pt").is_file()
    assert fit([*broken, "--fresh", "true", "--trainer.max_epochs", "1"]) == 0
    assert {p.name for p in (tmp_path / "broken" / "model").iterdir()} == names | {"notes.md"}


def test_firered_has_no_error_rate_to_choose_by(options: list[str], tmp_path: Path) -> None:
    """Without a CTC head ``dev/loss`` chooses the checkpoints; the arguments of its training are written again."""
    write_firered(tmp_path / "from", "aed")
    options += ["--model.init", str(tmp_path / "from"), "--trainer.max_epochs", "1"]
    with pytest.raises(UserError, match=r"this model has none, expected dev/loss; add --checkpoint\.monitor dev/loss"):
        fit(options)
    assert fit([*options, "--checkpoint.monitor", "dev/loss", "--early_stopping.monitor", "dev/loss"]) == 0
    model, _ = read_model(tmp_path / "run")
    assert model.family == "FireRed"
    assert_same(model.state_dict(), state_of(tmp_path / "run" / "checkpoints" / "last.ckpt"))


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_speechbrain(name: str, options: list[str], tmp_path: Path) -> None:
    """Its own files come back: weights and normaliser as checkpoints, the hyperparameters as they were."""
    write_speechbrain(tmp_path / "from", name)
    assert fit([*options, "--model.init", str(tmp_path / "from")]) == 0
    before, after = tmp_path / "from", tmp_path / "run" / "model"
    assert {p.name for p in after.iterdir()} == {p.name for p in before.iterdir()}
    assert (after / "hyperparams.yaml").read_bytes() == (before / "hyperparams.yaml").read_bytes()
    assert_same(state_of(after), state_of(tmp_path / "run" / "checkpoints" / "last.ckpt"))
    changed = [key for key, value in state_of(after).items() if not torch.equal(value, state_of(before)[key])]
    assert any(key.startswith("encoder.") for key in changed) and any(key.startswith("decoder.") for key in changed)


def test_adapters(options: list[str], tmp_path: Path) -> None:
    """The exported model has them merged, under its own names."""
    pytest.importorskip("peft")
    write_wenet(tmp_path / "from", "u2")
    options += ["--model.init", str(tmp_path / "from"), "--model.lora.rank", "2", "--trainer.max_epochs", "1"]
    assert fit([*options, "--model.lora.train", '["ctc.*"]']) == 0
    before, after = state_of(tmp_path / "from"), state_of(tmp_path / "run" / "model")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"encoder.encoders.0.self_attn.linear_q.weight", "decoder.decoders.1.src_attn.linear_v.weight"} <= changed
    assert {"ctc.ctc_lo.weight", "ctc.ctc_lo.bias"} <= changed
    assert not {name for name in changed if "norm" in name and "running" not in name and "num_batches" not in name}
    assert_same(after, state_of(tmp_path / "run" / "checkpoints" / "last.ckpt"))


def test_dolphin_needs_languages(tmp_path: Path) -> None:
    """The decoder's targets name language and region; there is no default, which would teach a wrong one."""
    write_dolphin(tmp_path, "espnet")
    model, _ = read_model(tmp_path)
    assert model.s2t is not None
    pieces = Tokenizer(model.token_list, "char")
    utterance = Utterance("u0", Path("u0.wav"), text="ab", extra={"lang": "zh-SICHUAN"})
    found = s2t_targets(utterance, pieces, model.s2t)
    assert [UNITS[i] for i in found.text] == ["<zh>", "<SICHUAN>", "<asr>", "<notimestamp>", "a", "b"]
    assert [UNITS[i] for i in found.ctc or ()] == ["a", "b"]
    with pytest.raises(
        UserError, match="the utterance u0 names no language, expected 'lang' in the manifest, as 'zh-CN'"
    ):
        s2t_targets(replace(utterance, extra={}), pieces, model.s2t)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "..", "a\\b", ""])
def test_a_checkpoint_that_names_a_path_is_refused(name: str, tmp_path: Path) -> None:
    form = torch.zeros(3, dtype=torch.uint8)
    entry = {"family": "WeNet", "files": {name: form}, "weights": "final.pt", "form": form, "lora_scale": None}
    for entries in (entry, {**entry, "files": {}, "weights": name}, {**entry, "files": [1]}, {**entry, "form": None}):
        torch.save({"parlab_model": entries, "state_dict": {"net.x": torch.zeros(1)}}, tmp_path / "bad.ckpt")
        with pytest.raises(UserError, match="names no plain files of a model's folder"):
            read_model(tmp_path / "bad.ckpt")


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    form = torch.zeros(3, dtype=torch.uint8)
    entry = {"family": "Whisper", "files": {}, "weights": "final.pt", "form": form, "lora_scale": None}
    torch.save({"parlab_model": entry, "state_dict": {}}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match="Whisper models are not written here, expected one of Dolphin, WeNet"):
        read_model(tmp_path / "bad.ckpt")
