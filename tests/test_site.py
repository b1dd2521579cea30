"""The site: every page is reached, what is made from the code is complete, every block of code runs or says why not."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
import yaml

from parlab.cli import COMMANDS, main
from parlab.decode import DECODERS
from parlab.options.help import command_options
from parlab.predictions.prediction import read_prediction
from parlab.synth.espeak import speak

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
ELSEWHERE = {
    "par.md",
    "new_decoder.md",
    "new_family.md",
    "architecture.md",
}  # tests/test_docs.py runs or checks their blocks
RUN = [page for page in PAGES if page not in ELSEWHERE]
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)```", re.DOTALL)
SENTENCES = ["ONE TWO THREE", "HELLO", "YES PLEASE STOP", "GO HELP"]
# What keeps a command of a page short and quiet in a test.
QUIET = {
    "predict": ["--wandb", "off", "--progress", "false"],
    "sweep": ["--wandb", "off", "--repeats", "1", "--timed_utterances", "2"],
    "fit": ["--wandb", "off"],
    "compare": ["--replicates", "200"],
    "doctor": ["--device", "cpu"],
}


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("made_pages", DOCS / "made_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: str) -> Iterator[dict[str, str | None]]:
    """Commands and Python of a page, with the reason where one is not run."""
    for found in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        if found["kind"] in {"bash", "python"}:
            yield found.groupdict()


# ---- pages --------------------------------------------------------------------------------------


def test_every_page_is_reached(made: ModuleType) -> None:
    def paths(entries: list[Any]) -> list[str]:
        found = []
        for entry in entries:
            for value in entry.values():
                found += paths(value) if isinstance(value, list) else [value]
        return found

    nav = paths(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(nav) == len(set(nav))
    assert sorted(nav) == sorted([*PAGES, *made.made_pages()])


def test_the_reference_is_complete(made: ModuleType) -> None:
    pages = made.made_pages()
    sections = dict(
        re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", pages["reference/commands.md"], re.MULTILINE | re.DOTALL)
    )
    assert list(sections) == list(COMMANDS)
    for name, text in sections.items():
        for option in command_options(name):
            assert f"| `{option.name}` |" in text, (name, option.name)
    decoders = pages["reference/decoders.md"]
    assert re.findall(r"^## (\w+)", decoders, re.MULTILINE) == list(DECODERS)
    assert "| `threshold` | `float` | `0.9` |" in decoders
    for name in (
        "parlab.api.load",
        "ASR.transcribe",
        "ASR.transcribe_long",
        "parlab.types.Hypothesis",
        "Decoder.decode",
    ):
        assert re.search(rf"^##+ {re.escape(name)}$", pages["reference/python.md"], re.MULTILINE), name


@pytest.mark.slow
@pytest.mark.timeout(900)  # the report on it takes two minutes of a busy machine
def test_it_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    report = (tmp_path / "site" / "results" / "example" / "report.html").read_text(encoding="utf-8")
    assert '"prediction":"par"' in report and "data:audio/flac;base64," in report
    assert "on 24 utterances" in report  # as the page beside it says
    if not (ROOT / "runs" / "demo").exists():
        assert '"model":"recipes/an4/model","data":"data/manifest.jsonl' in report
        assert str(ROOT) not in report
    assert report.count('"v":"') >= 3  # waveforms of utterances with masks
    assert 'src="example/report.html"' in (tmp_path / "site" / "results" / "example.html").read_text(encoding="utf-8")
    for path in (tmp_path / "site").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"""<(?:script|img|iframe)[^>]*src=["']?(?:https?:)?//""", text), path
        assert not re.findall(r"""<link[^>]*rel=["']?stylesheet["']?[^>]*href=["']?(?:https?:)?//""", text), path


# ---- code ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", RUN)
def test_a_block_that_is_not_run_says_why(page: str) -> None:
    reasons = [block["why"] for block in blocks(page) if block["why"]]
    allowed = r"(installs|fetches|needs|takes) .*(network|GPUs?|SCTK|minutes)"
    assert all(re.search(allowed, reason) for reason in reasons), reasons


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages name: recipes, a model, data, audio, and files of other tools."""
    root = tmp_path_factory.mktemp("site")
    work, shared = root / "work", root / "shared" / "data" / "an4"
    work.mkdir()
    shared.mkdir(parents=True)
    for name in ("recipes", "configs"):
        (work / name).symlink_to(ROOT / name)
    (work / "exp").mkdir()
    # A copy, for tune --beside_model true writes into it.
    shutil.copytree(ROOT / "recipes" / "an4" / "model", work / "exp" / "my_model")
    (work / "data").mkdir()
    for i, text in enumerate(SENTENCES):
        wave = speak(text)
        soundfile.write(work / "data" / f"{i}.wav", wave, 16000)
        soundfile.write(work / ("a.wav" if i == 0 else "b.flac"), wave, 16000)
    entries = [{"id": f"u{i}", "audio_filepath": f"{i}.wav", "text": text} for i, text in enumerate(SENTENCES)]
    for name in ("train", "dev"):
        (work / "data" / f"{name}.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
        there = [{**e, "audio_filepath": str(work / "data" / e["audio_filepath"])} for e in entries]
        (shared / f"{name}.jsonl").write_text("".join(json.dumps(e) + "\n" for e in there))
    return work


def texts_of_other_tools(folder: Path) -> None:
    """The files that ``comparing.md`` compares."""
    records = read_prediction(folder / "runs" / "par").records
    (folder / "kaldi").mkdir()
    (folder / "other.trn").write_text("".join(f"{r.text} ({r.id})\n" for r in records))
    (folder / "kaldi" / "text").write_text("".join(f"{r.id} {r.text}\n" for r in records))
    (folder / "ref.stm").write_text("".join(f"{r.id} 1 x 0 {r.duration} <o> {r.ref}\n" for r in records))
    for n in (1, 2):
        (folder / f"hyp{n}.ctm").write_text("".join(f"{r.id} 1 0.1 0.2 {w}\n" for r in records for w in r.text.split()))
    for name in "ab":
        rows = [
            {"audio_filepath": r.id, "text": r.ref, "pred_text": r.text, "duration": 1.0, "time": 0.1} for r in records
        ]
        (folder / f"MODEL_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_commands(code: str) -> None:
    for line in code.replace("\\\n", " ").splitlines():
        line = line.split("  #")[0].strip()
        if not line:
            continue
        python, dash, package, *arguments = shlex.split(line)
        assert (python, dash, package) == ("python", "-m", "parlab"), line
        command = arguments[0]
        options = QUIET.get(command, [])
        given = set(arguments)
        more = [word for i in range(0, len(options), 2) if options[i] not in given for word in options[i : i + 2]]
        assert main([*arguments, *more]) == 0, line


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_other_block_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, the first page first: later pages use what it made."""
    monkeypatch.chdir(folder)
    count = 0
    for page in ["index.md", *(page for page in RUN if page != "index.md")]:
        if page == "comparing.md":
            texts_of_other_tools(folder)
        for block in blocks(page):
            if block["why"]:
                continue
            code = block["code"] or ""
            if block["kind"] == "python":
                exec(compile(code, page, "exec"), {})
            else:
                run_commands(code)
            count += 1
    assert count >= 12
    assert (folder / "report.html").is_file()
    assert (folder / "runs" / "long" / "transcripts" / "a.srt").is_file()
    assert (folder / "runs" / "par_files" / "hyp.ctm").is_file()
