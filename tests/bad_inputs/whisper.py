"""Whisper folders that are broken, and what Whisper models cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from tests.bad_inputs.case import Case, Make
from tests.bad_inputs.commands import PREDICT
from tests.whisper import write_whisper

WHISPER = ("predict", "--model", "{}/w", *PREDICT[3:])


def whisper(change: Callable[[Path], Any] = lambda folder: None, **options: Any) -> Make:
    """A tiny Whisper model in ``w``, changed."""

    def make(folder: Path) -> None:
        write_whisper(folder / "w", **options)
        change(folder / "w")

    return make


def _json(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))

    return change


def _weights(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")

    return write


def _long(folder: Path) -> None:
    soundfile.write(folder.parent / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(40000), 16000)


FOLDERS = [
    Case(f"a Whisper folder: {name}", WHISPER, whisper(change), message=message)
    for name, change, message in (
        ("no tokenizer", lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        ("a tokenizer that is text", lambda f: (f / "tokenizer.json").write_text("hello"), "tokenizer cannot be read"),
        ("a tokenizer with more tokens", _json("config.json", vocab_size=300), "352 tokens, but the model 300"),
        ("no weights", lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
        ("weights that are text", lambda f: (f / "model.safetensors").write_text("weights"), "cannot be read"),
        ("half of the weights", lambda f: _half(f / "model.safetensors"), "cannot be read"),
        ("keys missing", _weights(lambda s: dict(list(s.items())[3:])), "3 keys missing"),
        ("a key too many", _weights(lambda s: {**s, "more.weight": torch.zeros(2)}), "1 unexpected"),
        (
            "weights of another shape",
            _weights(lambda s: {k: v[:1].clone() for k, v in s.items()}),
            "has shape",
        ),
        ("weights that are no numbers", _weights(lambda s: {k: v * float("nan") for k, v in s.items()}), "NaN"),
        ("a shard missing", lambda f: _index(f, {"a": "gone.safetensors"}), "gone.safetensors, which is not there"),
        ("an index of nothing", lambda f: _index(f, {}), "no 'weight_map'"),
        ("a config that is no JSON", lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        ("a config that is a list", lambda f: (f / "config.json").write_text("[1]"), "holds no mapping"),
        ("another model", _json("config.json", model_type="wav2vec2"), "of type 'wav2vec2', expected 'whisper'"),
        ("no type", lambda f: (f / "config.json").write_text("{}"), "expected 'whisper'"),
        ("a width that is a word", _json("config.json", d_model="wide"), "config.json"),
        ("heads that do not divide", _json("config.json", decoder_attention_heads=5), "config.json"),
        ("other bands", _json("preprocessor_config.json", feature_size=128), "makes 128 mel bands"),
        ("bands that are a word", _json("preprocessor_config.json", feature_size="80"), "feature_size is '80'"),
        ("suppressed words", _json("generation_config.json", begin_suppress_tokens="a"), "begin_suppress_tokens is a"),
        ("a negative count", _json("generation_config.json", max_initial_timestamp_index=-1), "whole number from 0"),
        ("another window", _json("preprocessor_config.json", chunk_length=30), "makes 3000 frames of a window"),
    )
]


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _index(folder: Path, names: dict[str, str]) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names} if names else {}))


USES = [
    *(
        Case(f"Whisper without CTC: {name}", (*WHISPER, "--decoder", name), whisper(), message="no CTC head")
        for name in ("greedy", "ctc_beam", "rescore", "ar", "par", "speculative")
    ),
    Case("Whisper: a language it lacks", (*WHISPER, "--language", "xx"), whisper(), message="no language 'xx'"),
    Case("Whisper: a task it lacks", (*WHISPER, "--task", "st_deu"), whisper(), message="no task 'st_deu'"),
    Case(
        "English-only Whisper: a language",
        (*WHISPER, "--language", "de"),
        whisper(multilingual=False),
        message="no language 'de'",
    ),
    Case(
        "English-only Whisper: auto",
        (*WHISPER, "--language", "auto"),
        whisper(multilingual=False),
        message="no language symbols",
    ),
    Case(
        "Whisper: audio over the window",
        (
            "predict",
            "--model",
            "{}/w",
            "--data",
            "{}/long.wav",
            "--out",
            "{}/o",
            "--wandb",
            "off",
            "--progress",
            "false",
        ),
        whisper(_long),
        status=1,
        message="cut it at pauses",
    ),
    Case(
        "Whisper: an ending it lacks",
        (*WHISPER, "--decoder", "ar", "--decoder.ending", "hf"),
        whisper(),
        message="ending",
    ),
    Case(
        "Whisper: fine-tuned",
        ("fit", "--model.init", "{}/w", "--data.train", "{}/d/data.jsonl", "--data.dev", "{}/d/data.jsonl"),
        whisper(),
        message="not trained here",
    ),
]
