"""Fine-tuning S2T models: the losses of ESPnet's own class, the fields of manifests, adapters merged exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.data.examples import Item, TrainingSet
from parlab.data.s2t_targets import plain, s2t_targets, transcription
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.model.lora import LoRA, add_lora, merge_lora, without_lora
from parlab.text.padding import pad_tokens
from parlab.text.targets import Targets
from parlab.text.tokenizer import Tokenizer
from tests.s2t import espnets_own, s2t_config, s2t_model, s2t_tokenizer

RATE = 16000


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return s2t_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def model(tokenizer: Tokenizer) -> HybridModel:
    return s2t_model(tokenizer, sharpness=1.0)


def utterance(text: str, **extra: str) -> Utterance:
    return Utterance("u", Path("u.wav"), text, extra=extra)


def test_targets(model: HybridModel, tokenizer: Tokenizer) -> None:
    s2t, ids = model.s2t, tokenizer.index
    assert s2t is not None
    head = tuple(ids[t] for t in ("<eng>", "<asr>"))
    words = tuple(tokenizer.encode("the cat"))
    simple = s2t_targets(utterance("the cat"), tokenizer, s2t)
    assert simple.text == (*head, ids["<notimestamps>"], *words)
    assert (simple.previous, simple.ctc) == (None, words)
    timed = utterance("<0.10> the cat<0.90>", lang="<eng>", text_prev="a dog ran")
    both = s2t_targets(timed, tokenizer, s2t)
    assert both.text == (*head, ids["<0.10>"], *words, ids["<0.90>"])
    assert (both.previous, both.ctc) == (tuple(tokenizer.encode("a dog ran")), words)
    neither = s2t_targets(timed, tokenizer, s2t, with_previous=False, with_times=False)
    assert (neither.text, neither.previous) == (simple.text, None)
    translated = utterance("the cat", lang="deu", task="st_eng")
    assert s2t_targets(translated, tokenizer, s2t).ctc is None
    assert s2t_targets(translated, tokenizer, s2t).text[:2] == (ids["<deu>"], ids["<st_eng>"])
    heard = utterance("the cat", lang="deu", task="st_eng", text_ctc="a hill", text_prev="<na>")
    assert s2t_targets(heard, tokenizer, s2t).ctc == tuple(tokenizer.encode("a hill"))
    assert s2t_targets(heard, tokenizer, s2t).previous is None
    assert (plain("<0.10> the cat<0.90>"), transcription(heard)) == ("the cat", "a hill")
    with pytest.raises(UserError, match="no language 'eg'"):
        s2t_targets(utterance("x", lang="eg"), tokenizer, s2t)


def pad(rows: Any) -> torch.Tensor:
    return pad_tokens(rows, padding=-1)[0]


def example(tokenizer: Tokenizer, model: HybridModel) -> Any:
    """Speech, and targets with and without previous text, CTC text and times."""
    assert model.s2t is not None
    utterances = [
        utterance("<0.10> the cat sat<0.90>", text_prev="a dog ran over the hill"),
        utterance("many words", lang="deu", task="st_eng"),
        utterance("the moon", lang="fra", text_prev="<na>", text_ctc="the mat"),
    ]
    targets = [s2t_targets(u, tokenizer, model.s2t) for u in utterances]
    speech = 0.3 * torch.randn(3, 2 * RATE, generator=torch.Generator().manual_seed(0))
    text, previous, heard = (
        pad(rows) for rows in zip(*[(t.text, t.previous or (), t.ctc or ()) for t in targets], strict=True)
    )
    return targets, speech, text, previous, heard


def test_losses_are_espnets(model: HybridModel, tokenizer: Tokenizer) -> None:
    """A batch with and without a previous text and a CTC text, against ``ESPnetS2TModel.forward``."""
    targets, speech, text, previous, heard = example(tokenizer, model)
    theirs = espnets_own(s2t_config(tokenizer), model.state_dict())
    lengths = torch.tensor([2 * RATE] * 3)
    missing = [tokenizer.index["<na>"]]
    before = pad([t.previous if t.previous is not None else missing for t in targets])
    spoken = pad([t.ctc if t.ctc is not None else missing for t in targets])
    loss, stats, _ = theirs(
        speech,
        lengths,
        text.clone(),
        (text >= 0).sum(1),
        before,
        (before >= 0).sum(1),
        spoken,
        (spoken >= 0).sum(1),
    )
    ours = model.loss(speech, lengths, Targets(text, (text >= 0).sum(1), previous, heard))
    assert ours.ctc is not None and ours.attention is not None
    assert float(ours.attention) == pytest.approx(float(stats["loss_att"]), rel=1e-4)
    assert float(ours.ctc) == pytest.approx(float(stats["loss_ctc"]), rel=1e-4)
    assert float(ours.total) == pytest.approx(float(loss), rel=1e-4)


def test_a_batch_without_any_ctc_text(model: HybridModel, tokenizer: Tokenizer) -> None:
    _, speech, text, previous, heard = example(tokenizer, model)
    unheard = Targets(text, (text >= 0).sum(1), previous, torch.full_like(heard, -1))
    losses = model.loss(speech, torch.tensor([2 * RATE] * 3), unheard)
    assert losses.ctc is not None
    assert float(losses.ctc) == 0.0
    assert torch.isfinite(losses.total)


def test_draws_decide_what_is_used(model: HybridModel, tokenizer: Tokenizer) -> None:
    data = TrainingSet([utterance("<0.10> the cat<0.90>", text_prev="a dog")], tokenizer, RATE, model.s2t)
    found = {draw: data.s2t_targets(Item((0,), 1.0, 1.0, 1.0, draw)) for draw in (0.0, 0.3, 0.6, 0.9)}
    times = {draw: any(model.s2t.is_time(t) for t in f.text) for draw, f in found.items()}  # type: ignore[union-attr]
    assert times == {0.0: True, 0.3: False, 0.6: True, 0.9: False}
    assert {draw: f.previous is not None for draw, f in found.items()} == {0.0: True, 0.3: True, 0.6: False, 0.9: False}


def test_adapters_are_merged_exactly(model: HybridModel, tokenizer: Tokenizer) -> None:
    targets = ("linear_q", "linear_v", "w_1")
    plain_names = set(model.state_dict())
    speech, lengths = torch.randn(2, 2 * RATE), torch.tensor([2 * RATE, RATE])
    before = model.encode(speech, lengths)[0]
    add_lora(model, LoRA(rank=4, alpha=8.0, targets=targets))
    torch.testing.assert_close(model.encode(speech, lengths)[0], before)  # B starts at zero
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.3)
    adapted = model.encode(speech, lengths)[0]
    assert (adapted - before).abs().max() > 1e-2
    merged = without_lora(model)
    assert set(merged.state_dict()) == plain_names == set(merge_lora(model.state_dict(), model.lora_scale))
    torch.testing.assert_close(merged.encode(speech, lengths)[0], adapted, atol=1e-4, rtol=1e-4)
    theirs = espnets_own(s2t_config(tokenizer), merged.state_dict())
    torch.testing.assert_close(theirs.encode(speech[:1], lengths[:1])[0], adapted[:1], atol=1e-4, rtol=1e-3)
    with pytest.raises(UserError, match="targets names 'linear_x'"):
        add_lora(merged, LoRA(rank=2, targets=("linear_x",)))
