"""N-grams of ARPA files, against a slow reference: probabilities, and what each decoder makes of them."""

from __future__ import annotations

import gzip
import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parlab.decode import AR, PAR, CTCBeam, Decoder, Rescore
from parlab.decode.fused.ngrams import ngram_automaton
from parlab.decode.fusion import Contexts, NgramFusion
from parlab.decode.prefixes import PrefixBeam, prefix_beam, prefix_hypotheses
from parlab.decode.search.frames import Automata
from parlab.decode.verification import sequence_scores
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from tests.decode.test_fixed import agree
from tests.decode.test_phrases import batch
from tests.models import examples, random_posteriors, write_lm
from tests.reference import ctc
from tests.reference.ngrams import Grams, arpa, log_probability

CPU = torch.device("cpu")
TOKENS = ["<blank>", "a", "b", "c", "d", "<eos>"]


def some_grams(seed: int, words: list[str], order: int) -> Grams:
    """Random n-grams whose beginnings are there and whose ends may be missing."""
    generator = random.Random(seed)

    def numbers() -> tuple[float, float]:
        return round(generator.uniform(-3, -0.1), 3), round(generator.uniform(-1, 0.3), 3)

    grams = {(word,): numbers() for word in [*words, "<s>", "</s>"] if word != "d"}
    if seed % 2:
        grams[("<unk>",)] = numbers()
    for n in range(2, order + 1):
        for begin in [gram for gram in grams if len(gram) == n - 1 and gram[-1] != "</s>"]:
            for word in [*words, "</s>"]:
                if generator.random() < 0.4 and (word,) in grams:
                    grams[(*begin, word)] = numbers()
    return {gram: (p, b if len(gram) < order else 0.0) for gram, (p, b) in grams.items()}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_probabilities(order: int, seed: int, tmp_path: Path) -> None:
    """Of texts after others, also of a token that the file lacks; packed files too."""
    grams = some_grams(seed, TOKENS[1:5], order)
    file = tmp_path / ("lm.arpa.gz" if seed else "lm.arpa")
    file.write_bytes(gzip.compress(arpa(grams).encode()) if seed else arpa(grams).encode())
    automaton = ngram_automaton(str(file), TOKENS, 5, CPU)
    generator = random.Random(seed)
    before, inside = (
        [[generator.randint(1, 4) for _ in range(generator.randint(0, 5))] for _ in range(30)] for _ in "ab"
    )
    after = [(generator.choice([1, 5]),) for _ in range(30)]
    found = NgramFusion(automaton, 0.5).scores(Contexts(before, after), inside)
    names = [*TOKENS[:5], "</s>"]
    wanted = [
        0.5 * log_probability(grams, [names[i] for i in a], [names[i] for i in (*b, *c)])
        for a, b, c in zip(before, inside, after, strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, abs=1e-3)


def write(folder: Path, model: HybridModel) -> tuple[str, Grams]:
    grams = some_grams(1, [*"abcefghi", "<space>"], 3)
    (folder / "lm.arpa").write_text(arpa(grams))
    return str(folder / "lm.arpa"), grams


@pytest.mark.parametrize(
    "decoder",
    [
        AR(beam_size=3, maxlenratio=-9),
        PAR(0.7, beam_size=3),
        PAR(0.7, beam_size=3, ctc_mode="rescore"),
        CTCBeam(beam_size=4),
        Rescore(beam_size=4),
    ],
    ids=str,
)
def test_fixed_shapes_and_batches_change_nothing(decoder: Decoder, tmp_path: Path) -> None:
    model, given = batch(4)
    fused = replace(decoder, lm=write(tmp_path, model)[0], lm_weight=0.8)  # type: ignore[call-arg]
    assert agree(fused, model, given)
    together = fused.decode(model, given)
    assert [h.score for h in together] != [h.score for h in decoder.decode(model, given)]
    for i, hypothesis in enumerate(together):
        n = int(given.frames[i])
        part = given.select([i])
        [single] = fused.decode(model, replace(part, states=part.states[:, :n], ctc_log_probs=part.posteriors[:, :n]))
        assert (hypothesis.tokens, hypothesis.counts) == (single.tokens, single.counts)
        assert hypothesis.score == pytest.approx(single.score, abs=1e-3)


def test_ar_adds_their_probability(tmp_path: Path) -> None:
    for seed in range(examples(2)):
        model, given = batch(seed)
        lm, grams = write(tmp_path, model)
        cross = model.rows.cross_cache(given.states, given.frames)
        decoder = AR(beam_size=4, ctc_weight=0.0, lm=lm, lm_weight=0.5, maxlenratio=-25)
        for i, hypothesis in enumerate(decoder.decode(model, given)):
            if hypothesis.counts["forced_stops"]:
                continue
            candidates = [[hypothesis.tokens]] * len(given)
            own = sequence_scores(model.rows, cross, given.prompts, candidates, model.special.eos)[i].item()
            words = [*(model.token_list[t] for t in hypothesis.tokens), "</s>"]
            assert hypothesis.score == pytest.approx(own + 0.5 * log_probability(grams, [], words), abs=1e-3)


def test_ctc_beam_is_exact(tmp_path: Path) -> None:
    grams = some_grams(3, ["a", "b"], 3)
    (tmp_path / "lm.arpa").write_text(arpa(grams))
    ngrams = ngram_automaton(str(tmp_path / "lm.arpa"), ["<blank>", "a", "b", "<eos>"], 3, CPU)
    log_probs, lengths = random_posteriors(3, 1, 5, 3), torch.tensor([5])
    options = PrefixBeam(80, 3, automata=Automata((ngrams,), (0.6,), stop=3))
    listed = prefix_hypotheses(prefix_beam(log_probs, lengths, 0, options), log_probs, lengths, 80)[0].nbest
    rows = log_probs[0].double().tolist()
    exact = {
        tokens: ctc.total(rows, tokens, -1, -1)
        + 0.6 * log_probability(grams, [], [*("?ab"[t] for t in tokens), "</s>"])
        for n in range(6)
        for tokens in itertools.product((1, 2), repeat=n)
    }
    assert {h.tokens: h.score for h in listed} == pytest.approx(
        {tokens: score for tokens, score in exact.items() if score > -math.inf}, abs=1e-3
    )


def test_a_beam_over_frames_reads_no_network(tmp_path: Path) -> None:
    model, given = batch(0)
    with pytest.raises(UserError, match="ARPA"):
        CTCBeam(lm=str(write_lm(tmp_path / "lm", "seq_rnn"))).decode(model, given)
