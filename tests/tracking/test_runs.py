"""W&B: which mode a run gets, fills in the table, a server that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parlab.errors import UserError
from parlab.predictions.files import write_jsonl
from parlab.text.normalizer import normalizer
from parlab.tracking import runs as tracking
from parlab.tracking.runs import flatten, log_prediction, marked_text, resolve_mode

RECORD = {
    "id": "u1",
    "ref": "a cab",
    "text": "a cad",
    "token_text": ["a", "<space>", "c", "a", "d"],
    "segments": [],
    "seconds": 0.1,
}
METRICS: dict[str, Any] = {
    "decoder": {"name": "par", "options": {"threshold": 0.9}},
    "wer": {"rate": 0.5, "errors": 1},
    "speed": {"rtfx": 12.0, "device": "cpu", "devices": [{"rank": 0}]},
    "par": {"masked_tokens": 3},
    "counts": {"decoder_steps": 4},
    "utterances": 1,
    "failed": [],
    "config": {"seed": 0},
}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)


def test_modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resolve_mode("auto") == "offline"
    assert [resolve_mode(mode) for mode in ("online", "offline", "off")] == ["online", "offline", "off"]
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")  # said explicitly: nothing is uploaded though there is a key
    assert resolve_mode("auto") == "offline"
    assert resolve_mode("online") == "online"  # the option is more explicit still
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert {resolve_mode(mode) for mode in ("auto", "online", "offline")} == {"off"}
    with pytest.raises(UserError, match="did you mean 'offline'"):
        resolve_mode("ofline")


def test_a_key_in_netrc_is_a_key(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'x' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert resolve_mode("auto") == "online"


def test_fills_are_marked() -> None:
    """Places of segments count draft tokens; the first fill is longer than its draft, the second is empty."""
    record = {
        "token_text": ["a", "b", "c", "<space>", "d"],
        "segments": [
            {"start": 1, "end": 2, "draft": [9], "fill": [2, 3], "draft_text": ["x"], "fill_text": ["b", "c"]},
            {"start": 4, "end": 5, "draft": [8], "fill": [], "draft_text": ["y"], "fill_text": []},
        ],
    }
    assert marked_text(record) == "a [x -> bc]  d [y -> ]"
    assert marked_text({"token_text": ["\u2581he", "llo", "\u2581you"], "segments": []}) == "hello you"


def test_numbers_are_flattened() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": "x"}}, "e": [1], "f": None}) == {"a/b": 1, "a/c/d": "x"}


def test_an_offline_run_is_complete_when_it_is_over(
    tmp_path: Path, wandb_records: Callable[[Path], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """W&B's own ``finish`` may return before its service has written anything: five runs, none cut short."""
    for i in range(5):
        out = tmp_path / str(i)
        out.mkdir()
        write_jsonl(out / "hypotheses.jsonl", [RECORD])
        log_prediction(out, METRICS, "offline", "parlab", normalizer("none"))
        (path,) = out.glob("wandb/offline-run-*/*.wandb")
        records = wandb_records(path)
        assert any(record.WhichOneof("record_type") == "exit" for record in records)
        found = {item.key: item.value_json for record in records for item in record.summary.update if item.key}
        assert found["wer/rate"] == "0.5"
        assert found["par/masked_tokens"] == "3"
        assert found["decoded"] == "1"


def test_off_writes_nothing(tmp_path: Path) -> None:
    log_prediction(tmp_path, METRICS, "off", "parlab", normalizer("none"))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    def fail(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("Run initialization has timed out")

    monkeypatch.setattr(tracking, "start_run", fail)
    log_prediction(tmp_path, METRICS, "online", "parlab", normalizer("none"))
    assert "warning: W&B does not answer (Run initialization has timed out" in capsys.readouterr().err
