"""``--help``: quick, short, and complete."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from parlab import cli
from parlab.decode import DECODERS
from parlab.options.help import PARTS, all_asked, decoder_help
from parlab.options.parser import Parser
from parlab.options.sources import find_decoders

ROOT = Path(__file__).resolve().parents[2]
# Commands that read their options with ``Parser``, with what they need to get there.
PARSED = {"slurm": ["--", "predict"]} | {name: [] for name in PARTS if name not in {"demo", "slurm"}}
LIGHTNING = ("--help", "--trainer", "--checkpoint", "--early_stopping", "--print_config", "--decoder.help")


def shown(command: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert cli.main([command, *(more or ("--help",))]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_two_pages_at_most(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(command, capsys).splitlines()
    assert 5 < len(lines) <= 100
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: python -m parlab {command}")
    assert not any(line.startswith("  --trainer.") for line in lines)


def test_nothing_slow_is_imported() -> None:
    """In a process of its own, for every command."""
    code = (
        "import sys; from parlab import cli\n"
        "for name in cli.COMMANDS: assert cli.main([name, '--help']) == 0\n"
        "assert cli.main(['predict', '--decoder.help', 'par']) == 0\n"
        "assert not {'torch', 'lightning', 'jsonargparse', 'numpy', 'rich'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "parlab", "fit", "-h"], cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 2


@pytest.mark.parametrize("command", PARSED)
def test_every_option_of_the_parser_is_listed(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no other; Lightning's are behind ``--help all``."""

    class Seen(Exception):
        pass

    def parse(self: Any, *_: Any, **__: Any) -> None:
        raise Seen([option for action in self._actions for option in action.option_strings])

    words = {line.split()[0] for line in shown(command, capsys).splitlines() if line.startswith("  --")}
    monkeypatch.setattr(Parser, "parse_args", parse)
    with pytest.raises(Seen) as seen:
        cli.main([command, *PARSED[command]])
    options = {option for option in seen.value.args[0] if option.startswith("--") and not option.endswith("+")}
    own = {option for option in options if not option.startswith(LIGHTNING)}
    groups = {option for option in own if any(other.startswith(f"{option}.") for other in own)}
    assert words - own == set()
    assert own - groups - words == set()


def test_all_lists_lightnings_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert all_asked(["--help", "all"]) and not all_asked(["--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "--help", "all"])
    assert ended.value.code == 0
    assert "--trainer.limit_train_batches" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["predict", "transcribe", "sweep"])
def test_options_of_decoders_by_the_short_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(command, capsys, "--decoder.help", "par")
    assert "--decoder.ctc_mode" in found and "rescore" in found and "(default 0.9)" in found
    assert found == shown(command, capsys, "--decoder.help=par") == decoder_help("par")
    every = shown(command, capsys, "--decoder.help")
    assert all(f"  {name} " in every for name in DECODERS)
    assert cli.main([command, "--decoder.help", "parr"]) == 2
    assert "did you mean 'par'" in capsys.readouterr().err


def test_decoders_are_found_in_their_order() -> None:
    assert list(find_decoders()) == list(DECODERS)


def test_what_follows_two_dashes_belongs_to_another_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["slurm", "--", "predict", "--help"]) == 0
    assert "#SBATCH" in capsys.readouterr().out
