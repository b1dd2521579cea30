"""The README's commands and Python run as they stand, on the shipped model and a little synthetic speech."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest
import soundfile
import yaml

from parlab.cli import main
from parlab.decode import DECODERS
from parlab.synth.corpus import main as make_corpus
from parlab.synth.espeak import speak

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SENTENCES = ["ONE TWO THREE", "HELLO", "YES PLEASE STOP", "GO HELP"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the README's paths exist: the repository's recipes, and speech beside it."""
    root = tmp_path_factory.mktemp("readme")
    work, data = root / "work", root / "shared" / "data" / "an4"
    work.mkdir()
    data.mkdir(parents=True)
    (work / "recipes").symlink_to(ROOT / "recipes")
    (work / "configs").symlink_to(ROOT / "configs")
    for i, text in enumerate(SENTENCES):
        wave = speak(text)
        soundfile.write(data / f"{i}.wav", wave, 16000)
        soundfile.write(work / ("a.wav" if i == 0 else "b.flac"), wave, 16000)
    entries = [{"id": f"u{i}", "audio_filepath": f"{i}.wav", "text": text} for i, text in enumerate(SENTENCES)]
    for name in ("train", "dev"):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    books = data.parent / "librispeech5"
    books.mkdir()
    paths = [{**e, "id": f"b{e['id']}", "audio_filepath": str(data / e["audio_filepath"])} for e in entries]
    (books / "train.jsonl").write_text("".join(json.dumps(e) + "\n" for e in paths))
    return work


def block(title: str, kind: str) -> str:
    """The first block of a kind below a title."""
    section = README.split(f"## {title}\n", 1)[1].split("\n## ")[0]
    found = re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_commands_of_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    lines = [line.split("  #")[0] for line in block("Use", "bash").replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line)[2:] for line in lines if line.strip()]
    names = [module if module != "parlab" else rest[0] for module, *rest in commands]
    assert names == ["transcribe", "parlab.synth", "fit", "predict", "predict", "sweep", "compare", "report", "export"]
    for module, *arguments in commands:
        if module == "parlab.synth":  # 20 utterances instead of 0.35 hours
            hours = arguments.index("--hours")
            arguments[hours : hours + 2] = ["--count", "20"]
            make_corpus(arguments)
            continue
        if arguments[0] == "fit":  # 25 minutes; here all is checked that a training needs, with the data made above
            assert main([*arguments, "--wandb", "off", "--dry_run", "true"]) == 0
            continue
        quiet = {"predict": ["--wandb", "off", "--progress", "false"], "sweep": ["--wandb", "off", "--repeats", "1"]}
        assert main([*arguments, *quiet.get(arguments[0], [])]) == 0, arguments
    assert (folder / "report.html").is_file()


def test_the_python_of_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(block("Use", "python"), names)
    found = names["hyps"]
    assert isinstance(found, list)
    assert [h.id for h in found] == ["a", "b"]
    assert found[0].text


def test_the_two_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target} " in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def options_of(name: str) -> dict[str, object]:
    """Options of a decoder and their defaults."""
    return {f.name: f.default for f in dataclasses.fields(DECODERS[name])}  # type: ignore[arg-type]


def test_the_table_of_decoders_names_every_option() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$", README.split("## Decoders", 1)[1], re.MULTILINE)
    listed = {name: re.findall(r"`(\w+)`", cell) for name, cell in rows if name in DECODERS}
    assert list(listed) == list(DECODERS)
    for name, options in listed.items():
        if name != "par":
            assert sorted(options) == sorted(options_of(name).keys() - {"beam_size", "nbest"}), name


def test_the_table_of_par_names_every_option_and_default() -> None:
    section = README.split("| option of `par` |", 1)[1].split("\n\n", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+?)`? \|", section, re.MULTILINE))
    assert {name: yaml.safe_load(default) for name, default in rows.items()} == options_of("par")
