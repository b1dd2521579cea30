"""The files of a release say what is true: version, commands, Python versions, images."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import parlab

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_is_of_this_version() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["version"] == parlab.__version__
    assert found["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    for entry in (found, *found["references"]):
        assert entry["authors"] and all(
            "name" in a or {"family-names", "given-names"} <= a.keys() for a in entry["authors"]
        )
    pages = (ROOT / "docs" / "par.md").read_text(encoding="utf-8")
    assert all(i["value"] in pages for entry in found["references"] for i in entry["identifiers"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_the_makefile(path: Path) -> None:
    """And nothing else: what a workflow does, a user can do."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands
    for command in commands:
        program, target, *rest = command.split(maxsplit=2)
        assert program == "make" and target in TARGETS, command
        assert not rest or re.fullmatch(r"(PYTHON=python|TESTS='[^']*')", rest[0])
    assert all("run" in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps)
    assert workflow["permissions"] == {"contents": "read"}


def test_workflows_are_those_of_tests_documentation_and_releases() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "tests"]


def test_every_python_that_setup_takes_is_tested() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    low, high = re.findall(r"\((\d+, \d+)\)", MAKEFILE)
    minor = [int(version.split(", ")[1]) for version in (low, high)]
    assert versions == [f"3.{n}" for n in range(minor[0], minor[1] + 1)]
    after = int(versions[-1].split(".")[1]) + 1
    assert PROJECT["requires-python"] == f">={versions[0]},<3.{after}"


def test_the_image_is_made_by_the_projects_own_commands() -> None:
    lines = [
        line.split()
        for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line[:1] not in ("#", "")
    ]
    images = [rest[0] for word, *rest in lines if word == "FROM"]
    assert images == ["python:3.11"]
    assert [rest for word, *rest in lines if word == "RUN"] == [["make", "setup"]]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv", "runs"} <= set(ignored)


def test_ci_builds_what_a_release_needs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {"docs", "dist", "lint", "test", "setup"} <= set(re.findall(r"make ([a-z]+)", script)) <= TARGETS
    assert "twine check --strict" in MAKEFILE.split("\ndist:")[1].split("\n\n")[0]
    assert "build --strict" in MAKEFILE.split("\ndocs:")[1].split("\n\n")[0]
    extras = re.search(r"--editable '\.\[([^]]*)\]'", MAKEFILE)
    compiled = {"kenlm"}  # needs a C++ compiler and CMake, which not everybody has
    assert extras is not None and set(extras[1].split(",")) == PROJECT["optional-dependencies"].keys() - compiled
