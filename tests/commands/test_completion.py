"""The completion script, in bash itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from parlab.cli import COMMANDS, main
from parlab.commands.completion import script
from parlab.decode import DECODERS


def completed(line: str, folder: Path) -> set[str]:
    """What bash offers at the end of a line."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f'{script()}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _parlab; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    run = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, cwd=folder)
    assert run.stderr == ""
    return set(run.stdout.split())


@pytest.mark.parametrize("program", ["parlab", "python -m parlab", ".venv/bin/parlab"])
def test_commands_options_and_decoders(program: str, tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").touch()
    assert completed(f"{program} ", tmp_path) == {*COMMANDS, "--help", "--version"}
    assert completed(f"{program} comp", tmp_path) == {"compare", "completion"}
    assert completed(f"{program} predict --decoder ", tmp_path) == set(DECODERS)
    assert completed(f"{program} predict --decoder sp", tmp_path) == {"speculative"}
    assert {"--batch_size", "--batch_seconds"} == completed(f"{program} predict --batch", tmp_path)
    assert "dev.jsonl" in completed(f"{program} predict --data d", tmp_path)
    assert completed(f"{program} compare --sh", tmp_path) == {"--show"}


def test_options_of_the_decoder_that_was_named(tmp_path: Path) -> None:
    line = "parlab predict --decoder ar --decoder.ctc"
    assert completed(line, tmp_path) == {"--decoder.ctc_weight", "--decoder.ctc_margin"}
    assert "--decoder.ctc_mode" in completed("parlab sweep --decoder par --model M --decoder.", tmp_path)


def test_other_programs_are_left_alone(tmp_path: Path) -> None:
    assert completed("python -m pytest --", tmp_path) == set()
    assert completed("python script.py --", tmp_path) == set()
    assert completed("parlab nothing --", tmp_path) == set()


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion"]) == 0
    assert capsys.readouterr().out == script()
    assert main(["completion", "--shell", "fish"]) == 2
    assert "expected bash or zsh" in capsys.readouterr().err
