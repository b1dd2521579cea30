"""A trained model on real speech: whole utterances of PAR against greedy, at batch 1 and batched."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parlab.commands.bench.timing import median, time_in_turn
from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import AR, PAR, Greedy
from parlab.metrics.speed import Stopwatch
from parlab.model.folder import read_model
from parlab.recognition.prediction import decode_waves

SECONDS = 20.0


def joined(data: str, rate: int, count: int) -> list[Tensor]:
    """Utterances of about 20 s, each joined from neighbours of a data set."""
    waves: list[Tensor] = []
    held: list[Tensor] = []
    for utterance in read_data(data):
        held.append(load_audio(utterance.audio, rate, utterance.start, utterance.duration))
        if sum(len(w) for w in held) >= SECONDS * rate:
            waves.append(torch.cat(held)[: int(SECONDS * rate)])
            held = []
        if len(waves) == count:
            break
    return waves


def speech_rows(model: str, data: str, batch: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """A row per decoder and batch size; ``times_par`` is the ratio to greedy of the same batch size."""
    net, _ = read_model(model)
    net.to(device)
    waves = joined(data, net.sample_rate, batch)
    default = PAR()
    rows: list[dict[str, Any]] = []
    for size in (1, len(waves)):
        groups = [waves[i : i + size] for i in range(0, len(waves), size)]

        def run(decoder: Any, groups: list[list[Tensor]] = groups) -> list[Any]:
            return [h for group in groups for h in decode_waves(net, decoder, group, Stopwatch(device))]

        tasks = {
            "greedy": lambda: run(Greedy()),
            "par": lambda: run(default),
            "par, decoder alone": lambda: run(PAR(ctc_weight=0.0)),
            "ar joint": lambda: run(AR()),
        }
        taken = time_in_turn(tasks, dict.fromkeys(tasks, repeats), device)
        found = run(default)
        masked = sum(h.counts["masked_tokens"] for h in found)
        tokens = sum(h.counts["tokens"] for h in found)
        for name, values in taken.items():
            each = median(values) / len(waves)
            rows.append(
                {
                    "seconds_of_audio": SECONDS,
                    "masks": round(masked / len(waves), 1),
                    "tokens": round(tokens / len(waves), 1),
                    "what": f"whole utterance: {name}",
                    "batch": size,
                    "ms_per_utterance": 1000 * each,
                    "ratio": median(values) / median(taken["greedy"]),
                    "repeats": len(values),
                }
            )
    return rows
