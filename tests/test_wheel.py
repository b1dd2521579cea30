"""The wheel: what is in it, and that it works on its own, from another folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers import manifest, noise

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("parlab", "configs", "recipes", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with ``path`` as PYTHONPATH; it must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(path or "")}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays clean."""
    if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("pip and setuptools are not installed here; they build the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "tests", source / "tests", ignore=ignored)
    run("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "-w", folder, cwd=source)
    (made,) = folder.glob("parlab-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is installed into."""
    target = tmp_path_factory.mktemp("site")
    options = ("--no-deps", "--no-index", "--quiet", "--target", target)
    run("-m", "pip", "install", *options, wheel, cwd=target)
    return target


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "parlab").rglob("*.py")}
    configs = {f"parlab/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    model = {f"parlab/models/an4/{p.name}" for p in (ROOT / "recipes/an4/model").iterdir()}
    page = {f"parlab/commands/report/{name}" for name in ("page.html", "page.css", "page.js", "wave.js", "pareto.js")}
    wanted = modules | configs | model | page | {"parlab/py.typed"}
    assert wanted <= names, sorted(wanted - names)
    others = {n for n in names - wanted if not n.startswith(f"{wheel.name.split('-py3')[0]}.dist-info/")}
    assert not others, sorted(others)  # no tests among them


def test_the_console_script_is_the_function_main(wheel: Path) -> None:
    (name,) = (n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("entry_points.txt"))
    assert "parlab = parlab.cli:main" in zipfile.ZipFile(wheel).read(name).decode()


def test_it_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    """Its own code, its own configuration by name, its own model; nothing of the checkout."""
    noise(tmp_path / "a.wav", 0.8)
    data = manifest(tmp_path, [{"id": "a", "audio_filepath": "a.wav", "text": "A"}])
    where = run("-c", "import parlab; print(parlab.__file__)", cwd=tmp_path, path=installed).stdout
    assert Path(where.strip()).is_relative_to(installed)
    assert "predict" in run("-m", "parlab", "--help", cwd=tmp_path, path=installed).stdout
    assert "predict" in run(installed / "bin" / "parlab", "--help", cwd=tmp_path, path=installed).stdout
    find = "from parlab.options.resources import shipped_model; print(shipped_model())"
    model = run("-c", find, cwd=tmp_path, path=installed).stdout.strip()
    assert Path(model).is_relative_to(installed)
    options = ("--config", "decoder/par.yaml", "--wandb", "off", "--progress", "false", "--device", "cpu")
    command = ("-m", "parlab", "predict", "--model", model, "--data", data, "--out", tmp_path / "out", *options)
    run(*command, cwd=tmp_path, path=installed)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["utterances"] == 1 and metrics["decoder"]["name"] == "par"


@pytest.mark.timeout(900)
@pytest.mark.slow  # ten processes start
def test_the_demo_after_pip_install(installed: Path, tmp_path: Path) -> None:
    """From another folder, with the model and the configurations of the wheel: all of its steps, on little speech."""
    options = ("--out", "demo", "--size", "0.07", "--minutes", "0.05", "--wandb", "off")
    done = run("-m", "parlab", "demo", *options, cwd=tmp_path, path=installed)
    assert done.stderr == ""  # no tips and no warnings of other packages
    assert "wrote demo/" in done.stdout.splitlines()[-1]
    models = {n: json.loads((tmp_path / "demo" / n / "metrics.json").read_text())["model"] for n in ("before", "par")}
    assert Path(models["before"]).is_relative_to(installed)
    assert (tmp_path / models["par"]).samefile(tmp_path / "demo" / "fit" / "model")
    assert (tmp_path / "demo" / "report.html").stat().st_size > 1000
