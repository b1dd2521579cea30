"""Predictions that are broken or do not fit together, trainings without data, and calls of the Python API."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import parlab
from tests.bad_inputs.case import Case, Make
from tests.bad_inputs.commands import PREDICT


def prediction(change: Callable[[Path], Any]) -> Make:
    """The prediction ``q``, changed."""
    return lambda folder: change(folder / "q")


def _metrics(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, **changes}))

    return change


def _lines(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        lines = [json.loads(line) for line in (folder / "hypotheses.jsonl").read_text().splitlines()]
        (folder / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in change(lines)))

    return write


BROKEN = [
    Case(f"{argv[0]}: {name}", argv, prediction(change), message=message)
    for argv in (("compare", "{}/p", "{}/q"), ("report", "{}/p", "{}/q", "--out", "{}/r.html"))
    for name, change, message in (
        ("no metrics", lambda f: (f / "metrics.json").unlink(), "holds no prediction"),
        ("metrics of 0 bytes", lambda f: (f / "metrics.json").write_bytes(b""), "holds no prediction"),
        ("half of the metrics", lambda f: (f / "metrics.json").write_text('{"decoder"'), "holds no prediction"),
        ("metrics that are a list", lambda f: (f / "metrics.json").write_text("[1]"), "metrics.json"),
        ("metrics without a decoder", lambda f: (f / "metrics.json").write_text("{}"), "metrics.json"),
        ("a decoder that is a word", _metrics(decoder="par"), "metrics.json"),
        ("errors that are words", _metrics(wer={"rate": "high"}), "metrics.json"),
        ("no hypotheses", lambda f: (f / "hypotheses.jsonl").unlink(), "holds no prediction"),
        ("a line that is no JSON", lambda f: (f / "hypotheses.jsonl").write_text("x\n"), "line 1 is no utterance"),
        ("a line without id", _lines(lambda rows: [{"text": "a"}]), "line 1 is no utterance"),
        ("an id twice", _lines(lambda rows: [*rows, rows[0]]), "more than once"),
        ("an utterance missing", _lines(lambda rows: rows[1:]), "expected the 3"),
    )
]
COMPARED = [
    Case("compare: one prediction", ("compare", "{}/p"), message="expected at least two"),
    Case("compare: nothing", ("compare",), message="compare got no folder"),
    Case("compare: a folder that does not exist", ("compare", "{}/p", "{}/none"), message="holds no prediction"),
    Case("compare: a margin of 3", ("compare", "{}/p", "{}/q", "--margin", "3"), message="the margin is 3"),
    Case("compare: ten replicates", ("compare", "{}/p", "{}/q", "--replicates", "10"), message="replicates is 10"),
    Case(
        "compare: other references",
        ("compare", "{}/p", "{}/q"),
        prediction(_lines(lambda rows: [{**rows[0], "ref": "x"}, *rows[1:]])),
        message="different references",
    ),
    Case(
        "compare: another normaliser",
        ("compare", "{}/p", "{}/q"),
        prediction(_metrics(normalizer={"name": "lower", "version": "1"})),
        message="different normalizers",
    ),
    Case("report: nothing", ("report", "--out", "{}/r.html"), message=""),
    Case("report: audio that is no option", ("report", "{}/p", "--audio", "lnk"), message="did you mean 'link'"),
    Case("report: a workspace without a key", ("report", "--workspace", "a/b/c"), message="PROJECT"),
    Case(
        "rerun: broken metrics",
        ("rerun", "{}/q"),
        prediction(lambda f: (f / "metrics.json").write_text("{")),
        message="holds no prediction",
    ),
    Case("rerun: results are there already", ("rerun", "{}/p", "--out", "{}/q"), message="holds results already"),
    Case(
        "predict: a folder of others",
        PREDICT,
        lambda f: ((f / "o").mkdir(), (f / "o" / "thesis.tex").touch()),
        message="is not empty",
    ),
    Case(
        "predict: a broken identity",
        (*PREDICT[:-6], "--out", "{}/p", "--wandb", "off", "--progress", "false"),
        lambda f: (f / "p" / "identity.json").write_text("{"),
        message="identity.json cannot be read",
    ),
    Case(
        "predict: another configuration",
        (*PREDICT[:-6], "--out", "{}/p", "--wandb", "off", "--progress", "false", "--decoder", "ar"),
        message="another configuration",
    ),
]
FIT = [
    Case("fit: no model", ("fit", "--data.train", "{}/d/data.jsonl"), message="no model to train"),
    *(
        Case(
            f"fit: {name}",
            ("fit", "--model.init", "{}/m", *argv, "--wandb", "off", "--trainer.default_root_dir", "{}/f"),
            message=message,
        )
        for name, argv, message in (
            ("no data", (), "no training data"),
            ("no development data", ("--data.train", "{}/d/data.jsonl"), "no development data"),
            (
                "data that do not exist",
                ("--data.train", "{}/none.jsonl", "--data.dev", "{}/d/data.jsonl"),
                "does not exist",
            ),
            ("a misspelt option", ("--data.trian", "x"), "did you mean '--data.train'"),
            (
                "a learning rate of 0",
                ("--data.train", "{}/d/data.jsonl", "--model.optim.lr", "0"),
                "the learning rate is 0",
            ),
            (
                "a schedule that does not exist",
                ("--data.train", "{}/d/data.jsonl", "--model.optim.decay", "cosin"),
                "did you mean 'cosine'",
            ),
            ("a config that does not exist", ("--config", "none.yaml"), "none.yaml"),
        )
    ),
    Case(
        "fit: W&B that does not exist",
        (
            *("fit", "--model.init", "{}/m", "--trainer.default_root_dir", "{}/f"),
            *("--data.train", "{}/d/data.jsonl", "--data.dev", "{}/d/data.jsonl", "--wandb", "onlin"),
        ),
        message="did you mean 'online'",
    ),
]


def _transcribe(audio: Callable[[], Any], **options: Any) -> Make:
    return lambda folder: parlab.load(folder / "m", device="cpu").transcribe(audio(), **options)


API = [
    Case(f"transcribe: {name}", make=_transcribe(audio, **options), message=message)
    for name, audio, options, message in (
        ("a file that is missing", lambda: "none.wav", {}, "is missing"),
        ("a number", lambda: [3], {}, "the audio is a int"),
        ("None", lambda: [None], {}, "the audio is a NoneType"),
        ("three dimensions", lambda: np.zeros((2, 2, 2)), {}, "expected (samples,)"),
        ("channels first", lambda: np.zeros((2, 16000)), {}, "transpose it"),
        ("NaN", lambda: np.full(16000, np.nan), {}, "not finite"),
        ("unscaled integers", lambda: np.full(16000, 900.0), {}, "floats up to 900"),
        ("unsigned integers", lambda: np.zeros(16000, dtype=np.uint8), {}, "array of uint8"),
        ("words", lambda: np.array(["a", "b"]), {}, "an array of"),
        ("a rate of 0", lambda: (np.zeros(16000), 0), {}, "the rate of the audio is 0"),
        ("a rate that is a word", lambda: [(np.zeros(16000), "16k")], {}, "the rate of the audio is '16k'"),
        ("no samples", lambda: np.zeros(0), {}, "too short"),
        ("bytes that are no audio", lambda: io.BytesIO(b"x" * 99), {}, "cannot be decoded as audio"),
        ("an empty dictionary", dict, {}, "the audio is a dict"),
        ("a decoder that does not exist", lambda: np.zeros(16000), {"decoder": "parr"}, "did you mean 'par'"),
        ("an option that does not exist", lambda: np.zeros(16000), {"thresold": 1}, "did you mean 'threshold'"),
        ("a batch of none, in Python", lambda: np.zeros(16000), {"batch_size": 0}, "batch_size is 0"),
        ("a language", lambda: np.zeros(16000), {"language": "eng"}, "for S2T (OWSM, Whisper) models"),
        ("another way with errors", lambda: np.zeros(16000), {"errors": "skip"}, "errors is 'skip'"),
    )
] + [
    Case("load: nothing there", make=lambda f: parlab.load(f / "none"), message="no model at"),
    Case(
        "load: a device that does not exist",
        make=lambda f: parlab.load(f / "m", device="gpu"),
        message="the device is 'gpu'",
    ),
    Case(
        "load: a type that does not exist",
        make=lambda f: parlab.load(f / "m", dtype="bf16"),
        message="the dtype is 'bf16'",
    ),
]
