"""Scores that are no numbers: the utterance fails with a reason, the others of its batch are decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import parlab
from parlab.data.utterance import Utterance
from parlab.decode import DECODERS, PAR, Decoder
from parlab.errors import TranscriptionError
from parlab.model.hybrid import HybridModel
from parlab.options.decoders import make_decoder
from parlab.recognition.batches import LoadedBatch
from parlab.recognition.encodings import Encodings
from parlab.recognition.finite import find_usable
from parlab.recognition.padded import PaddedWaves
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure, Hypothesis
from tests.helpers import lines, predict
from tests.models import encoded, random_posteriors, tiny_model

SOME = PAR(threshold=0.6)  # masks some of the tokens of the random model, not all
WAVES = [torch.sin(torch.arange(n) * 0.05 * (1 + torch.arange(n) / n)) * 0.3 for n in (16000, 9000, 12000)]


def recognizer() -> Recognizer:
    net = tiny_model(4, sharpness=8.0)
    return Recognizer(net, Tokenizer(net.token_list, "char"), torch.device("cpu"))


def overflow(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the CTC head of all models overflow on audio of ``longest`` frames, as float16 may on loud audio."""
    real = HybridModel.ctc_log_probs

    def ctc_log_probs(self: HybridModel, states: torch.Tensor) -> torch.Tensor:
        out = real(self, states).clone()
        out[:, longest:] = float("nan")
        return out

    monkeypatch.setattr(HybridModel, "ctc_log_probs", ctc_log_probs)


@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"greedy", "ctc_beam"}))
def test_the_decoder_gives_no_numbers(name: str) -> None:
    broken = recognizer()
    broken.model.decoder.output_layer.bias[5] = float("nan")
    options = {"threshold": 0.6} if name == "par" else {}
    found = broken.recognize(make_decoder(name, **options), WAVES)
    assert all(isinstance(f, Failure) and "not finite" in f.reason for f in found)


@pytest.mark.parametrize("decoder", [make_decoder("greedy"), make_decoder("ar"), SOME])
def test_one_utterance_of_a_batch(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The padding of the others, which is broken too, does not count."""
    good = recognizer()
    want = good.recognize(decoder, WAVES)
    overflow(18, monkeypatch)  # 16000 samples are 24 frames, 12000 are 18, 9000 are 13
    found = good.recognize(decoder, WAVES)
    assert isinstance(found[0], Failure)
    for i in (1, 2):
        one, other = found[i], want[i]
        assert isinstance(one, Hypothesis) and isinstance(other, Hypothesis)
        assert one.tokens == other.tokens and one.score == pytest.approx(other.score, abs=1e-4)


def test_minus_infinity_is_a_number() -> None:
    """Also without a CTC head, where the states are looked at."""
    net = tiny_model(0)
    posteriors = random_posteriors(0, 2, 6, net.vocab_size)
    posteriors[:, :, 3] = float("-inf")
    states, frames = torch.zeros(2, 6, 32), torch.tensor([6, 4])
    assert find_usable(encoded(net, states, frames, posteriors)) == [0, 1]
    posteriors[1, 4:] = float("nan")  # padding
    assert find_usable(encoded(net, states, frames, posteriors)) == [0, 1]
    posteriors[1, 3, 2] = float("nan")
    assert find_usable(encoded(net, states, frames, posteriors)) == [0]
    net = tiny_model(0, model_conf={"ctc_weight": 0.0})
    states[0, 2, 5] = float("inf")
    assert find_usable(encoded(net, states, frames)) == [1]


def test_python_and_predict_and_sweep_say_so(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow(30, monkeypatch)
    asr = parlab.load(model, device="cpu")
    audio = [data.parent / f"u{i}.wav" for i in range(8)]  # 0.4 to 2.15 s
    with pytest.raises(TranscriptionError) as found:
        asr.transcribe(audio, decoder="greedy")
    assert all("not finite" in f.reason for f in found.value.failures)
    late = [f.id for f in found.value.failures]
    assert 0 < len(late) < 8 and late == sorted(late)
    metrics = predict(model, data, make_decoder("greedy"), tmp_path / "p")
    assert metrics is not None
    assert [f.id for f in metrics.failed] == late and "not finite" in metrics.failed[0].reason
    assert len(lines(tmp_path / "p")) == 8 - len(late)
    encodings = Encodings(tmp_path / "cache", 1.0, 1.0)
    one, other = (torch.zeros(n) for n in (64000, 8000))
    encodings.add(
        asr.recognizer, LoadedBatch(PaddedWaves.of([one, other]), [Utterance(n, Path(n)) for n in "ab"], [], 0.0)
    )
    assert [f.id for f in encodings.failed] == ["a"]
    assert [u.id for batch in encodings.batches for u in batch.utterances] == ["b"]
