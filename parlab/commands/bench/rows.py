"""The rows of ``bench.json``: seconds of each candidate, and whole utterances of PAR against greedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from parlab.commands.bench.candidates import (
    bare_candidates,
    espnet_candidates,
    our_candidates,
    reference_par,
    stage_candidates,
)
from parlab.commands.bench.cases import Case, decode_whole, make_case
from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.timing import median, time_in_turn
from parlab.decode import Decoder, Greedy
from parlab.metrics.memory import PeakMemory
from parlab.metrics.tables import Table
from parlab.recognition.recognizer import Recognizer


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the bench's table; what a row does not have is None.

    Attributes:
        what: the candidate's name.
        batch: utterances decoded together.
        ms_per_utterance: median.
        times_par: the median in multiples of our PAR at batch 1.
        min_ms, max_ms: shortest and longest run, per utterance.
        repeats: timed runs.
        greedy_ms, ratio: greedy CTC of the same whole utterance, and this row in multiples of it.
        peak_bytes, greedy_peak_bytes, peak_ratio: peak memory of a whole utterance, greedy's, and their ratio.
        as_transformers: utterances of the batch with the tokens of transformers' search of the same beam.
    """

    seconds_of_audio: float
    masks: float
    tokens: float | None = None
    what: str
    batch: int | None = None
    ms_per_utterance: float
    times_par: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    repeats: int | None = None
    greedy_ms: float | None = None
    ratio: float | None = None
    peak_bytes: int | None = None
    greedy_peak_bytes: int | None = None
    peak_ratio: float | None = None
    as_transformers: int | None = None


def table_of(rows: Sequence[Row]) -> Table:
    """Rows as dictionaries, without what they do not have."""
    return [{name: value for name, value in asdict(row).items() if value is not None} for row in rows]


@torch.inference_mode()
def case_rows(recognizer: Recognizer, seconds: float, masks: int, options: BenchOptions) -> list[Row]:
    """A row per candidate on one duration, with milliseconds per utterance, and rows of whole utterances."""
    # 1. All candidates in turn.
    one = make_case(recognizer, seconds, masks, 1)
    many = make_case(recognizer, seconds, masks, options.batch) if options.batch > 1 else None
    candidates = [
        *our_candidates(recognizer, one, many, options),
        *espnet_candidates(recognizer, one, options),
        *bare_candidates(recognizer, one, options),
        *(c for case in (one, many) if case is not None for c in stage_candidates(recognizer, case, options)),
    ]
    repeats = {c.name: c.repeats for c in candidates}
    seconds_of = time_in_turn({c.name: c.task for c in candidates}, repeats, recognizer.device)
    # 2. A row each.
    par = 1000 * median(seconds_of["ours: par"])
    rows = []
    for candidate in candidates:
        values = [1000 * value / candidate.batch for value in seconds_of[candidate.name]]
        row = Row(
            seconds_of_audio=seconds,
            masks=masks,
            tokens=one.tokens,
            what=candidate.name,
            batch=candidate.batch,
            ms_per_utterance=median(values),
            times_par=median(values) / par,
            min_ms=min(values),
            max_ms=max(values),
            repeats=len(values),
        )
        rows.append(row)
    # 3. Whole utterances; their peak memory at batch 1.
    greedy, ours = (whole_peak(recognizer, decoder, one) for decoder in (Greedy(), reference_par(options.beam)))
    whole = whole_rows(rows)
    whole[0] = replace(whole[0], peak_bytes=ours, greedy_peak_bytes=greedy, peak_ratio=ours / greedy)
    return rows + whole


def whole_peak(recognizer: Recognizer, decoder: Decoder, case: Case) -> int:
    """Peak bytes of a whole utterance, above what was in use before (the weights are)."""
    with PeakMemory(recognizer.device) as peak:
        decode_whole(recognizer, decoder, case)
    return peak.bytes


def whole_rows(rows: Sequence[Row]) -> list[Row]:
    """Whole utterances (front end, encoder, CTC, search) of PAR against greedy, alone and in a batch where there is one."""
    ms = {row.what: row.ms_per_utterance for row in rows}
    whole = []
    for suffix in ("", ", batch"):
        if f"ours: par{suffix}" not in ms:
            continue
        shared = ms[f"encoder and front end{suffix}"] + ms[f"ctc head{suffix}"]
        greedy, par = shared + ms[f"ours: greedy{suffix}"], shared + ms[f"ours: par{suffix}"]
        row = Row(
            seconds_of_audio=rows[0].seconds_of_audio,
            masks=rows[0].masks,
            what=f"whole utterance: par / greedy{suffix}",
            ms_per_utterance=par,
            greedy_ms=greedy,
            ratio=par / greedy,
        )
        whole.append(row)
    return whole
