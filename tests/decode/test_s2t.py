"""Decoders on S2T models: ESPnet's AR with and without timestamps, languages, prompts, and what CTC cannot do."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from parlab.decode import AR, DECODERS, PAR, Greedy
from parlab.errors import UserError
from parlab.model.families.espnet import load, search_class
from parlab.model.hybrid import HybridModel
from parlab.recognition.prompting import Prompting, PromptOptions, identify_languages
from parlab.text.tokenizer import Tokenizer
from tests.models import TIMES, encoded, s2t_model, s2t_tokenizer
from tests.reference.par import decode as reference


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return s2t_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> HybridModel:
    return s2t_model(tokenizer, seed=5)


def time_filter(tokenizer: Tokenizer) -> Any:
    """The rules of ESPnet's ``ScoreFilter``, token by token (its module needs torchaudio)."""
    base = load("espnet.nets.scorer_interface", "BatchScorerInterface")
    ids = tokenizer.index
    notimestamps, first, last = ids["<notimestamps>"], ids[TIMES[0]], ids[TIMES[-1]]
    sos, eos = ids["<sos>"], ids["<eos>"]

    class ScoreFilter(base, torch.nn.Module):  # type: ignore[misc, valid-type]
        def score(self, y: torch.Tensor, state: Any, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
            score = torch.zeros(len(tokenizer.token_list))
            tokens = y.tolist()
            times = [t for t in tokens if first <= t <= last]
            if notimestamps in tokens:
                score[first : last + 1] = float("-inf")
            elif tokens[-3] == sos:
                score[:first] = float("-inf")
                score[last + 1 :] = float("-inf")
            elif len(times) % 2 == 1:
                score[eos] = float("-inf")
                score[first : times[-1] + 1] = float("-inf")
            elif first <= tokens[-1] <= last:
                score[: tokens[-1]] = float("-inf")
                score[last + 1 :] = float("-inf")
                score[eos] = 0.0
            else:
                score[:] = float("-inf")
            return score, None

        def batch_score(self, ys: torch.Tensor, states: Any, xs: torch.Tensor) -> Any:
            found = [self.score(y, None, x)[0] for y, x in zip(ys, xs, strict=True)]
            return torch.stack(found), [None] * len(ys)

    return ScoreFilter()


def espnets_ar(
    model: HybridModel, tokenizer: Tokenizer, states: torch.Tensor, primer: tuple[int, ...], beam: int
) -> tuple[tuple[int, ...], float]:
    """Tokens and score as ESPnet's ``s2t_inference`` finds them."""
    search = search_class("beam")(
        beam_size=beam,
        weights={"decoder": 1.0, "scorefilter": 1.0},
        scorers={"decoder": model.decoder, "scorefilter": time_filter(tokenizer)},
        sos=model.special.sos,
        eos=model.special.eos,
        vocab_size=model.vocab_size,
        token_list=model.token_list,
        pre_beam_score_key="full",
    )
    search.set_hyp_primer(list(primer))
    best = search(states)[0]
    tokens = best.yseq.tolist()[len(primer) :]
    while tokens and tokens[-1] == model.special.eos:
        tokens.pop()
    return tuple(tokens), float(best.score)


@pytest.mark.parametrize("seed", range(20))
def test_ar_is_espnets(seed: int, tokenizer: Tokenizer) -> None:
    """With prompts of several tokens, without and with timestamps, two utterances at once.

    Attention only, as ESPnet's S2T default is: its CTC prefix scorer counts the primer as CTC output, and misses the first
    frames or runs out of them. A <sos> inside the text would restart its rules of timestamps, so this model writes none.
    """
    rng = random.Random(seed)
    model = s2t_model(tokenizer, seed=seed, sharpness=rng.choice([3.0, 6.0]))
    s2t = model.s2t
    assert s2t is not None and model.decoder is not None
    model.decoder.output_layer.bias[model.special.sos] = -100.0
    frames = rng.randint(8, 20)
    states = torch.randn(2, frames, 32)
    lengths = torch.tensor([frames, frames - rng.randint(0, 3)])
    timestamps = seed % 2 == 1
    words = tuple(tokenizer.encode("the cat sat")) if rng.random() < 0.5 else ()
    prompts = [s2t.prompt(language, "asr", timestamps, words) for language in ("eng", "deu")]
    beam = rng.choice([1, 4])
    ours = AR(beam_size=beam, ctc_weight=0.0, allow_special=True).decode(
        model, encoded(model, states, lengths, prompt=prompts)
    )
    for i, hypothesis in enumerate(ours):
        tokens, score = espnets_ar(model, tokenizer, states[i, : lengths[i]], prompts[i], beam)
        assert hypothesis.tokens == tokens
        assert hypothesis.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_timestamps_follow_their_rules(seed: int, tokenizer: Tokenizer) -> None:
    model = s2t_model(tokenizer, seed=seed, sharpness=5.0)
    s2t = model.s2t
    assert s2t is not None
    states, lengths = torch.randn(3, 15, 32), torch.tensor([15, 12, 9])
    mixed = [s2t.prompt("eng", timestamps=flag) for flag in (True, False, True)]
    found = AR(beam_size=3, ctc_weight=0.0).decode(model, encoded(model, states, lengths, prompt=mixed))
    for hypothesis, timed in zip(found, (True, False, True), strict=True):
        times = [t for t in hypothesis.tokens if s2t.is_time(t)]
        assert bool(times) == timed
        if timed:
            assert s2t.is_time(hypothesis.tokens[0])
            assert times == sorted(times)
        others = [t for t in hypothesis.tokens if not s2t.is_time(t)]
        assert not set(others) & set(model.special.never)


def test_timestamps_and_ctc_do_not_mix(model: HybridModel) -> None:
    assert model.s2t is not None
    with pytest.raises(UserError, match="expected ctc_weight 0 with them"):
        AR().decode(
            model, encoded(model, torch.randn(1, 10, 32), torch.tensor([10]), prompt=model.s2t.prompt(timestamps=True))
        )


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_every_decoder_decodes(name: str, model: HybridModel) -> None:
    """In a batch and alone, with prompts of several lengths, the same; no symbol in a result."""
    assert model.s2t is not None
    states, lengths = torch.randn(3, 14, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([14, 10, 6])
    prompts = [
        model.s2t.prompt(lang, previous=words) for lang, words in (("eng", ()), ("deu", (40, 41)), ("fra", (42,)))
    ]
    decoder = DECODERS[name]()
    together = decoder.decode(model, encoded(model, states, lengths, prompt=prompts))
    for i, hypothesis in enumerate(together):
        alone = decoder.decode(
            model, encoded(model, states[i : i + 1, : lengths[i]], lengths[i : i + 1], prompt=[prompts[i]])
        )[0]
        assert hypothesis.tokens == alone.tokens
        assert hypothesis.score == pytest.approx(alone.score, abs=1e-3)
        if name in {"ar", "par", "speculative"}:
            kept = (
                set()
                if name != "par"
                else set(Greedy().decode(model, encoded(model, states, lengths, prompt=prompts))[i].tokens)
            )
            assert not (set(hypothesis.tokens) - kept) & set(model.special.never)


@pytest.mark.parametrize("seed", range(10))
def test_par_with_a_prompt_is_the_reference(seed: int, tokenizer: Tokenizer) -> None:
    """The prompt (a previous text too) is a part of the prefix of every segment."""
    model = s2t_model(tokenizer, seed=seed, sharpness=4.0)
    assert model.s2t is not None
    prompt = model.s2t.prompt("eng", previous=tuple(tokenizer.encode("a dog ran")) if seed % 2 else ())
    states, lengths = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(seed)), torch.tensor([16])
    weight = 0.3 if seed % 3 == 0 else 0.0
    options = PAR(threshold=0.5 + 0.05 * seed, beam_size=3, ctc_weight=weight, max_seq_len=5)
    found = options.decode(model, encoded(model, states, lengths, prompt=[prompt]))[0]
    log_probs = model.ctc_log_probs(states)[0]
    want = reference(model, states[0], log_probs, options.threshold, 3, 5, weight=weight, prompt=prompt)
    assert found.tokens == want.tokens


def test_other_tasks_need_the_decoder(model: HybridModel, tokenizer: Tokenizer) -> None:
    assert model.s2t is not None
    states, lengths = torch.randn(1, 12, 32), torch.tensor([12])
    prompt = model.s2t.prompt("deu", "st_eng")
    for name in ("greedy", "ctc_beam", "rescore", "par", "speculative", "ar"):
        with pytest.raises(UserError, match=r"<st_eng>.*decode with ar and ctc_weight 0"):
            DECODERS[name]().decode(model, encoded(model, states, lengths, prompt=prompt))
    assert AR(ctc_weight=0.0).decode(model, encoded(model, states, lengths, prompt=prompt))
    deaf = s2t_model(tokenizer, model_conf={"ctc_weight": 0.0})
    with pytest.raises(UserError, match=r"no CTC head.*decode it with ar and ctc_weight 0"):
        PAR().decode(deaf, encoded(deaf, states, lengths))
    assert AR(ctc_weight=0.0).decode(deaf, encoded(deaf, states, lengths))


def test_language_identification(model: HybridModel) -> None:
    """The decoder's first step after <sos>, over the languages alone, as ESPnet's Speech2Language."""
    assert model.s2t is not None and model.decoder is not None
    states, lengths = torch.randn(4, 12, 32, generator=torch.Generator().manual_seed(2)), torch.tensor([12, 12, 9, 5])
    found = identify_languages(model, states, lengths)
    for i, name in enumerate(found):
        start = torch.tensor([[model.special.sos]])
        scores, _ = model.decoder.batch_score(start, [None], states[i : i + 1, : lengths[i]])
        ids = list(model.s2t.languages.values())
        assert model.s2t.languages[name] == ids[int(scores[0, ids].argmax())]
    prompts = Prompting(PromptOptions(language="auto")).for_decoder(model, states, lengths)
    assert prompts is not None
    assert [p[1] for p in prompts] == [model.s2t.languages[name] for name in found]


def test_prefix_is_stored_once(model: HybridModel, tokenizer: Tokenizer) -> None:
    """The cache holds prompt and draft once per utterance, however many segments and beams read it."""
    assert model.s2t is not None
    states, lengths = torch.randn(2, 16, 32), torch.tensor([16, 16])
    sizes: list[tuple[int, ...]] = []
    rows = model.rows
    before = type(rows).prefill

    def spying(self: Any, tokens: torch.Tensor, *more: Any, **named: Any) -> Any:
        out = before(self, tokens, *more, **named)
        sizes.append(tuple(tokens.shape))
        return out

    type(rows).prefill = spying  # type: ignore[method-assign]
    try:
        prompt = model.s2t.prompt("eng", previous=tuple(tokenizer.encode("we went home")))
        PAR(threshold=1.0, beam_size=5).decode(model, encoded(model, states, lengths, prompt=prompt))
    finally:
        type(rows).prefill = before  # type: ignore[method-assign]
    assert [size[0] for size in sizes] == [2]


def test_ctc_alone_chooses_among_all_tokens(model: HybridModel) -> None:
    """With a weight of 1 neither the decoder nor the rules of times may pick the candidates of CTC."""
    speech = 0.3 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(3))
    states, lengths = model.encode(speech, torch.tensor([16000, 12000]))
    options = {"beam_size": 4, "maxlenratio": -6}
    alone = AR(ctc_weight=1.0, **options).decode(model, encoded(model, states, lengths))
    nearly = AR(ctc_weight=1.0 - 1e-7, pre_beam_ratio=1000, **options).decode(model, encoded(model, states, lengths))
    for a, b in zip(alone, nearly, strict=True):
        assert a.tokens == b.tokens
        assert a.score == pytest.approx(b.score, abs=1e-3)
