"""The commands of ``recipes/whisper``, from audio to a head, on a tiny model with a window of 1 s."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parlab.cli import main
from tests.helpers import lines, manifest
from tests.whisper import write_whisper

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "whisper"
SMALL = ["--data.min_count", "1", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]


def test_from_audio_to_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whisper(tmp_path / "w", seed=5)
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for name, count in (("train", 8), ("dev", 2)):
        entries = []
        for i in range(count):
            soundfile.write(tmp_path / "audio" / f"{name}{i}.wav", 0.2 * rng.standard_normal(12000), 16000)
            entries.append(
                {"id": f"{name}{i}", "audio_filepath": f"{name}{i}.wav", "duration": 0.75, "text": "THE CAT"}
            )
        manifest(tmp_path / "audio", entries).rename(tmp_path / "audio" / f"{name}.jsonl")
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```bash\n(.*?)```", (RECIPE / "README.md").read_text(), re.DOTALL)
    commands = [
        shlex.split(line, comments=True)
        for line in block.replace("\\\n", " ").replace("openai/whisper-tiny.en", str(tmp_path / "w")).splitlines()
        if not line.startswith("#")
    ]
    assert [command[3] for command in commands] == ["predict", "fit", "predict"]
    for command in commands:
        arguments = [str(RECIPE / "head.yaml") if a == "recipes/whisper/head.yaml" else a for a in command[3:]]
        if arguments[0] == "fit":
            labels = tmp_path / "runs" / "labels" / "train" / "hypotheses.jsonl"
            heard = [{**line, "text": "The cat."} for line in lines(labels.parent)]  # a random model hears noise
            labels.write_text("".join(json.dumps(line) + "\n" for line in heard))
            arguments += ["--model.base", str(tmp_path / "w"), *SMALL]
        else:
            arguments += ["--progress", "false"]
        assert main([*arguments, "--wandb", "off"]) == 0
    assert len(lines(tmp_path / "runs" / "whisper_draft")) == 2
    assert "8 utterances" in (tmp_path / "runs" / "whisper_head" / "head" / "README.md").read_text()
