"""Trainings from the command line."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.cli import main
from parlab.commands.fit.command import fit, validate
from parlab.commands.fit.module import ASRModule
from parlab.errors import UserError
from parlab.model.folder import read_model


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights, optimiser moments and position of a checkpoint, flat."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    flat = dict(checkpoint["state_dict"])
    for index, moments in checkpoint["optimizer_states"][0]["state"].items():
        flat |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    return flat | {"step": torch.tensor(checkpoint["global_step"]), "epoch": torch.tensor(checkpoint["epoch"])}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    differ = [name for name in a if not torch.equal(a[name], b[name])]
    assert not differ, f"{len(differ)} of {len(a)} differ, as {differ[:3]}"


def rows(run: Path) -> list[dict[str, str]]:
    """All rows of a run's metrics."""
    return [row for path in sorted(run.glob("logs/*/metrics.csv")) for row in csv.DictReader(path.open())]


def test_from_scratch(fit_config: Path, tmp_path: Path) -> None:
    assert fit(["--config", str(fit_config), "--trainer.log_every_n_steps", "1"]) == 0
    run = tmp_path / "run"
    logged = rows(run)
    assert {"train/loss", "train/ctc", "train/attention", "train/lr", "train/audio_seconds_per_second"} <= set(
        logged[0]
    )
    dev = [row for row in logged if row["dev/wer"]]
    assert len(dev) == 2 and all(float(row["dev/loss"]) > 0 and float(row["dev/cer"]) >= 0 for row in dev)
    assert yaml.safe_load((run / "fit.yaml").read_text())["trainer"]["max_epochs"] == 2
    model, tokenizer = read_model(run)
    assert tokenizer.decode(tokenizer.encode("YES NO")) == "YES NO"
    assert model.normalize is not None and float(model.normalize.mean.abs().max()) > 1.0  # statistics of the data
    states, _ = model.encode(torch.randn(1, 16000), torch.tensor([16000]))
    assert torch.isfinite(states).all()


def test_the_exported_model_is_the_average_of_the_best_checkpoints(fit_config: Path, tmp_path: Path) -> None:
    fit(["--config", str(fit_config), "--checkpoint.save_top_k", "2", "--trainer.max_epochs", "3"])
    found = sorted((tmp_path / "run" / "checkpoints").glob("epoch*.ckpt"))
    assert len(found) == 2
    one, two = (torch.load(path, weights_only=True)["state_dict"] for path in found)
    exported = torch.load(tmp_path / "run" / "model" / "model.pth", weights_only=True)
    name = "encoder.encoders.0.feed_forward.w_1.weight"
    assert not torch.equal(one[f"net.{name}"], two[f"net.{name}"])
    torch.testing.assert_close(exported[name], (one[f"net.{name}"] + two[f"net.{name}"]) / 2)


@pytest.mark.parametrize("step", [2, 7, 9])  # in the first epoch, at its end, in the second
def test_goes_on_exactly_after_a_signal(fit_config: Path, tmp_path: Path, monkeypatch: Any, step: int) -> None:
    def options(name: str) -> list[str]:
        return ["--config", str(fit_config), "--trainer.default_root_dir", str(tmp_path / name)]

    assert fit(options("whole")) == 0
    original = ASRModule.on_train_batch_end

    def interrupt(self: ASRModule, *args: Any) -> None:
        original(self, *args)
        if self.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ASRModule, "on_train_batch_end", interrupt)
    assert fit(options("broken")) == 128 + signal.SIGTERM
    assert (tmp_path / "broken" / "model" / "config.yaml").is_file()
    checkpoint = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == step
    monkeypatch.setattr(ASRModule, "on_train_batch_end", original)
    assert fit([*options("broken"), "--ckpt_path", "last"]) == 0
    assert_same(weights(tmp_path / "whole/checkpoints/last.ckpt"), weights(checkpoint))


def test_resume_at_the_end_of_an_epoch(fit_config: Path, tmp_path: Path) -> None:
    options = ["--config", str(fit_config), "--model.optim.decay", "constant", "--trainer.default_root_dir"]
    fit([*options, str(tmp_path / "whole"), "--trainer.max_epochs", "3"])
    fit([*options, str(tmp_path / "broken"), "--trainer.max_epochs", "1"])
    fit([*options, str(tmp_path / "broken"), "--trainer.max_epochs", "3", "--ckpt_path", "last"])
    assert_same(*(weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("whole", "broken")))


def test_the_time_budget_ends_with_a_model(fit_config: Path, tmp_path: Path) -> None:
    options = ["--trainer.max_time", "00:00:00:03", "--trainer.max_epochs", "100000", "--model.optim.schedule", "time"]
    assert fit(["--config", str(fit_config), *options, "--trainer.log_every_n_steps", "1"]) == 0
    assert (tmp_path / "run" / "model" / "model.pth").is_file()
    rates = [float(row["train/lr"]) for row in rows(tmp_path / "run") if row["train/lr"]]
    assert max(rates) > 0.9e-3 and rates[-1] < 0.1e-3  # the schedule ran over the time


def test_a_time_schedule_needs_a_limit(fit_config: Path) -> None:
    with pytest.raises(UserError, match="max_time"):
        fit(["--config", str(fit_config), "--model.optim.schedule", "time"])


def test_early_stopping(fit_config: Path, tmp_path: Path) -> None:
    options = ["--early_stopping.patience", "1", "--early_stopping.min_delta", "100", "--trainer.max_epochs", "50"]
    fit(["--config", str(fit_config), *options])
    assert len([row for row in rows(tmp_path / "run") if row["dev/wer"]]) == 2


def test_a_loss_that_is_not_finite_changes_nothing_but_the_count(
    fit_config: Path, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    """The weights, the moments and the batch norms' statistics stay as they were before the bad batch."""
    from parlab.model.hybrid import HybridModel

    original, snapshots, calls = HybridModel.loss, [], []

    def loss(self: HybridModel, speech: torch.Tensor, *args: Any) -> Any:
        if self.training:
            calls.append(len(calls))
            snapshots.append({k: v.clone() for k, v in self.state_dict().items()})
            if calls[-1] == 2:
                speech = speech * float("nan")
        return original(self, speech, *args)

    monkeypatch.setattr(HybridModel, "loss", loss)
    fit(["--config", str(fit_config), "--trainer.max_epochs", "1"])
    counted = {k for k in snapshots[2] if k.endswith("num_batches_tracked")}
    assert_same(*({k: v for k, v in snapshots[i].items() if k not in counted} for i in (2, 3)))
    assert any(not torch.equal(snapshots[3][k], snapshots[4][k]) for k in snapshots[3])
    assert "1 so far" in caplog.text
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["parlab_nonfinite"] == 1


def test_too_many_losses_that_are_not_finite_stop_the_training(fit_config: Path, monkeypatch: Any) -> None:
    from parlab.model.hybrid import HybridModel

    original = HybridModel.loss
    monkeypatch.setattr(HybridModel, "loss", lambda self, speech, *a: original(self, speech * float("nan"), *a))
    with pytest.raises(UserError, match="not finite in 3 batches, expected at most 2"):
        fit(["--config", str(fit_config), "--model.optim.nonfinite_limit", "2"])


def test_finetuning_keeps_frozen_weights_and_the_tokenizer(fit_config: Path, tmp_path: Path) -> None:
    fit(["--config", str(fit_config)])
    config = yaml.safe_load(fit_config.read_text())
    config["model"] = {
        "init": str(tmp_path / "run"),
        "optim": {"lr": 1e-3, "warmup_steps": 1, "freeze": ["encoder.*"], "lr_scale": {"ctc.*": 0.0}},
    }
    config["trainer"]["default_root_dir"] = str(tmp_path / "tuned")
    fit_config.write_text(yaml.safe_dump(config))
    fit(["--config", str(fit_config), "--export.average", "0"])
    (before, old), (after, new) = read_model(tmp_path / "run"), read_model(tmp_path / "tuned")
    assert old.token_list == new.token_list
    one, two = before.state_dict(), after.state_dict()
    same = {k for k in one if torch.equal(one[k], two[k])}
    kept = {k for k in one if k.startswith(("encoder.", "ctc.", "normalize.", "frontend."))}
    assert kept - {k for k in kept if "num_batches_tracked" in k} <= same  # batch norm statistics too
    assert "decoder.decoders.0.self_attn.linear_q.weight" not in same


def test_bf16_accumulation_and_ema(fit_config: Path, tmp_path: Path) -> None:
    callback = "{class_path: parlab.commands.fit.callbacks.EMA, init_args: {decay: 0.5}}"
    options = ["--trainer.precision", "bf16-mixed", "--trainer.accumulate_grad_batches", "2"]
    assert fit(["--config", str(fit_config), *options, "--trainer.callbacks", f"[{callback}]"]) == 0
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    name = "net.encoder.encoders.0.feed_forward.w_1.weight"
    average, current = checkpoint["state_dict"][name], checkpoint["current_model_state"][name]
    assert current.dtype == torch.float32 and not torch.equal(average, current)
    assert checkpoint["global_step"] == 8  # 2 epochs of 4 steps: 7 batches, 2 a step


def test_validate(fit_config: Path, tmp_path: Path, noise_corpus: tuple[Path, Path], capsys: Any) -> None:
    fit(["--config", str(fit_config)])
    assert validate(["--model.init", str(tmp_path / "run"), "--data.dev", str(noise_corpus[1])]) == 0
    assert "dev/wer" in capsys.readouterr().out


def test_the_written_configuration_can_be_run_again(fit_config: Path, tmp_path: Path) -> None:
    fit(["--config", str(fit_config), "--trainer.max_epochs", "1"])
    again = ["--config", str(tmp_path / "run/fit.yaml"), "--trainer.default_root_dir", str(tmp_path / "again")]
    assert fit(again) == 0
    assert_same(*(weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("run", "again")))


POISON = """
import torch
from lightning.pytorch import Callback

class Poison(Callback):
    def __init__(self, folder: str):
        self.folder = folder

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            batch.speech.fill_(float("nan"))

    def on_train_end(self, trainer, module):
        values = [p.detach() for p in module.parameters()] + [torch.tensor(float(module.nonfinite))]
        torch.save(values, f"{self.folder}/rank{trainer.global_rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_skip_a_bad_batch_together(fit_config: Path, tmp_path: Path) -> None:
    (tmp_path / "poison.py").write_text(POISON, encoding="utf-8")
    command = [sys.executable, "-m", "parlab", "fit", "--config", str(fit_config)]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.callbacks"]
    command += [f"[{{class_path: poison.Poison, init_args: {{folder: {tmp_path}}}}}]"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("wrote ") == 1
    assert len([row for row in rows(tmp_path / "run") if row["dev/wer"]]) == 2
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert first[-1] == second[-1] == 1  # one batch was skipped, on both
    assert all(torch.equal(a, b) and torch.isfinite(a).all() for a, b in zip(first, second, strict=True))
    read_model(tmp_path / "run")


def test_losses_and_error_rates_reach_wandb(fit_config: Path, tmp_path: Path, wandb_records: Any) -> None:
    """Read the offline run back."""
    fit(["--config", str(fit_config), "--wandb", "offline", "--trainer.log_every_n_steps", "1"])
    (path,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    names = {item.key or "/".join(item.nested_key) for record in wandb_records(path) for item in record.history.item}
    assert {"train/loss", "train/ctc", "train/attention", "train/lr", "train/audio_seconds_per_second"} <= names
    assert {"dev/wer", "dev/cer", "dev/loss", "trainer/global_step"} <= names


@pytest.mark.slow
def test_ctrl_c_of_a_process(fit_config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "parlab", "fit", "--config", str(fit_config), "--trainer.max_epochs", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "epoch 1 " not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert process.wait(60) == 128 + signal.SIGINT
        assert time.monotonic() - start < 30
    assert (tmp_path / "run" / "model" / "model.pth").is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.optim.lrr", "1"], "--model.optim.lr"),
        (["--trainer.max_epoch", "1"], "--trainer.max_epochs"),
        (["--data.trian", "x"], "--data.train"),
        (["--model.optim.decay", "cosin"], "did you mean 'cosine'"),
        (["--model.optim.freeze", "[encodr.*]"], "matches no parameter"),
        (["--model.network.encoder", "confromer"], "did you mean 'conformer'"),
        (["--model.network.encoder_conf.num_block", "3"], "encoder_conf does not fit"),
        (["--data.train", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--data.normalize", "uper"], "did you mean 'upper'"),
        (["--model.tokenizer.token_type", "bpr"], "did you mean 'bpe'"),
        (["--model.tokenizer.vocabsize", "30"], "did you mean 'vocab_size'"),
        (["--model.tokenizer", "{token_type: bpe, vocab_size: 3000}"], "choose another vocab_size"),
        (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["--wandb", "of"], "did you mean 'off'"),
        (["--model.init", "nowhere"], "no model at nowhere"),
    ],
)
def test_bad_input_gets_one_sentence(fit_config: Path, options: list[str], sentence: str, capfd: Any) -> None:
    assert main(["fit", "--config", str(fit_config), *options]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("parlab: ") and sentence in last, last


def test_a_misspelt_key_of_a_file(fit_config: Path, capfd: Any) -> None:
    config = yaml.safe_load(fit_config.read_text())
    config["model"]["optim"]["warmup_step"] = 3
    fit_config.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(fit_config)]) == 2
    assert "warmup_steps" in capfd.readouterr().err
