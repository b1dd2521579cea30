"""Imports only point down, only one file imports espnet, and importing parlab is quick."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The table of docs/architecture.md; the longest prefix counts.
FLOORS = {
    "parlab.types": 0,
    "parlab.errors": 0,
    "parlab.data": 1,
    "parlab.text": 1,
    "parlab.metrics": 1,
    "parlab.synth": 1,
    "parlab.model": 2,
    "parlab.decode": 3,
    "parlab.recognition": 4,
    "parlab.predictions": 4,
    "parlab.tracking": 4,
    "parlab.options": 4,
    "parlab.commands": 5,
    "parlab.api": 6,
    "parlab.cli": 6,
    "parlab.__main__": 6,
}
# Packages that only gather what is below them and hand it out: the names of strategies, and `parlab.load` (lazy).
GATHER = {"parlab.decode": 3, "parlab": 6}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "parlab").rglob("*.py"))
}


def floor(module: str) -> int | None:
    """The floor of a module; None for the package itself, which belongs to none."""
    if module in GATHER:
        return GATHER[module]
    parts = module.split(".")
    return next((FLOORS[p] for n in range(len(parts), 0, -1) if (p := ".".join(parts[:n])) in FLOORS), None)


def imports(module: str, for_types: bool = True) -> list[tuple[int, str]]:
    """Every module that a module imports, anywhere in it (also inside functions), with the line.

    ``for_types`` includes what stands under ``if TYPE_CHECKING``. A string that names a module of espnet counts:
    it is for ``importlib``.
    """
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[tuple[int, str]] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    skipped = set() if for_types else {id(inner) for check in checks for inner in ast.walk(check)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and re.fullmatch(r"espnet(2|ez)?(\.\w+)+", str(node.value)):
            found.append((node.lineno, str(node.value)))
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            # `from parlab.decode import beam` imports parlab.decode.beam, where that is a module
            found += [
                (node.lineno, f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base)
                for alias in node.names
            ]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    own = floor(module)
    assert own is not None, f"{module} has no floor; add it to docs/architecture.md and to this test"
    for line, name in imports(module):
        if name == "parlab" or name.startswith("parlab."):
            other = 0 if name == "parlab" else floor(name)  # `from parlab import __version__`
            assert other is not None, f"{module}:{line} imports {name}, which has no floor"
            assert other <= own, f"{module}:{line} (floor {own}) imports {name} (floor {other})"


def test_no_circles() -> None:
    graph = {
        m: {n for _, n in imports(m, for_types=False) if n in MODULES and n != m} for m in MODULES if m != "parlab"
    }

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' -> '.join([*path[path.index(module) :], module])}"
        for other in graph.get(module, ()):
            if other not in done:
                visit(other, (*path, module))
        done.add(module)

    done: set[str] = {m for m in MODULES if m in GATHER}
    for module in graph:
        visit(module, ())


def test_only_one_file_imports_espnet() -> None:
    users = {m for m in MODULES for _, name in imports(m) if name.split(".")[0] in ("espnet", "espnet2", "espnetez")}
    assert users <= {"parlab.model.families.espnet"}


def test_this_test_sees_what_importlib_is_given() -> None:
    assert any(name.startswith("espnet") for _, name in imports("parlab.model.families.espnet"))


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("import parlab", 1.0),
        (
            "import sys; sys.argv = ['parlab', '--help']; import runpy; "
            "runpy.run_module('parlab', run_name='__main__')",
            3.0,
        ),
    ],
)
def test_quick_to_import(code: str, limit: float) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < limit  # the best of three: other work on the machine does not count
