"""Draft heads that are broken, or that belong to another model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from parlab.model.folder import read_model
from parlab.model.heads.folder import write_head
from parlab.model.heads.making import make_head
from parlab.model.heads.network import HeadOptions
from parlab.text.tokenizer import Tokenizer
from tests.bad_inputs.case import Case, Make
from tests.bad_inputs.commands import PREDICT
from tests.whisper import write_whisper

GREEDY = (*PREDICT[3:], "--head", "{}/h", "--decoder", "greedy")
HEADED = ("predict", "--model", "{}/w", *GREEDY)
TEACH = ("fit", "--kind", "head", "--data.train", "{}/d/data.jsonl", "--data.dev", "{}/d/data.jsonl", "--wandb", "off")


def head(change: Callable[[Path], Any], model: str = "w") -> Make:
    """A head ``h`` of a model, changed; the models are ``w`` and ``other`` (Whisper) and ``m`` (ESPnet's)."""

    def make(folder: Path) -> None:
        write_whisper(folder / "w")
        write_whisper(folder / "other", seed=1)
        net, _ = read_model(folder / model)
        torch.manual_seed(0)
        options = HeadOptions(width=16, heads=2, kernel=3, clones=0 if model == "m" else 1)
        letters = Tokenizer(["<blank>", "<space>", "a", "\u00c9"], "char")
        write_head(make_head(options, net, 4), letters, net, folder / "h", "A head")
        change(folder / "h")

    return make


def _yaml(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = yaml.safe_load((folder / "head.yaml").read_text())
        (folder / "head.yaml").write_text(yaml.safe_dump({**config, **changes}))

    return change


def _keys(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "head.safetensors")
    save_file(dict(list(state.items())[2:]), folder / "head.safetensors")


def _nothing(folder: Path) -> None:
    """The head stays as it is."""


CASES = [
    *(
        Case(f"a draft head: {name}", HEADED, head(change, model), message=message)
        for name, change, model, message in (
            ("of another model", _nothing, "other", "belongs to another model"),
            (
                "no text in its vocabulary",
                lambda f: (f / "tokens.txt").write_text("<blank>\n<x>\n<y>\n<z>\n"),
                "w",
                "no token with a text",
            ),
            ("keys missing", _keys, "w", "2 keys missing"),
            ("no sizes of its clones", _yaml(clone_sizes=None), "w", "clone_sizes is None"),
            ("more clones than blocks", _yaml(network={"clones": 9}), "w", "9 clones, but the encoder only 2"),
            ("no folder", lambda f: f.rename(f.with_name("gone")), "w", "no draft head at"),
        )
    ),
    Case(
        "a draft head: a vocabulary that cannot spell",
        ("predict", "--model", "{}/m", *GREEDY),
        head(_nothing, "m"),
        message="cannot spell",
    ),
    Case(
        "a draft head in sweep: of another model",
        (
            *("sweep", "--model", "{}/w", "--head", "{}/h", "--data", "{}/d/data.jsonl", "--out", "{}/s"),
            *("--decoder", "greedy", "--wandb", "off"),
        ),
        head(_nothing, "other"),
        message="belongs to another model",
    ),
    Case(
        "a draft head in transcribe: no folder",
        ("transcribe", "{}/d/u0.wav", "--model", "{}/m", "--head", "{}/h"),
        message="no draft head at",
    ),
    Case("a head to teach: no model", TEACH, message="expected model.base"),
    Case("a head to teach: no such model", (*TEACH, "--model.base", "{}/gone"), message="gone"),
    Case(
        "a head to teach: blocks that cannot be cloned",
        (*TEACH, "--model.base", "{}/m", "--model.head.clones", "1"),
        message="cannot be cloned",
    ),
    Case(
        "a head to teach: labels of nobody",
        (*TEACH, "--model.base", "{}/m", "--data.labels", "{}/gone"),
        message="expected a folder that `predict --out` wrote",
    ),
    Case("a head to teach: a kind that is none", ("fit", "--kind", "heat"), message="did you mean 'head'"),
]
