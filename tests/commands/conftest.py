"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlab.cli import main


@pytest.fixture(scope="module")
def folders(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Predictions of a tiny model: greedy, AR and PAR."""
    out = tmp_path_factory.mktemp("predictions")
    options = {"greedy": [], "ar": ["--decoder.beam_size", "3"]}
    options["par"] = ["--decoder.threshold", "0.999", "--decoder.beam_size", "3"]
    for name, more in options.items():
        arguments = ["--model", str(model), "--data", str(data), "--out", str(out / name), "--decoder", name, *more]
        assert main(["predict", *arguments, "--wandb", "off", "--progress", "false"]) == 0
    return [out / name for name in options]
