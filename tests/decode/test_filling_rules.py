"""Whisper's rules and fused scorers in PAR across vocabularies, against the slow reference."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.decode import PAR
from parlab.decode.fused.phrases import read_phrases, spell_phrases
from parlab.decode.search.mode import search_mode
from parlab.model.encoded import Encoded
from parlab.model.folder import read_model
from parlab.model.heads.drafted import Drafted
from parlab.model.hybrid import HybridModel
from parlab.model.language_model import read_language_model
from parlab.text.byte_bpe import ByteBPE
from parlab.text.spelling import Spelling
from parlab.text.tokenizer import Tokenizer
from parlab.types import Hypothesis
from tests.decode.test_filling import LETTERS, STRIDE, draft_of, equal, written
from tests.models import examples, s2t_model, s2t_tokenizer, write_lm
from tests.reference import filling as reference
from tests.reference.fused import NOTHING, Added
from tests.reference.ngrams import arpa
from tests.reference.phrases import Boost
from tests.whisper import whisper_tokenizer, write_whisper

PHRASES = "a b\t0.7\nba\t2\nad ca\t1.5\nc\t-1\nab\n"
FUSED = ("nothing", "transformer", "seq_rnn", "phrases", "n-grams", "n-grams and phrases", "seq_rnn and phrases")


@dataclass(frozen=True)
class Made:
    """A decoder whose drafts are characters, and its files."""

    model: HybridModel
    tokenizer: Tokenizer
    prompt: tuple[int, ...]
    folder: Path


def tokenizer_of_whisper() -> Tokenizer:
    spec = whisper_tokenizer()
    return ByteBPE(json.dumps(spec).encode(), 1 + max(token["id"] for token in spec["added_tokens"]))


@pytest.fixture(scope="module", params=["whisper", "short whisper", "pieces"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Whisper's decoder, one that can read few tokens, and one of pieces without rules."""
    folder = tmp_path_factory.mktemp("rules")
    if request.param == "pieces":
        tokenizer = s2t_tokenizer(folder)
        model = s2t_model(tokenizer, seed=2, sharpness=3.0)
        prompt = tuple(model.prompt)
    else:
        # Letters that the head writes are among the tokens that are never written, and that are not written first.
        first = tokenizer_of_whisper().encode("a")[0]
        write_whisper(folder / "m", seed=5, suppress_tokens=[first], positions=14 if "short" in request.param else 40)
        model, tokenizer = read_model(folder / "m")
        assert model.s2t is not None
        prompt = model.s2t.prompt("en")
    for kind in ("transformer", "seq_rnn"):
        write_lm(folder / kind, kind, model.vocab_size)
    (folder / "phrases.txt").write_text(PHRASES, encoding="utf-8")
    return Made(model, tokenizer, prompt, folder)


def fused(made: Made, kind: str) -> tuple[dict[str, Any], Added]:
    """The options, and what the reference makes of them."""
    options: dict[str, Any] = {}
    added = replace(NOTHING, sos=made.model.special.sos)
    for part in kind.split(" and "):
        if part in ("transformer", "seq_rnn"):
            options |= {"lm": str(made.folder / part), "lm_weight": 0.4}
            model = read_language_model(options["lm"], made.model.vocab_size, torch.device("cpu"))
            added = replace(added, lm=model, lm_weight=0.4)
        elif part == "n-grams":
            grams = some_grams(made)
            file = made.folder / "lm.arpa"
            file.write_text(arpa(grams), encoding="utf-8")
            options |= {"lm": str(file), "lm_weight": 0.6}
            names = [*made.model.token_list]
            names[made.model.special.eos] = "</s>"
            added = replace(added, grams=grams, gram_weight=0.6, names=names)
        elif part == "phrases":
            file = made.folder / "phrases.txt"
            options |= {"phrases": str(file), "phrase_weight": 1.5}
            spelled = spell_phrases(read_phrases(str(file)), made.tokenizer)
            added = replace(added, boost=Boost({phrase: 1.5 * weight for phrase, weight in spelled.items()}))
    return options, added


def some_grams(made: Made) -> dict[tuple[str, ...], tuple[float, float]]:
    """Random bigrams of tokens that the head's words have; all are probabilities below 1."""
    generator = random.Random(4)
    texts = ("ab ac ad ba ca da aa a b c d".split(), "acd bad dab".split())
    used = {t for words in texts for word in words for t in made.tokenizer.encode(word)}
    words = sorted(made.model.token_list[t] for t in used)
    grams = {(word,): (generator.uniform(-3, -0.3), generator.uniform(-1, 0)) for word in [*words, "<s>", "</s>"]}
    grams[("<unk>",)] = (-2.5, 0.0)
    for first in [*words, "<s>"]:
        for second in generator.sample([*words, "</s>"], 2):
            grams[first, second] = (generator.uniform(-1, -0.1), 0.0)
    return grams


def draw(seed: int, kind: str) -> PAR:
    """Options of a search, at random."""
    generator = random.Random(f"{seed} {kind}")
    weight, mode = generator.choice([(0.0, "prefix"), (0.4, "prefix"), (0.4, "rescore")])
    return PAR(
        threshold=generator.choice([0.6, 0.8, 0.9]),
        beam_size=generator.choice([2, 3]),
        margin=generator.choice([1, 3]),
        ctc_weight=weight,
        ctc_mode=mode,
        context=generator.choice(["draft", "fills"]),
        rounds=generator.choice([1, 1, 2]),
        length_tolerance=generator.choice([None, None, 0.1]),
        length_normalize=generator.random() < 0.3,
    )


def compare(made: Made, kind: str, seed: int) -> tuple[list[Hypothesis], list[Hypothesis]]:
    """Two utterances by both searches and by the reference; returns them with and without what is fused."""
    plain = draw(seed, kind)
    more, added = fused(made, kind)
    options = replace(plain, **more)
    states, lengths = draft_of(seed, 2, 16)
    log_probs = written(seed, 2, 16)
    drafted = Drafted(log_probs, lengths, STRIDE, Spelling(LETTERS, made.tokenizer))
    given = Encoded(states, lengths * STRIDE, None, (made.prompt,) * 2, drafted, made.tokenizer)
    with torch.inference_mode():
        found = options.decode(made.model, given)
        with search_mode(fixed=True):
            fixed = options.decode(made.model, given)
        for i, n in enumerate(lengths.tolist()):
            own = states[i, : n * STRIDE]
            known = made.tokenizer, LETTERS, added
            want = reference.decode_head(made.model, own, log_probs[i, :n], options, made.prompt, *known)
            equal(found[i], want)
            equal(fixed[i], want)
            assert fixed[i].counts == found[i].counts
        return found, plain.decode(made.model, given)


@pytest.mark.parametrize("kind", FUSED)
def test_rules_and_fusion_across_vocabularies(made: Made, kind: str) -> None:
    """``PARLAB_EXAMPLES=30`` compares as many for each searches."""
    for seed in range(examples(1)):
        compare(made, kind, seed)
