"""Every family in training: losses, gradients, dropout, and folders that are written in its own layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from parlab.commands.fit.construct import NetworkOptions, make_network
from parlab.decode import DECODERS
from parlab.errors import UserError
from parlab.model.families.blocks.model import BlockModel
from parlab.model.folder import read_model, write_model
from parlab.model.hybrid import HybridModel
from parlab.model.rows import RowDecoder
from parlab.recognition.recognizer import Recognizer
from parlab.text.targets import Targets
from parlab.text.tokenizer import Tokenizer
from tests.families.dolphin_models import write_dolphin
from tests.families.firered_models import write_firered
from tests.families.same import CPU
from tests.families.speechbrain_models import write_speechbrain
from tests.families.weights import waves
from tests.families.wenet_models import write_wenet
from tests.reference import ctc

WRITERS: dict[str, tuple[Callable[[Path, str], Any], tuple[str, ...]]] = {
    "WeNet": (write_wenet, ("u2pp", "u2", "transformer", "plain")),
    "SpeechBrain": (write_speechbrain, ("conformer", "transformer", "postnorm")),
    "FireRed": (write_firered, ("aed", "deep")),
    "Dolphin": (write_dolphin, ("espnet", "wenet")),
}
CASES = [(family, name) for family, (_, names) in WRITERS.items() for name in names]


def start(folder: Path, family: str, name: str, **network: Any) -> tuple[BlockModel, Tokenizer]:
    """A tiny model as a training starts from it, and its tokenizer."""
    if not folder.exists() or not any(folder.iterdir()):
        WRITERS[family][0](folder, name)
    options = NetworkOptions(str(folder), network, None)
    model, tokenizer = make_network(options, None, folder, None, read_model(folder))  # type: ignore[arg-type]
    assert isinstance(model, BlockModel) and model.family == family
    return model, tokenizer


def batch(model: HybridModel) -> tuple[Tensor, Tensor, Targets]:
    """Three waveforms and texts of 4, 2 and 3 tokens; an S2T model's begin with its symbols."""
    audio = waves()
    never = set(model.special.never) | {model.special.unk}
    letters = [i for i in range(model.vocab_size) if i not in never]
    texts = [letters[3:7], letters[5:7], letters[1:4]]
    head = list(model.s2t.prompt("zh-CN"))[1:] if model.s2t is not None else []
    decoded = [torch.tensor([*head, *text]) for text in texts]
    heard = pad_sequence([torch.tensor(text) for text in texts], batch_first=True, padding_value=-1)
    targets = Targets(
        pad_sequence(decoded, batch_first=True, padding_value=-1),
        torch.tensor([len(text) for text in decoded]),
        ctc_text=heard if head else None,
    )
    return pad_sequence(audio, batch_first=True), torch.tensor([len(wave) for wave in audio]), targets


def single(targets: Targets, i: int) -> Targets:
    """The targets of one utterance."""
    size = int(targets.text_lengths[i])
    heard = targets.ctc_text
    if heard is not None:
        heard = heard[i : i + 1, : int((heard[i] >= 0).sum())]
    return Targets(targets.text[i : i + 1, :size], targets.text_lengths[i : i + 1], None, heard)


@torch.inference_mode()
def numbers(model: HybridModel) -> list[Tensor]:
    """What decoders read of the speech of a batch: states, posteriors, the decoder's scores."""
    encoded = Recognizer(model, Tokenizer(model.token_list, "char"), CPU).encode(waves())
    tokens = torch.tensor([[model.special.sos, 5, 7, 6]] * 3)
    hidden, _ = model.rows.prefill(tokens, model.rows.cross_cache(encoded.states, encoded.frames))
    found = [encoded.states, model.rows.logits(hidden)]
    return found if model.ctc is None else [*found, model.ctc_log_probs(encoded.states)]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_training_and_its_folder(family: str, name: str, tmp_path: Path) -> None:
    """The loss falls, every parameter that is trained gets a gradient, and the folder that is written is the model."""
    torch.manual_seed(0)
    model, tokenizer = start(tmp_path / "from", family, name)
    speech, lengths, targets = batch(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses, reached = [], set()
    for _ in range(8):
        loss = model.loss(speech, lengths, targets).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reached |= {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0], losses
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    # A key's bias adds the same to all scores of a query, which the softmax takes out.
    assert {n for n in trained - reached if not n.endswith("linear_k.bias")} == set()
    assert {n for n, _ in model.named_parameters()} == trained

    model.eval()
    write_model(model, tokenizer, tmp_path / "to")
    again, _ = read_model(tmp_path / "to")
    assert again.family == family
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    for ours, theirs in zip(numbers(model), numbers(again), strict=True):
        assert torch.equal(ours, theirs)
    before, _ = read_model(tmp_path / "from")
    assert not torch.equal(before.encoder.embed.out.weight, again.encoder.embed.out.weight)
    # Every other file is the one that was there, and what the network does not have stays in the weights' file.
    left = {p.name: p.read_bytes() for p in (tmp_path / "from").iterdir()}
    found = {p.name: p.read_bytes() for p in (tmp_path / "to").iterdir()}
    assert found.keys() == left.keys()
    differ = [key for key in found if found[key] != left[key]]
    assert len(differ) == 1 and differ[0] in {"final.pt", "asr.ckpt", "model.pth.tar", "small.pt"}


@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_same_as_decoding_in_any_batch(family: str, name: str, tmp_path: Path) -> None:
    """A training's decoders give the scores of decoding's; the losses of a batch are the means of its utterances' alone.

    Dropout and batch norms are left out.
    """
    model = start(tmp_path, family, name)[0].eval()
    encoded = Recognizer(model, Tokenizer(model.token_list, "char"), CPU).encode(waves())
    tokens = torch.tensor([[model.special.sos, 5, 7, 6], [model.special.sos, 8, 4, 4], [model.special.sos, 9, 5, 8]])
    for decoder in (model.decoder, getattr(model, "right_decoder", None)):
        if decoder is not None:
            rows = RowDecoder(decoder.spec())
            with torch.inference_mode():
                hidden, _ = rows.prefill(tokens, rows.cross_cache(encoded.states, encoded.frames))
                scores, _ = decoder(encoded.states, encoded.frames, tokens, torch.tensor([4, 4, 4]))
            torch.testing.assert_close(scores, rows.logits(hidden), atol=2e-4, rtol=1e-4)
    speech, lengths, targets = batch(model)
    with torch.inference_mode():
        together = model.loss(speech, lengths, targets)
        alone = [
            model.loss(speech[i : i + 1, :n], lengths[i : i + 1], single(targets, i)) for i, n in enumerate(lengths)
        ]
    for kind in ("total", "ctc", "attention"):
        values = [getattr(losses, kind) for losses in alone]
        if values[0] is None:
            assert kind == "ctc" and family == "FireRed" and together.ctc is None
        else:
            torch.testing.assert_close(getattr(together, kind), torch.stack(values).mean(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("family", "name"), [*CASES[:1], *CASES[4:5], *CASES[7:8], *CASES[9:10]])
def test_dropout(family: str, name: str, tmp_path: Path) -> None:
    """In training two passes differ, in evaluation they do not; encoder and decoder each drop values."""
    if family == "SpeechBrain":  # its test folder has none
        write_speechbrain(tmp_path / "model", name)
        params = tmp_path / "model" / "hyperparams.yaml"
        text = params.read_text().replace("transformer_dropout: 0.0", "transformer_dropout: 0.1")
        params.write_text(text)
        model: Any = read_model(tmp_path / "model")[0]
        model.trainable({})
    else:
        model = start(tmp_path / "model", family, name)[0]
    speech, lengths, targets = batch(model)
    states, frames = torch.randn(3, 9, model.encoder.output_size()), torch.tensor([9, 7, 5])
    tokens = targets.text.clamp(min=0)

    def passes() -> list[tuple[Tensor, Tensor]]:
        return [
            (model.encode(speech, lengths)[0], model.decoder(states, frames, tokens, targets.text_lengths)[0])
            for _ in range(2)
        ]

    torch.manual_seed(1)
    with torch.no_grad():
        for training in (True, False):
            model.train(training)
            first, second = passes()
            assert [torch.equal(a, b) for a, b in zip(first, second, strict=True)] == [not training] * 2


def test_the_loss_of_wenets_u2pp_by_hand(tmp_path: Path) -> None:
    """CTC by its forward sums, both decoders token by token, label smoothing by its definition (Szegedy et al. 2016)."""
    model: Any = start(tmp_path, "WeNet", "u2pp")[0].eval()
    speech, lengths, targets = batch(model)
    assert model.config["model_conf"]["reverse_weight"] == 0.3
    with torch.inference_mode():
        found = model.loss(speech, lengths, targets)
        encoded = Recognizer(model, Tokenizer(model.token_list, "char"), CPU).encode(waves())
        smooth, size = 0.1, model.vocab_size

        def decoder_loss(decoder: Any, backward: bool) -> float:
            total = 0.0
            for i in range(3):
                text = [t for t in targets.text[i].tolist() if t >= 0]
                text = [model.special.sos, *(text[::-1] if backward else text), model.special.eos]
                states, frames = encoded.states[i : i + 1], encoded.frames[i : i + 1]
                for n in range(1, len(text)):
                    rows = RowDecoder(decoder.spec())
                    hidden, _ = rows.prefill(torch.tensor([text[:n]]), rows.cross_cache(states, frames))
                    log_probs = rows.logits(hidden[0, -1]).double().log_softmax(0)
                    wanted = torch.full((size,), smooth / (size - 1), dtype=torch.float64)
                    wanted[text[n]] = 1 - smooth
                    total += float((wanted * (wanted.log() - log_probs)).sum())
            return total / 3

        heard = 0.0
        for i in range(3):
            posteriors = model.ctc_log_probs(encoded.states)[i, : encoded.frames[i]].double().tolist()
            heard -= ctc.forward_total(posteriors, [t for t in targets.text[i].tolist() if t >= 0], -1, -1) / 3
        attention = 0.7 * decoder_loss(model.decoder, False) + 0.3 * decoder_loss(model.right_decoder, True)
    assert float(found.ctc) == pytest.approx(heard, abs=1e-3)
    assert float(found.attention) == pytest.approx(attention, abs=1e-3)
    assert float(found.total) == pytest.approx(0.3 * heard + 0.7 * attention, abs=1e-3)


def test_what_no_loss_reaches_stands_still(tmp_path: Path) -> None:
    """The decoder from right to left at weight 0, CTC at 0, the decoders at 1."""

    def trained(**weights: float) -> set[str]:
        model, _ = start(tmp_path, "WeNet", "u2pp", model_conf=weights)
        return {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}

    assert trained() == {"encoder", "decoder", "right_decoder", "ctc"}
    assert trained(reverse_weight=0.0) == {"encoder", "decoder", "ctc"}
    assert trained(ctc_weight=0.0) == {"encoder", "decoder", "right_decoder"}
    assert trained(ctc_weight=1.0) == {"encoder", "ctc"}


def test_spec_augment(tmp_path: Path) -> None:
    """ESPnet's, before the normalisation, in training alone."""
    options = {"apply_time_warp": False, "apply_time_mask": False, "freq_mask_width_range": [5, 20]}
    model, _ = start(tmp_path, "WeNet", "u2", specaug="specaug", specaug_conf=options)
    speech, lengths, _ = batch(model)
    plain = model.eval().features(speech, lengths)[0]
    assert not torch.equal(model.train().features(speech, lengths)[0], plain)
    assert torch.equal(model.eval().features(speech, lengths)[0], plain)


@pytest.mark.parametrize(
    ("case", "network", "message"),
    [
        (("WeNet", "u2"), {"encoder": "conformer"}, "model.network has 'encoder', but a WeNet model keeps the network"),
        (("WeNet", "u2"), {"model_conf": 3}, "model.network.model_conf is '3', expected options with values"),
        (("WeNet", "u2"), {"model_conf": {"ctc_wight": 0.1}}, "has 'ctc_wight', expected .*did you mean 'ctc_weight'"),
        (("WeNet", "u2"), {"model_conf": {"ctc_weight": 2}}, "ctc_weight is 2, expected a share from 0 to 1"),
        (("WeNet", "u2"), {"model_conf": {"reverse_weight": 0.3}}, "no decoder from right to left"),
        (("WeNet", "u2"), {"specaug": "other"}, "model.network.specaug is 'other', expected specaug"),
        (("WeNet", "u2"), {"specaug": "specaug", "specaug_conf": {"x": 1}}, "specaug_conf does not fit"),
        (("FireRed", "aed"), {"model_conf": {"ctc_weight": 0.3}}, "this FireRed model has no CTC head, expected 0"),
    ],
)
def test_refused(case: tuple[str, str], network: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        start(tmp_path, *case, **network)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_its_own_is_refused(tmp_path: Path) -> None:
    write_wenet(tmp_path, "u2")
    options = NetworkOptions(str(tmp_path), {}, {"token_type": "char"})
    with pytest.raises(UserError, match=r"model.tokenizer is given, but a WeNet model keeps that of its folder"):
        make_network(options, None, tmp_path, None, read_model(tmp_path))  # type: ignore[arg-type]


def test_half(tmp_path: Path) -> None:
    model, tokenizer = start(tmp_path / "from", "SpeechBrain", "conformer")
    write_model(model, tokenizer, tmp_path / "to", half=True)
    assert (tmp_path / "to/asr.ckpt").stat().st_size < 0.7 * (tmp_path / "from/asr.ckpt").stat().st_size
    again, _ = read_model(tmp_path / "to")
    torch.testing.assert_close(again.encoder.embed.out.weight, model.encoder.embed.out.weight, atol=1e-3, rtol=1e-3)


def test_a_trained_decoder_is_the_one_that_rescores(tmp_path: Path) -> None:
    """Rows of the decoder from right to left are made anew when its weights have changed."""
    model, tokenizer = start(tmp_path, "WeNet", "u2pp")
    recognizer, decoder = Recognizer(model.eval(), tokenizer, CPU), DECODERS["rescore"](reverse_weight=0.9)
    before = recognizer.decode(decoder, recognizer.encode(waves()))[0].score
    with torch.no_grad():
        model.right_decoder.output_layer.weight.mul_(0.5)  # type: ignore[union-attr, operator]
    assert recognizer.decode(decoder, recognizer.encode(waves()))[0].score != pytest.approx(before, abs=1e-3)
