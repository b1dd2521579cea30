"""Files of weights, broken and malicious."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.errors import UserError
from parlab.model.checkpoint import CHECKPOINT_KEY, checkpoint_entry
from parlab.model.folder import read_model, write_model
from parlab.text.tokenizer import Tokenizer
from tests.models import tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tiny_model(0)
    return write_model(model, Tokenizer(model.token_list, "char"), tmp_path / "model")


def checkpoint(path: Path, change: Callable[[dict[str, Any]], Any] = lambda entries: entries) -> Path:
    """What ``fit`` writes, less Lightning's own entries."""
    model = tiny_model(0)
    entry = checkpoint_entry(model, Tokenizer(model.token_list, "char"))
    state = {f"net.{k}": v for k, v in model.state_dict().items()}
    torch.save(change({CHECKPOINT_KEY: entry, "state_dict": state}), path)
    return path


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped: bool, folder: Path, tmp_path: Path) -> None:
    trap = {"x": Evil(tmp_path / "ran")}
    for path in (folder / "model.pth", tmp_path / "a.ckpt"):
        torch.save(trap, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(UserError, match="wanted to run code") as found:
            read_model(path)
        assert "\n" not in str(found.value) and "download" not in str(found.value)
    for protocol in range(6):
        (folder / "model.pth").write_bytes(pickle.dumps(trap, protocol))
        with pytest.raises(UserError, match="wanted to run code"):
            read_model(folder)
    assert not (tmp_path / "ran").exists()


def test_empty_and_broken_files(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "model.pth", checkpoint(tmp_path / "a.ckpt")):
        whole = path.read_bytes()
        for content, reason in (
            (b"", "is empty"),
            (whole[:2000], "cannot be read"),
            (b"hello there", "cannot be read"),
        ):
            path.write_bytes(content)
            with pytest.raises(UserError, match=reason) as found:
                read_model(path)
            assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entries: [1, 2], f"lacks '{CHECKPOINT_KEY}'"),
        (lambda entries: {}, f"lacks '{CHECKPOINT_KEY}'"),
        (lambda entries: {**entries, CHECKPOINT_KEY: [1]}, f"lacks '{CHECKPOINT_KEY}'"),
        (lambda entries: {CHECKPOINT_KEY: entries[CHECKPOINT_KEY]}, "lacks 'state_dict'"),
    ],
)
def test_other_checkpoints(change: Callable[[dict[str, Any]], Any], reason: str, tmp_path: Path) -> None:
    assert read_model(checkpoint(tmp_path / "good.ckpt"))[0].vocab_size == 21
    with pytest.raises(UserError, match=reason):
        read_model(checkpoint(tmp_path / "a.ckpt", change))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, folder: Path, tmp_path: Path) -> None:
    """The first tensor is named."""

    def spoil(entries: dict[str, Any]) -> dict[str, Any]:
        entries["state_dict"]["net.ctc.ctc_lo.bias"][2] = value
        return entries

    state = torch.load(folder / "model.pth", weights_only=True)
    state["ctc.ctc_lo.bias"][2] = value
    torch.save(state, folder / "model.pth")
    for path in (folder, checkpoint(tmp_path / "a.ckpt", spoil)):
        with pytest.raises(UserError, match=r"not finite: ctc\.ctc_lo\.bias has 1 of 21"):
            read_model(path)
