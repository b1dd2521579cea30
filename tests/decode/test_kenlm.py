"""Binary files of KenLM: the same as the ARPA file that they were made from, token by token and in each decoder."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parlab.decode import AR, PAR, CTCBeam, Decoder, Rescore
from parlab.decode.fused import kenlm_file
from parlab.decode.fused.kenlm_file import KenlmNgrams
from parlab.decode.fused.ngrams import ngram_automaton, words_of
from parlab.decode.fusion import Contexts, NgramFusion
from parlab.decode.search.mode import search_mode
from parlab.errors import UserError
from tests.decode.test_ngrams import CPU, TOKENS, some_grams
from tests.decode.test_phrases import batch
from tests.reference.ngrams import arpa

# Made by `build_binary -p 4 probing lm.arpa probing.bin` and `build_binary trie lm.arpa trie.bin`, from trigrams of `some_grams` over the
# tokens of `tiny_model`.
FILES = Path(__file__).parent / "kenlm"
BINARIES = ["probing.bin", "trie.bin"]


@pytest.fixture
def kenlm() -> None:
    pytest.importorskip("kenlm", reason="the package kenlm is not installed; pip install 'parlab[kenlm]'")


@pytest.mark.usefixtures("kenlm")
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("kept", [2**20, 5], ids=["all kept", "few kept"])
def test_probabilities_are_those_of_the_arpa_file(
    order: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``kenlm.Model`` reads ARPA files too: the same grams by its look-ups and by the tables, also of unknown tokens."""
    import kenlm

    monkeypatch.setattr(kenlm_file, "_MOST_SCORES", kept)
    file = tmp_path / "lm.arpa"
    grams = some_grams(order, TOKENS[1:5], order)
    for n in range(3, order + 1):  # KenLM's tables have little room for n-grams whose ends are missing
        grams = {g: grams[g] for g in grams if len(g) != n or g[1:] in grams}
    file.write_text(arpa(grams))
    wanted = ngram_automaton(str(file), TOKENS, 5, CPU)
    found = KenlmNgrams(kenlm.Model(str(file)), words_of(TOKENS, 5), CPU)
    generator = random.Random(order)
    before, inside = (
        [[generator.randint(0, 4) for _ in range(generator.randint(0, 6))] for _ in range(40)] for _ in "ab"
    )
    contexts = Contexts(before, [(5,)] * 40)
    a, b = (NgramFusion(automaton, 1.0).scores(contexts, inside) for automaton in (wanted, found))
    assert b.tolist() == pytest.approx(a.tolist(), abs=1e-3)
    every = torch.arange(len(TOKENS)).expand(40, -1)
    a, b = (automaton.gains(automaton.after(before), every) for automaton in (wanted, found))
    assert torch.allclose(a, b, atol=1e-4)
    assert len({tuple(row) for row in b.tolist()}) > order


@pytest.mark.usefixtures("kenlm")
def test_equal_contexts_share_a_state(tmp_path: Path) -> None:
    """A trigram model forgets what lies before the last two tokens, and sooner what it has no longer n-gram for."""
    import kenlm

    file = tmp_path / "lm.arpa"
    file.write_text(arpa(some_grams(3, TOKENS[1:5], 3)))
    found = KenlmNgrams(kenlm.Model(str(file)), words_of(TOKENS, 5), CPU)
    generator = random.Random(0)
    ends = [[generator.randint(1, 4) for _ in range(2)] for _ in range(50)]
    first, second = (found.after([[*[generator.randint(1, 4)] * n, *end] for end in ends]) for n in (1, 4))
    assert first.tolist() == second.tolist()
    assert 3 < len(set(first.tolist())) <= 17  # the pairs of four tokens, and their beginnings
    assert found.after([[]]).item() == found.begin


@pytest.mark.usefixtures("kenlm")
@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize("fixed", [False, True], ids=["rows", "fixed"])
@pytest.mark.parametrize(
    "decoder",
    [
        AR(beam_size=3, maxlenratio=-9),
        PAR(0.7, beam_size=3),
        PAR(0.7, beam_size=3, ctc_mode="rescore"),
        PAR(0.7, beam_size=3, draft="prefix_beam:lm={lm},lm_weight=0.8"),
        CTCBeam(beam_size=4),
        Rescore(beam_size=4),
    ],
    ids=str,
)
def test_decoders_find_the_same(decoder: Decoder, fixed: bool, binary: str) -> None:
    model, given = batch(4)

    def results(lm: Path) -> list[tuple[tuple[int, ...], float]]:
        own = replace(decoder, draft=decoder.draft.format(lm=lm)) if isinstance(decoder, PAR) else decoder
        fused = replace(own, lm=str(lm), lm_weight=0.8)  # type: ignore[call-arg]
        with search_mode(fixed=fixed):
            fused.prepare(model, CPU)
            return [(h.tokens, h.score) for h in fused.decode(model, given)]

    found, wanted = results(FILES / binary), results(FILES / "lm.arpa")
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted], abs=1e-3)
    plain = replace(decoder, draft="best_path") if isinstance(decoder, PAR) else decoder
    assert found != [(h.tokens, h.score) for h in plain.decode(model, given)]


@pytest.mark.usefixtures("kenlm")
def test_files_that_the_package_cannot_read(tmp_path: Path) -> None:
    whole = (FILES / "probing.bin").read_bytes()
    for name, content in {"head": whole[:60], "cut": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .* expected a whole file of KenLM's build_binary"):
            ngram_automaton(str(tmp_path / name), TOKENS, 5, CPU)


@pytest.mark.usefixtures("kenlm")
def test_n_grams_of_other_tokens_are_refused() -> None:
    with pytest.raises(UserError, match=r"has 1\d words, 3 of them tokens of the model"):
        ngram_automaton(str(FILES / "probing.bin"), ["<blank>", "THE", "CAT", "<eos>"], 3, CPU)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UserError, match=r"pip install 'parlab\[kenlm\]'`, or name the ARPA file"):
        ngram_automaton(str(FILES / "probing.bin"), TOKENS, 5, CPU)
