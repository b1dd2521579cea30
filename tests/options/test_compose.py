"""Configurations made of parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from parlab.commands.fit.command import FitCLI, make_cli
from parlab.errors import UserError
from parlab.options.compose import expand, read


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_includes_are_merged_in_depth_and_relative_to_their_file(tmp_path: Path) -> None:
    write(
        tmp_path / "parts/base.yaml", "model: {network: {encoder: conformer, encoder_conf: {num_blocks: 8, size: 144}}}"
    )
    write(tmp_path / "parts/data.yaml", "include: [base.yaml]\ndata: {train: [a, b]}")
    file = write(
        tmp_path / "recipe/fit.yaml",
        "include: [../parts/data.yaml]\nmodel: {network: {encoder_conf: {num_blocks: 2}}}\ndata: {train: [c]}",
    )
    assert read(file) == {
        "model": {"network": {"encoder": "conformer", "encoder_conf": {"num_blocks": 2, "size": 144}}},
        "data": {"train": ["c"]},
    }


def test_files_and_deep_overrides_become_one_config(tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", "model: {network: {a: {x: 1, y: 2}}}\ntrainer: {max_epochs: 1}")
    two = write(tmp_path / "two.yaml", "model: {network: {a: {x: 3}}}")
    argv = ["--config", one, f"--config={two}", "--model.network.a.y", "7", "--model.network.b=[1]", "--data.dev", "d"]
    option, text, *rest = expand(argv)
    assert option == "--config" and rest == ["--data.dev", "d"]
    assert yaml.safe_load(text) == {
        "model": {"network": {"a": {"x": 3, "y": 7}, "b": [1]}},
        "trainer": {"max_epochs": 1},
    }


def test_arguments_without_a_config_stay() -> None:
    assert expand(["--help"]) == ["--help"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("include: fit.yaml", "includes itself"),
        ("a: [", "no valid YAML"),
        ("- a", "no mapping"),
        ("include: x.yaml", "x.yaml"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read(write(tmp_path / "fit.yaml", text))


def test_an_option_without_a_value() -> None:
    with pytest.raises(UserError, match="--config has no value"):
        expand(["--config"])


def test_interpolation_survives_an_override(tmp_path: Path) -> None:
    """In a plain option, in a list of callbacks and in an included file; the override is on the command line."""
    base = "trainer:\n  default_root_dir: runs/a\ncheckpoint: {monitor: dev/cer}\n"
    write(tmp_path / "base.yaml", base + 'early_stopping: {monitor: "${checkpoint.monitor}"}\n')
    file = write(
        tmp_path / "fit.yaml",
        "include: base.yaml\n"
        "model: {network: {encoder: conformer}}\n"
        "project: ${trainer.default_root_dir}/p\n"
        "trainer:\n"
        "  callbacks:\n"
        "    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n"
        "      init_args: {dirpath: '${trainer.default_root_dir}/extra'}\n",
    )
    out = tmp_path / "b"
    options = ["--trainer.default_root_dir", str(out), "--checkpoint.monitor", "dev/loss", "--wandb", "off"]
    config = make_cli(FitCLI, ["--config", file, *options]).config
    assert config.project == f"{out}/p"
    assert config.trainer.callbacks[0].init_args.dirpath == f"{out}/extra"
    assert config.early_stopping.monitor == "dev/loss"
    assert config.checkpoint.dirpath == f"{out}/checkpoints"
