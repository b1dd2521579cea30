"""Shipped configurations and the shipped model are found by name, files of the user first."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlab.errors import UserError
from parlab.options import resources
from parlab.options.compose import expand, read
from parlab.options.resources import configs, find_config, resolve_config, shipped_model

ROOT = Path(__file__).resolve().parents[2]


def test_in_this_checkout() -> None:
    assert configs() == ROOT / "configs"
    assert shipped_model() == ROOT / "recipes" / "an4" / "model"


def test_in_an_installed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PACKAGE", tmp_path)
    (tmp_path / "configs" / "decoder").mkdir(parents=True)
    (tmp_path / "configs" / "decoder" / "par.yaml").touch()
    (tmp_path / "models" / "an4").mkdir(parents=True)
    (tmp_path / "models" / "an4" / "config.yaml").touch()
    assert resolve_config("decoder/par.yaml") == str(tmp_path / "configs" / "decoder" / "par.yaml")
    assert shipped_model() == tmp_path / "models" / "an4"


def test_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "parlab")
    with pytest.raises(UserError, match="expected the one that parlab ships"):
        shipped_model()


def test_a_file_of_the_user_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_config("decoder/par.yaml") == str(ROOT / "configs/decoder/par.yaml")
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "par.yaml").touch()
    assert resolve_config("decoder/par.yaml") == "decoder/par.yaml"
    assert find_config("decoder/par.yaml") == Path("decoder/par.yaml")
    assert find_config("decoder/ar.yaml", tmp_path) == ROOT / "configs/decoder/ar.yaml"


@pytest.mark.parametrize("text", ["nowhere.yaml", "decoder: par\nbatch_size: 3\n", "x" * 5000, "", "\0"])
def test_anything_else_stays(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_config(text) == text


def test_includes_and_configs_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("include: [model/conformer_s.yaml, trainer/cpu.yaml]\nseed_everything: 7\n")
    merged = read("mine.yaml")
    assert merged.model.network.encoder_conf.output_size == 144
    assert merged.trainer.accelerator == "cpu" and merged.seed_everything == 7
    assert expand(["--config", "model/conformer_s.yaml"]) == expand(
        ["--config", str(ROOT / "configs/model/conformer_s.yaml")]
    )
