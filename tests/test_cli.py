"""The command line: help, exit statuses, the time to an answer."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import parlab
from parlab import cli
from parlab.errors import UserError

ROOT = Path(__file__).parents[1]


def quickest(*arguments: str) -> float:
    """Seconds of the fastest of three runs: the machine may be busy."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def test_help_is_quick_and_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.COMMANDS)
    assert quickest("-m", "parlab", "--help") < 3


def test_import_is_quick_and_leaves_torch_alone() -> None:
    assert quickest("-c", "import parlab") < 1
    check = "import sys, parlab; assert not {'torch', 'espnet', 'espnet2', 'lightning', 'lhotse'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_version_also_as_a_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The ``parlab`` script calls ``main()`` without arguments."""
    monkeypatch.setattr(sys, "argv", ["parlab", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"parlab {parlab.__version__}\n"


def test_every_command_can_be_imported() -> None:
    import importlib

    for target, _ in cli.COMMANDS.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predcit"]) == 2
    assert "did you mean 'predict'" in capsys.readouterr().err
    assert cli.main([]) == 2


def command(monkeypatch: pytest.MonkeyPatch, error: BaseException, context: BaseException | None = None) -> int:
    """The exit status of a command that raises ``error`` while handling ``context``."""

    def run(argv: list[str]) -> int:
        try:
            if context is not None:
                raise context
        except BaseException:
            raise error  # noqa: B904 (the context is what is tested)
        raise error

    module = type(sys)("parlab_test_command")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parlab_test_command", module)
    monkeypatch.setitem(cli.COMMANDS, "test", ("parlab_test_command:run", ""))
    return cli.main(["test"])


def test_exit_statuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, UserError("the file x is empty")) == 2
    assert capsys.readouterr().err == "parlab: the file x is empty\n"
    assert command(monkeypatch, RuntimeError("wrapped"), UserError("the sentence inside")) == 2
    assert capsys.readouterr().err == "parlab: the sentence inside\n"
    assert command(monkeypatch, KeyboardInterrupt()) == 130
    assert command(monkeypatch, SystemExit(1), KeyboardInterrupt()) == 130  # what Lightning makes of Ctrl-C
    with pytest.raises(SystemExit):
        command(monkeypatch, SystemExit(3))
    with pytest.raises(ZeroDivisionError):  # a defect of ours is not hidden
        command(monkeypatch, ZeroDivisionError())


def test_a_reader_that_leaves_is_no_defect() -> None:
    """``python -m parlab COMMAND | head``."""
    code = (
        "import sys\nfrom parlab import cli\n"
        "module = type(sys)('test_command')\n"
        "module.run = lambda argv: [print('line', flush=True) for _ in range(100000)] and 0\n"
        "sys.modules['test_command'] = module\n"
        "cli.COMMANDS['test'] = ('test_command:run', '')\n"
        "sys.exit(cli.main(['test']))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""


def test_importing_main_does_nothing() -> None:
    subprocess.run([sys.executable, "-c", "import parlab.__main__"], cwd=ROOT, check=True, timeout=60)
