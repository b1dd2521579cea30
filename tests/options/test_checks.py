"""Numbers and files of options, in every command: refused before the work, or read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from parlab.cli import main
from parlab.commands.predict.options import PredictOptions
from parlab.commands.sweep.options import SweepOptions
from tests.helpers import lines

HERE = ["--model", "m", "--data", "d", "--out", "o"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sweep", *HERE, "--limit", "0"], "the option limit is 0, expected more than 0"),
        (["sweep", *HERE, "--batch_size", "0"], "the option batch_size is 0"),
        (["sweep", *HERE, "--repeats", "-1"], "the option repeats is -1, expected a number from 0"),
        (["sweep", *HERE, "--sample", "-1"], "the option sample is -1"),
        (["sweep", *HERE, "--seed", "-1"], "the option seed is -1"),
        (["sweep", *HERE, "--timed_utterances", "-1"], "the option timed_utterances is -1"),
        (["sweep", *HERE, "--memory_gib", "-1"], "the option memory_gib is -1"),
        (["sweep", *HERE, "--devices", "0"], "the option devices is 0"),
        (["sweep", *HERE, "--accelerator", "foo"], "the accelerator 'foo' does not fit"),
        (["sweep", *HERE, "--wandb_layout", "rows"], "the W&B layout is 'rows'"),
        (["predict", *HERE, "--workers", "-1"], "the option workers is -1"),
        (["predict", *HERE, "--seed", "-1"], "the option seed is -1"),
        (["predict", *HERE, "--max_seconds", ".nan"], "the option max_seconds is nan"),
        (["predict", *HERE, "--piece_seconds", "0"], "the option piece_seconds is 0"),
        (["predict", *HERE, "--trainer.fast_dev_run", "true"], "trainer.fast_dev_run is True"),
        (["predict", *HERE, "--trainer.limit_predict_batches", "2"], "trainer.limit_predict_batches is 2"),
        (["predict", *HERE, "--trainer.overfit_batches", "1"], "trainer.overfit_batches is"),
        (["predict", *HERE, "--trainer.enable_progress_bar", "true"], "trainer.enable_progress_bar is True"),
        (["bench", "--repeats", "0"], "the option repeats is 0"),
        (["bench", "--threads", "0"], "the option threads is 0"),
        (["bench", "--seconds", "[0]"], "the option seconds has 0"),
        (["bench", "--parallel", "[0]"], "the option parallel has [0]"),
        (["bench", "--size", "tni"], "did you mean 'tiny'"),
    ],
)
def test_values_that_make_no_sense(
    argv: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_files_of_every_command_may_include_others(model: Path, data: Path, tmp_path: Path) -> None:
    """Paths are relative to the including file; YAML's bare off is W&B's."""
    (tmp_path / "base.yaml").write_text(f"model: {model}\ndata: {data}\nlimit: 3\nwandb: off\n")
    (tmp_path / "predict.yaml").write_text("include: base.yaml\nprogress: false\ndecoder: par\nlimit: 2\n")
    (tmp_path / "sweep.yaml").write_text("include: base.yaml\ndecoder: par\ntimed_utterances: 0\n")
    assert main(["predict", "--config", str(tmp_path / "predict.yaml"), "--out", str(tmp_path / "p")]) == 0
    assert len(lines(tmp_path / "p")) == 2
    read = SweepOptions.read(["--config", str(tmp_path / "sweep.yaml"), "--out", "s", "--decoder.beam_size", "1,2"])
    assert (read.limit, read.wandb, read.timed_utterances, read.grid) == (3, "off", 0, {"beam_size": [1, 2]})
    (tmp_path / "show.yaml").write_text("show: 0\n")
    (tmp_path / "compare.yaml").write_text("include: [show.yaml]\nreplicates: 100\n")
    shutil.copytree(tmp_path / "p", tmp_path / "q")
    folders = [str(tmp_path / "p"), str(tmp_path / "q")]
    assert main(["compare", *folders, "--config", str(tmp_path / "compare.yaml")]) == 0


def test_off_as_yaml_reads_it(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("wandb: off\n")
    argv = [*HERE, "--config", str(tmp_path / "c.yaml")]
    assert PredictOptions.parsed(PredictOptions.parser().read_with_decoder(argv)).wandb == "off"
