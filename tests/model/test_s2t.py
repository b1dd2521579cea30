"""S2T models: the same outputs as ESPnet's own classes, prompts, and loading from a filled hub cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import parlab
from parlab.decode import DECODERS
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer
from tests.models import TIMES, WINDOW, encoded, s2t_config, s2t_model, s2t_tokenizer
from tests.s2t import espnets_own, fill_cache

RATE = 16000


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return s2t_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> HybridModel:
    return s2t_model(tokenizer)


def wave(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seconds", [0.7, 1.3, 2.0, 3.1])
def test_encoder_and_posteriors_are_espnets(seconds: float, model: HybridModel, tokenizer: Tokenizer) -> None:
    """Padded or cut to the window as ESPnet's Speech2Text does, whatever stands beside it in the batch."""
    theirs = espnets_own(s2t_config(tokenizer), model.state_dict())
    speech = wave(seconds)
    size = round(WINDOW * RATE)
    padded = torch.nn.functional.pad(speech[:size], (0, max(0, size - len(speech)))).unsqueeze(0)
    want, frames = theirs.encode(padded, torch.tensor([size]))
    other = wave(1.1, 1)
    batch = torch.nn.utils.rnn.pad_sequence([speech, other], batch_first=True)
    states, lengths = model.encode(batch, torch.tensor([len(speech), len(other)]))
    assert lengths.tolist() == [int(frames[0])] * 2
    torch.testing.assert_close(states[:1], want, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(model.ctc_log_probs(states[:1]), theirs.ctc.log_softmax(want), atol=1e-4, rtol=1e-4)


def test_prompts(model: HybridModel, tokenizer: Tokenizer) -> None:
    s2t, ids = model.s2t, tokenizer.index
    assert s2t is not None
    assert model.prompt == tuple(ids[t] for t in ("<sos>", "<eng>", "<asr>", "<notimestamps>"))
    assert s2t.prompt("deu", "st_eng", True) == tuple(ids[t] for t in ("<sos>", "<deu>", "<st_eng>"))
    before = tuple(tokenizer.encode("the cat"))
    assert s2t.prompt("<fra>", previous=before)[: len(before) + 2] == (ids["<sop>"], *before, ids["<sos>"])
    assert set(s2t.languages) == {"<deu>", "<eng>", "<fra>", "<nolang>"}
    assert set(s2t.tasks) == {"<asr>", "<st_deu>", "<st_eng>"}
    with pytest.raises(UserError, match="no language 'egn'; did you mean 'eng'"):
        s2t.prompt("egn")
    with pytest.raises(UserError, match="no task 'st_fra'"):
        s2t.prompt("eng", "st_fra")


def test_symbols_are_no_text(model: HybridModel, tokenizer: Tokenizer) -> None:
    special = {tokenizer.index[t] for t in (*TIMES, "<eng>", "<asr>", "<sop>", "<sos>", "<eos>", "<na>", "<nolang>")}
    assert special <= set(model.special.never)
    assert model.special.sos == tokenizer.index["<sos>"]
    assert model.special.eos == tokenizer.index["<eos>"]


@pytest.mark.parametrize("name", ["greedy", "ctc_beam", "rescore", "par", "speculative"])
def test_decoders_that_write_no_times_refuse_them(name: str, model: HybridModel) -> None:
    assert model.s2t is not None
    states, frames = torch.randn(1, 12, 32), torch.tensor([12])
    with pytest.raises(UserError, match="cannot write times; decode with ar and ctc_weight 0"):
        DECODERS[name]().decode(model, encoded(model, states, frames, prompt=model.s2t.prompt(timestamps=True)))


def test_timed_parts(model: HybridModel, tokenizer: Tokenizer) -> None:
    s2t, ids = model.s2t, tokenizer.index
    assert s2t is not None
    the, cat = tokenizer.encode("the")[0], tokenizer.encode("cat")[0]
    tokens = [ids["<0.20>"], the, cat, ids["<0.90>"], ids["<0.90>"], cat, ids["<1.50>"], ids["<1.60>"], the]
    assert s2t.timed(tokens) == [(0.2, 0.9, (the, cat)), (0.9, 1.5, (cat,)), (1.6, WINDOW, (the,))]


@pytest.mark.parametrize("kind", ["s2t", "s2t_ctc"])
def test_filled_hub_cache_needs_no_network(
    kind: str, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``parlab.load(hub id)``: the real code, on a cache as huggingface_hub leaves it."""
    from huggingface_hub import constants

    model = s2t_model(tokenizer, kind)
    fill_cache(tmp_path / "hub", "espnet/owsm_tiny", model, tokenizer, s2t_config(tokenizer, kind))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    asr = parlab.load("espnet/owsm_tiny", device="cpu")
    assert asr.model.kind == kind
    assert asr.model.token_list == tokenizer.token_list
    speech = wave(1.5).unsqueeze(0)
    mine, yours = (m.encode(speech, torch.tensor([speech.size(1)]))[0] for m in (asr.model, model))
    torch.testing.assert_close(mine, yours)
    found = asr.transcribe((wave(1.5).numpy(), RATE), decoder="greedy", language="eng")
    assert found[0].text == tokenizer.decode(found[0].tokens)
    with pytest.raises(UserError, match="neither in the local cache nor to be fetched"):
        parlab.load("espnet/owsm_absent")


@pytest.mark.parametrize("previous", ["", "the cat sat"])
def test_owsm_ctc_is_espnets(previous: str, tokenizer: Tokenizer) -> None:
    """Utterances of several lengths and languages in one batch equal ESPnet's model on each alone."""
    model = s2t_model(tokenizer, "s2t_ctc", seed=3)
    s2t = model.s2t
    assert s2t is not None
    theirs = espnets_own(s2t_config(tokenizer, "s2t_ctc"), model.state_dict())
    words = tuple(tokenizer.encode(previous)) if previous else ()
    prompts = [s2t.prompt(language, "asr", previous=words) for language in ("eng", "deu", "eng")]
    waves = [wave(1.2, 1), wave(1.2, 2), wave(0.8, 3)]
    batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    states, frames = model.encode(batch, torch.tensor([len(w) for w in waves]), prompts)
    for i, (speech, prompt) in enumerate(zip(waves, prompts, strict=True)):
        before = torch.tensor([prompt[:-2]])
        want, count = theirs.encode(
            speech.unsqueeze(0),
            torch.tensor([len(speech)]),
            before,
            torch.tensor([before.size(1)]),
            torch.tensor([prompt[-2:]]),
            torch.tensor([2]),
        )
        want = want[0] if isinstance(want, tuple) else want
        assert int(frames[i]) == int(count[0])
        torch.testing.assert_close(states[i : i + 1, : int(count[0])], want, atol=2e-5, rtol=1e-4)


def test_owsm_ctc_in_bfloat16(tokenizer: Tokenizer) -> None:
    """All that stands behind the front end is converted, the readers of prompts too."""
    whole = s2t_model(tokenizer, "s2t_ctc", seed=3)
    speech, lengths = wave(1.2).unsqueeze(0), torch.tensor([round(1.2 * RATE)])
    want, _ = whole.encode(speech, lengths)
    states, _ = whole.to_device(torch.device("cpu"), torch.bfloat16).encode(speech, lengths)
    assert states.dtype == torch.bfloat16
    torch.testing.assert_close(states.float(), want, atol=0.2, rtol=0.2)
