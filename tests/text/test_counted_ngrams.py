"""Counted n-grams: probabilities by hand, and an ARPA file that says the same and whose probabilities sum to one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from parlab.cli import main
from parlab.decode.fused.ngrams import ngram_automaton
from parlab.model.folder import read_model, write_model
from parlab.text.ngrams import BEGIN, END, Counts
from parlab.text.tokenizer import Tokenizer
from tests.models import tiny_model
from tests.whisper import write_letter_head

TEXTS = ["a bad cab", "bead", "dad", "a cab"]


def test_probabilities_by_hand() -> None:
    counts = Counts([["a", "b"], ["b"]], 2)
    assert counts.probability(("a",)) == pytest.approx(2 / 8)  # (1 + 3 * 1/3) / (5 + 3)
    assert counts.probability(("b",)) == counts.probability((END,)) == pytest.approx(3 / 8)
    assert counts.probability(("a", "b")) == pytest.approx((1 + 3 / 8) / 2)
    assert counts.probability((BEGIN, END)) == pytest.approx(2 / 4 * 3 / 8)  # never seen: backoff times P(</s>)
    assert counts.backoff((BEGIN,)) == pytest.approx(2 / 4)
    assert counts.backoff(("b", END)) == 1.0


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_file_says_the_same_and_sums_to_one(order: int, tmp_path: Path) -> None:
    tokens = ["<blank>", *"abcde", "<space>", "<eos>"]
    texts = [["<space>" if c == " " else c for c in text] for text in TEXTS]
    counts = Counts(texts, order)
    (tmp_path / "lm.arpa").write_text("\n".join(counts.arpa()) + "\n")
    automaton = ngram_automaton(str(tmp_path / "lm.arpa"), tokens, 7, torch.device("cpu"))
    for before in ([], ["a"], ["b", "a"], ["e", "e", "c"], ["<space>", "c", "a", "b"]):
        state = automaton.after([[tokens.index(t) for t in before]])
        chances = automaton.gains(state, torch.arange(1, 8).unsqueeze(0)).exp()[0]
        assert chances.sum().item() == pytest.approx(1.0, abs=1e-4)
        words = [*tokens[1:7], END]
        context = ([BEGIN, *before])[-(order - 1) :] if order > 1 else []
        wanted = [counts.probability((*context, word)) for word in words]
        assert chances.tolist() == pytest.approx(wanted, rel=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a head of it, and texts in three kinds of files."""
    where = tmp_path_factory.mktemp("ngrams")
    net = tiny_model()
    write_model(net, Tokenizer(net.token_list, "char"), where / "m")
    model, _ = read_model(where / "m")
    write_letter_head(where / "h", model, Tokenizer(["<blank>", "<space>", *"abcde"], "char"), 3.0, 1.0)
    (where / "texts.txt").write_text("a bad cab\n\nbead\n")
    (where / "texts.jsonl").write_text("".join(json.dumps({"id": t, "text": t}) + "\n" for t in TEXTS[2:]))
    return where


def test_the_command_counts_in_the_tokens_of_model_or_head(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = f"[{folder / 'texts.txt'},{folder / 'texts.jsonl'}]"
    common = ["ngrams", "--model", str(folder / "m"), "--texts", texts]
    assert main([*common, "--out", str(folder / "m.arpa.gz")]) == 0
    assert "4-grams of 4 texts, 21 tokens" in capsys.readouterr().out
    assert main([*common, "--head", str(folder / "h"), "--order", "3", "--out", str(folder / "h.arpa")]) == 0
    cut = [["<space>" if c == " " else c for c in text] for text in TEXTS]
    assert gzip.decompress((folder / "m.arpa.gz").read_bytes()).decode().splitlines() == Counts(cut, 4).arpa()
    assert (folder / "h.arpa").read_text().splitlines() == Counts(cut, 3).arpa()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "ngrams got no --texts"),
        (["--texts", "none.txt"], "cannot be read"),
        (["--texts", "[{0}/bad.jsonl]"], "line 1 has no text"),
        (["--texts", "[{0}/other.txt]"], "hold no token of the model"),
        (["--texts", "[{0}/texts.txt]", "--order", "0"], "the order is 0"),
        (["--texts", "[{0}/texts.txt]", "--out", "{0}"], "cannot be written"),
    ],
)
def test_refused(more: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.jsonl").write_text('{"id": "a"}\n')
    (folder / "other.txt").write_text("0123\n")
    given = ["ngrams", "--model", str(folder / "m"), "--out", str(folder / "x.arpa"), *(m.format(folder) for m in more)]
    assert main(given) == 2
    assert message in capsys.readouterr().err
