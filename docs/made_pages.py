"""Pages of the site that are made from the code: commands, decoders, the Python interface; the recipes' results; a report.

MkDocs calls ``on_files`` (``mkdocs.yml``). Nothing of parlab's heavy imports is needed: sources are read with ``ast``, and the
report is made by a process of its own, once however often the site is built again.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from parlab.cli import COMMANDS  # noqa: E402
from parlab.options.help import command_options  # noqa: E402
from parlab.options.sources import Option, find_decoders, read_options, summary  # noqa: E402

# What the Python interface is: modules, and the names in them that are shown with their public methods.
PYTHON = {
    "parlab.api": ("load", "ASR"),
    "parlab.types": ("Hypothesis", "Segment", "Failure"),
    "parlab.errors": ("UserError",),
    "parlab.decode.base": ("Decoder",),
    "parlab.predictions.prediction": ("read_prediction", "Prediction"),
}
RESULTS = ("an4", "mini_librispeech")
REPORT = "results/example/report.html"


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for path, text in made_pages().items():
        files.append(File.generated(config, path, content=text))
    for name in RESULTS:
        for picture in sorted((ROOT / "recipes" / name / "pictures").glob("*")):
            files.append(File.generated(config, f"results/{name}/{picture.name}", abs_src_path=str(picture)))
    files.append(File.generated(config, REPORT, content=example_report()))
    return files


def made_pages() -> dict[str, str]:
    """Text of each page by its path."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/decoders.md": decoders_page(),
        "reference/python.md": python_page(),
        "results/example.md": example_page(),
    }
    return pages | {f"results/{name}.md": results_page(name) for name in RESULTS}


def commands_page() -> str:
    """Every command with its options."""
    parts = ["# Commands", "", "`python -m parlab COMMAND`, or `parlab COMMAND`. Every command has `--help`.", ""]
    for name, (_, about) in COMMANDS.items():
        parts += [f"## {name}", "", f"{about[0].upper()}{about[1:]}.", "", *_table(command_options(name)), ""]
    return "\n".join(parts)


def decoders_page() -> str:
    """Every decoder with its options."""
    parts = [
        "# Decoders",
        "",
        "`--decoder NAME --decoder.OPTION VALUE`; in Python `transcribe(..., decoder=NAME, OPTION=VALUE)`.",
        "",
    ]
    for name, source in find_decoders().items():
        parts += [f"## {name}", "", summary(source), "", *_table(read_options(source, "")), ""]
    return "\n".join(parts)


def _table(options: list[Option]) -> list[str]:
    if not options:
        return ["No options."]
    rows = ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    for o in options:
        kind = o.kind.replace("|", " or ")
        cells = [f"`{o.name}`", f"`{kind}`" if kind else "", f"`{o.default}`" if o.default else "", _cell(o.text)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _cell(text: str) -> str:
    """A docstring's text as a cell: code stays code, and nothing else is markup."""
    parts = re.split(r"``?([^`]+)``?", " ".join(text.split()))
    plain = (part.replace("<", "&lt;").replace("|", "&#124;") for part in parts)
    return "".join(f"`{parts[i]}`" if i % 2 else part for i, part in enumerate(plain))


def python_page() -> str:
    """Signatures and docstrings of the public names."""
    parts = ["# Python", "", "`import parlab`; errors that a user can mend are `parlab.errors.UserError`.", ""]
    for module, names in PYTHON.items():
        path = ROOT / f"{module.replace('.', '/')}.py"
        nodes = {n.name: n for n in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(n, "name")}
        for name in names:
            parts += _described(f"{module}.{name}", nodes[name], 2)
            if isinstance(nodes[name], ast.ClassDef):
                for node in nodes[name].body:
                    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node):
                        parts += _described(f"{name}.{node.name}", node, 3)
    return "\n".join(parts)


def _described(title: str, node: Any, level: int) -> list[str]:
    """A heading, the signature, and the docstring as it is written."""
    parts = [f"{'#' * level} {title}", ""]
    if isinstance(node, ast.FunctionDef):
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        parts += ["```text", f"{node.name}({ast.unparse(node.args)}){result}", "```", ""]
    elif fields := [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)]:
        parts += ["```text", *fields, "```", ""]
    return [*parts, "```text", ast.get_docstring(node) or "", "```", ""]


def results_page(name: str) -> str:
    """A recipe's page, its pictures beside it; links to other files of the repository become text."""
    text = (ROOT / "recipes" / name / "README.md").read_text(encoding="utf-8")
    text = text.replace("](pictures/", f"]({name}/")
    return re.sub(rf"(?<!!)\[([^]]+)\]\((?!{name}/|https?:)[^)]*\)", r"\1", text)


@cache
def example_report() -> bytes:
    """The page that ``docs/example_report.py`` writes.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        command = [sys.executable, str(ROOT / "docs" / "example_report.py"), str(page)]
        threads = {"OMP_NUM_THREADS": "1", **os.environ}
        run = subprocess.run(command, capture_output=True, text=True, env={**threads, "WANDB_MODE": "disabled"})
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {run.returncode}: {run.stderr[-2000:]}")
        return page.read_bytes()


def example_page() -> str:
    """What the report is of, and the report."""
    return f"""# A report

What `python -m parlab report` writes: one page that needs no network. This one is of `python -m parlab demo` where `runs/demo` was there when the site was
built, else of 24 synthetic sentences by greedy CTC, AR and PAR, by the model that the repository ships. Either set shows what a report looks like and is too
small to decide anything; times are those of the machine that built the site.

[Open it alone]({REPORT.removeprefix("results/")}).

<iframe src="{REPORT.removeprefix("results/")}" title="a report of parlab" class="report"></iframe>
"""
