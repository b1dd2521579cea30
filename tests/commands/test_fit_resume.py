"""A training in a run folder that another start left: goes on, is finished, is refused, starts over."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.cli import main
from parlab.commands.fit import checkpoints as checkpoint_files
from parlab.commands.fit.command import fit
from parlab.commands.fit.module import ASRModule
from parlab.commands.fit.resume import Limits, check_devices, first_difference, newest_checkpoint
from parlab.errors import UserError
from tests.commands.test_fit import assert_same, weights


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def options(fit_config: Path) -> list[str]:
    return ["--config", str(fit_config), "--model.optim.decay", "constant", "--trainer.max_epochs"]


def test_the_same_command_goes_on_exactly(fit_config: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Interrupted by a signal in the second epoch, and started again with the very same command."""

    def command(name: str) -> list[str]:
        return ["--config", str(fit_config), "--trainer.default_root_dir", str(tmp_path / name)]

    assert fit(command("whole")) == 0
    original = ASRModule.on_train_batch_end

    def interrupt(self: ASRModule, *args: Any) -> None:
        original(self, *args)
        if self.global_step == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ASRModule, "on_train_batch_end", interrupt)
    assert fit(command("broken")) == 128 + signal.SIGTERM
    monkeypatch.setattr(ASRModule, "on_train_batch_end", original)
    capsys.readouterr()
    assert fit(command("broken")) == 0
    assert "goes on from" in capsys.readouterr().out
    assert_same(*(weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("whole", "broken")))
    whole, broken = (torch.load(tmp_path / name / "model/model.pth", weights_only=True) for name in ("whole", "broken"))
    assert_same(whole, broken)


def test_a_finished_training_is_left_alone_until_it_is_extended(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit([*options, "1"]) == 0
    before = contents(tmp_path / "run")
    capsys.readouterr()
    assert fit([*options, "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "is finished (epoch 1, step 7)" in out and "--fresh true" in out
    assert contents(tmp_path / "run") == before
    assert fit([*options, "2"]) == 0
    assert fit([*options, "2", "--trainer.default_root_dir", str(tmp_path / "whole")]) == 0
    assert_same(*(weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("whole", "run")))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--model.optim.lr", "0.5"], "model.optim.lr is 0.5 and was 0.001"),
        (["--model.network.encoder_conf.dropout_rate", "0.3"], "dropout_rate is 0.3 and was None"),
        (["--data.batch_seconds", "11"], "data.batch_seconds is 11.0 and was 10.0"),
        (["--seed_everything", "4"], "seed_everything is 4 and was 1"),
    ],
)
def test_another_configuration_is_refused(
    options: list[str], tmp_path: Path, change: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit([*options, "1"]) == 0
    before = contents(tmp_path / "run")
    assert main(["fit", *options, "1", *change]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line and "--fresh true" in line
    assert contents(tmp_path / "run") == before


def test_what_may_differ(options: list[str], tmp_path: Path) -> None:
    assert fit([*options, "1"]) == 0
    free = ["--trainer.log_every_n_steps", "3", "--wandb", "offline", "--export.average", "1"]
    assert fit([*options, "2", *free]) == 0
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 14


def test_the_first_difference() -> None:
    defaults = {"model": {"b": None, "new": 3}}
    assert first_difference({"model": {"b": None, "new": 3}}, {"model": {"b": None}}, defaults) is None
    assert (
        first_difference({"model": {"b": {"c": 1}}}, {"model": {"b": None}}, defaults) == "model.b.c is 1 and was None"
    )
    assert first_difference({"model": {}}, {"model": {"b": {"c": 1}}}, defaults) == "model.b.c is None and was 1"
    assert first_difference({"wandb": "off", "trainer": {"devices": 1}}, {"trainer": {"devices": 2}}, {}) is None


@pytest.mark.parametrize("left", ["checkpoints/last.ckpt", "model/model.pth"])
def test_weights_of_an_unknown_training_are_refused(
    options: list[str], tmp_path: Path, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / left
    path.parent.mkdir(parents=True)
    path.write_bytes(b"of somebody")
    assert main(["fit", *options, "1"]) == 2
    assert "no fit.yaml" in capsys.readouterr().err
    assert path.read_bytes() == b"of somebody"


def test_fresh_starts_over_and_keeps_what_fit_did_not_write(options: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit([*options, "2"]) == 0
    for name in ("notes.txt", "checkpoints/mine.ckpt", "model/README.md", "other/last.ckpt"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    assert fit([*options, "1", "--fresh", "true", "--data.batch_seconds", "20"]) == 0
    for name in ("notes.txt", "checkpoints/mine.ckpt", "model/README.md", "other/last.ckpt"):
        assert (run / name).read_text() == "mine"
    assert len(list((run / "checkpoints").glob("epoch*.ckpt"))) == 1
    recorded = yaml.safe_load((run / "fit.yaml").read_text())
    assert recorded["fresh"] is False and recorded["data"]["batch_seconds"] == 20.0


def test_fresh_from_a_checkpoint_that_it_would_remove(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit([*options, "1"]) == 0
    last = tmp_path / "run/checkpoints/last.ckpt"
    for name in (str(last), "last"):
        assert main(["fit", *options, "1", "--fresh", "true", "--ckpt_path", name]) == 2
        assert "--ckpt_path" in capsys.readouterr().err and last.is_file()


def test_wrong_data_costs_no_earlier_weights(options: list[str], tmp_path: Path) -> None:
    assert fit([*options, "1"]) == 0
    before = contents(tmp_path / "run")
    assert main(["fit", *options, "1", "--fresh", "true", "--data.train", "nowhere.jsonl"]) == 2
    assert contents(tmp_path / "run") == before


def test_a_damaged_checkpoint_is_passed_over(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit([*options, "2"]) == 0
    folder = tmp_path / "run" / "checkpoints"
    whole = weights(folder / "last.ckpt")
    newest = max(folder.glob("epoch*.ckpt"), key=lambda p: p.name)
    last = (folder / "last.ckpt").read_bytes()
    (folder / "last.ckpt").write_bytes(last[: len(last) // 2])
    assert newest_checkpoint(folder) == str(newest)
    assert f"warning: last.ckpt cannot be read; the training goes on from {newest}" in capsys.readouterr().err
    (tmp_path / "run" / "finished.json").unlink()
    newest.write_bytes(b"")  # only the first epoch's is left
    assert fit([*options, "2"]) == 0
    assert_same(whole, weights(folder / "last.ckpt"))
    for path in folder.glob("*.ckpt"):
        path.write_bytes(b"")
    (tmp_path / "run" / "finished.json").unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* can be gone on from"):
        fit([*options, "2"])


def test_one_flipped_bit_is_damage(options: list[str], tmp_path: Path) -> None:
    fit([*options, "1"])
    path = tmp_path / "run/checkpoints/last.ckpt"
    assert checkpoint_files.is_whole(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert not checkpoint_files.is_whole(path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: Any) -> None:
    writer, path = checkpoint_files.WholeCheckpoints(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"a": 1}, path)

    def full(_: Any, out: Any) -> None:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files.torch, "save", full)
    with pytest.raises(UserError, match="No space left"):
        writer.save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}


def test_limits() -> None:
    limits = Limits(epochs=3, steps=-1, seconds=None)
    assert not limits.reached(2, 100, 5.0) and limits.reached(3, 0, 0.0)
    assert Limits(-1, 10, 60.0).reached(0, 0, 60.0) and not Limits(None, -1, None).reached(9, 9, 9.0)


def test_the_last_epoch_is_kept_though_it_is_not_among_the_best(options: list[str], tmp_path: Path) -> None:
    assert fit([*options, "3", "--checkpoint.save_top_k", "1", "--checkpoint.monitor", "epoch"]) == 0
    checkpoints = tmp_path / "run/checkpoints"
    assert [torch.load(path, weights_only=True)["epoch"] for path in sorted(checkpoints.glob("*.ckpt"))] == [0, 2]


def test_the_time_budget_counts_all_starts(fit_config: Path, tmp_path: Path, capsys: Any) -> None:
    options = ["--config", str(fit_config), "--trainer.max_epochs", "100000", "--trainer.max_time"]
    assert fit([*options, "00:00:00:02"]) == 0
    steps = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    capsys.readouterr()
    assert fit([*options, "00:00:00:02"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert fit([*options, "00:00:00:03"]) == 0
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] > steps
    assert 3.0 <= checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"] < 5.0


def test_the_rest_of_an_epoch_needs_as_many_devices() -> None:
    def checkpoint(last: bool) -> dict[str, Any]:
        return {"parlab_world_size": 2, "loops": {"fit_loop": {"epoch_loop.batch_progress": {"is_last_batch": last}}}}

    check_devices(checkpoint(True), 1)
    check_devices(checkpoint(False), 2)
    with pytest.raises(UserError, match="on 2 devices, and there are 1"):
        check_devices(checkpoint(False), 1)


def test_a_folder_of_nothing_but_a_configuration_starts_anew(options: list[str], tmp_path: Path) -> None:
    """As a training leaves it that was killed in its first epoch."""
    assert fit([*options, "1"]) == 0
    for name in ("checkpoints", "model"):
        shutil.rmtree(tmp_path / "run" / name)
    assert fit([*options, "1", "--model.optim.lr", "0.002"]) == 0
    assert yaml.safe_load((tmp_path / "run/fit.yaml").read_text())["model"]["optim"]["lr"] == 0.002
