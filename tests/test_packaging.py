"""What is imported is declared; what is pinned works for CUDA too; nothing names a machine."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Import names that differ from the distribution's.
DISTRIBUTIONS = {"yaml": "pyyaml"}
# Optional, with a clear error where they are missing; espnet is installed with --no-deps.
OPTIONAL = {"espnet", "espnet2", "kenlm", "peft", "tokenizers", "torchaudio", "transformers", "wandb_workspaces"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    return {normal(re.split(r"[<>=!~\[; ]", entry)[0]) for entry in PROJECT["dependencies"]}


def test_every_import_is_declared() -> None:
    used: dict[str, Path] = {}
    for path in (ROOT / "parlab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            used |= {name.split(".")[0]: path for name in names}
    foreign = used.keys() - sys.stdlib_module_names - {"parlab"} - OPTIONAL
    assert foreign, "the test sees no imports"
    for name in foreign:
        assert normal(DISTRIBUTIONS.get(name, name)) in declared(), f"{used[name]} imports {name}: declare it"


def test_constraints_pin_what_is_declared_and_no_cuda_and_no_place() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line[:1] not in ("", "#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)  # no path, no host, no +cpu
    pinned = {normal(line.split("==")[0]) for line in lines}
    assert declared() <= pinned
    assert not [name for name in pinned if name.startswith(("nvidia", "cuda", "triton"))]
    assert "espnet" not in pinned


def test_compromised_releases_of_lightning_are_excluded() -> None:
    lightning = next(entry for entry in PROJECT["dependencies"] if entry.startswith("lightning"))
    assert "!=2.6.2" in lightning
    assert "!=2.6.3" in lightning


def test_ci_fails_without_the_real_speech(tmp_path: Path) -> None:
    copy = tmp_path / "clone" / ".ci" / "run"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((ROOT / ".ci" / "run").read_bytes())
    run = subprocess.run(["bash", str(copy)], capture_output=True, text=True)
    assert run.returncode != 0
    assert "../shared/data is absent" in run.stderr
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("pattern", [r"/(root|home/\w+)/", r"index-url|find-links"])
def test_no_place_of_a_machine_in_tracked_files(pattern: str) -> None:
    run = subprocess.run(
        ["git", "grep", "-IlE", pattern, "--", ".", ":!tests/test_packaging.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if run.returncode > 1:
        pytest.skip("not a git checkout")
    assert run.stdout == ""


def test_make_setup_shows_what_pip_does() -> None:
    """The first command of a new user downloads for minutes; a quiet pip looks like one that hangs."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    calls = re.findall(r"^\t.* -m pip install .*$", recipe, re.MULTILINE)
    assert len(calls) == 2
    assert not any(re.search(r"\s(-q+|--quiet|--progress-bar[= ]off)\b", call) for call in calls)
