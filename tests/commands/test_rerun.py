"""``rerun`` on a prediction of a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parlab.cli import main
from tests.helpers import lines


def test_rerun_says_whether_the_text_is_the_same(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "p"
    shutil.copytree(folders[2], copy)
    assert main(["rerun", str(copy)]) == 0
    assert "text of all 8 utterances is the same" in capsys.readouterr().out
    assert main(["rerun", str(copy)]) == 2  # the same again would compare old with old
    assert "holds results already" in capsys.readouterr().err
    records = lines(copy)
    records[0]["text"] += " more"
    (copy / "hypotheses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert main(["rerun", str(copy), "--out", str(tmp_path / "again")]) == 1
    assert "differs in 1 of 8" in capsys.readouterr().out
