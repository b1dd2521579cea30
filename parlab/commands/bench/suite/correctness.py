"""Results of the device against those of the CPU: a trained model, every decoder, every precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.suite.plan import Fields, Measurement
from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import AR, PAR, CTCBeam, Decoder, Greedy, Rescore, Speculative
from parlab.errors import UserError
from parlab.metrics.wer import corpus_errors
from parlab.options.devices import set_tf32, weights_dtype
from parlab.options.resources import shipped_model
from parlab.recognition.recognizer import Recognizer
from parlab.synth.espeak import speak
from parlab.synth.grammar import an4, spoken
from parlab.types import Failure, Hypothesis

BATCH = 8
DECODERS: dict[str, Decoder] = {
    "greedy": Greedy(),
    "par": PAR(),
    "par, decoder alone": PAR(ctc_weight=0.0),
    "ar": AR(),
    "rescore": Rescore(),
    "ctc_beam": CTCBeam(),
    "speculative": Speculative(),
}


@dataclass(frozen=True)
class Speech:
    """Waveforms, each (samples,), their texts (None where they say nothing), and where they come from."""

    waves: list[Tensor]
    texts: list[str] | None
    source: str


def some_speech(options: BenchOptions, sample_rate: int) -> Speech:
    """Speech of ``--data``; else sentences that eSpeak NG speaks; else, where it is not installed, noise."""
    count = options.utterances
    if options.data:
        utterances = read_data(options.data, count)
        waves = [load_audio(u.audio, sample_rate, u.start, u.duration) for u in utterances]
        texts = [u.text for u in utterances if u.text is not None]
        return Speech(waves, texts if len(texts) == len(waves) else None, options.data)
    try:
        texts = [an4(Random(i)) for i in range(count)]
        waves = [torch.from_numpy(speak(spoken(text), sample_rate=sample_rate)) for text in texts]
        return Speech(waves, texts, "eSpeak NG")
    except UserError:
        generator = torch.Generator().manual_seed(0)
        waves = [0.1 * torch.randn(sample_rate * (1 + i % 4), generator=generator) for i in range(count)]
        return Speech(waves, None, "noise")


def correctness_cases(options: BenchOptions, device: torch.device) -> Iterator[Measurement]:
    """A case for each precision and decoder; the CPU's results in float32 are made once."""
    cpu = Recognizer.read(options.model or shipped_model(), torch.device("cpu"))
    speech = some_speech(options, cpu.model.sample_rate)
    wanted: dict[str, list[Hypothesis | Failure]] = {}
    for precision in dict.fromkeys(("32-true", *options.precisions)):
        model = copy.deepcopy(cpu.model).to_device(device, weights_dtype(precision))
        recognizer = replace(cpu, model=model, device=device)
        for name, decoder in DECODERS.items():

            def run(
                name: str = name,
                decoder: Decoder = decoder,
                recognizer: Recognizer = recognizer,
                precision: str = precision,
            ) -> Fields:
                set_tf32(False)
                if name not in wanted:
                    wanted[name] = decoded(cpu, decoder, speech.waves, BATCH)
                set_tf32(precision == "tf32")
                return compared(wanted[name], recognizer, decoder, speech)

            about = {"part": "correctness", "decoder": name, "precision": precision, "speech": speech.source}
            yield Measurement(about, run)


def decoded(
    recognizer: Recognizer, decoder: Decoder, waves: Sequence[Tensor], batch: int
) -> list[Hypothesis | Failure]:
    """Results in the order of ``waves``, ``batch`` of them at a time."""
    found: list[Hypothesis | Failure] = []
    for first in range(0, len(waves), batch):
        found += recognizer.recognize(decoder, waves[first : first + batch])
    return found


def compared(
    wanted: Sequence[Hypothesis | Failure], recognizer: Recognizer, decoder: Decoder, speech: Speech
) -> Fields:
    """How many results equal the CPU's, themselves in a second run, and themselves one at a time."""
    found = decoded(recognizer, decoder, speech.waves, BATCH)
    again = decoded(recognizer, decoder, speech.waves, BATCH)
    alone = decoded(recognizer, decoder, speech.waves, 1)
    scores = [
        abs(a.score - b.score)
        for a, b in zip(wanted, found, strict=True)
        if isinstance(a, Hypothesis) and isinstance(b, Hypothesis) and a.tokens == b.tokens
    ]
    row: dict[str, bool | int | float | str | None] = {
        "utterances": len(wanted),
        "as_on_cpu": same(wanted, found),
        "repeated": same(found, again),
        "alone": same(found, alone),
        "largest_score_difference": max(scores, default=None),
    }
    if speech.texts is not None:
        texts = [recognizer.tokenizer.decode(h.tokens) if isinstance(h, Hypothesis) else "" for h in found]
        row["wer"] = corpus_errors(speech.texts, texts)["wer"].rate
    return row


def same(one: Sequence[Hypothesis | Failure], other: Sequence[Hypothesis | Failure]) -> int:
    """Number of utterances with the same tokens."""
    pairs = zip(one, other, strict=True)
    return sum(isinstance(a, Hypothesis) and isinstance(b, Hypothesis) and a.tokens == b.tokens for a, b in pairs)
