"""A trained model on real speech: whole utterances of PAR against greedy, at batch 1 and batched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.rows import Row
from parlab.commands.bench.timing import median, time_in_turn
from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import AR, PAR, Decoder, Greedy
from parlab.recognition.recognizer import Recognizer
from parlab.types import Hypothesis

SECONDS = 20.0
DECODERS: dict[str, Decoder] = {
    "greedy": Greedy(),
    "par": PAR(),
    "par, decoder alone": PAR(ctc_weight=0.0),
    "ar joint": AR(),
}


def joined(data: str, rate: int, count: int) -> list[Tensor]:
    """Utterances of about 20 s, each joined from neighbours of a data set."""
    waves: list[Tensor] = []
    parts: list[Tensor] = []
    for utterance in read_data(data):
        parts.append(load_audio(utterance.audio, rate, utterance.start, utterance.duration))
        if sum(len(part) for part in parts) >= SECONDS * rate:
            waves.append(torch.cat(parts)[: int(SECONDS * rate)])
            parts = []
        if len(waves) == count:
            break
    return waves


def speech_rows(recognizer: Recognizer, options: BenchOptions) -> list[Row]:
    """A row per decoder and batch size; ``ratio`` is to greedy of the same batch size."""
    assert options.data is not None
    waves = joined(options.data, recognizer.model.sample_rate, options.batch)
    return [row for size in (1, len(waves)) for row in _rows_of_batch(recognizer, waves, size, options.repeats)]


def _rows_of_batch(recognizer: Recognizer, waves: Sequence[Tensor], size: int, repeats: int) -> list[Row]:
    """All decoders on all waveforms, ``size`` of them at a time."""
    batches = [waves[i : i + size] for i in range(0, len(waves), size)]

    def run(decoder: Decoder) -> list[Hypothesis]:
        return [h for batch in batches for h in recognizer.decode(decoder, recognizer.encode(batch))]

    tasks = {name: (lambda decoder=decoder: run(decoder)) for name, decoder in DECODERS.items()}
    seconds = time_in_turn(tasks, dict.fromkeys(tasks, repeats), recognizer.device)
    counts = [hypothesis.counts for hypothesis in run(DECODERS["par"])]
    masks, tokens = (sum(c[key] for c in counts) / len(waves) for key in ("masked_tokens", "tokens"))
    greedy = median(seconds["greedy"])
    return [
        Row(
            seconds_of_audio=SECONDS,
            masks=round(masks, 1),
            tokens=round(tokens, 1),
            what=f"whole utterance: {name}",
            batch=size,
            ms_per_utterance=1000 * median(values) / len(waves),
            ratio=median(values) / greedy,
            repeats=len(values),
        )
        for name, values in seconds.items()
    ]
