"""The figures of ``metrics.json``, from the records of a prediction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from parlab.metrics.speed import PHASES, Timing, percentile, rtf, rtfx
from parlab.metrics.wer import ErrorCounts, corpus_errors
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.metrics import DeviceShare, Environment, ParCounts, Speed
from parlab.text.normalizer import Normalizer


@dataclass(frozen=True)
class Timed:
    """The timing of an utterance of ``duration`` seconds, decoded by the device of a rank."""

    duration: float
    timing: Timing
    rank: int = 0


def error_rates(
    records: Sequence[UtteranceRecord], normalizer: Normalizer
) -> tuple[ErrorCounts | None, ErrorCounts | None]:
    """Pooled word and character errors over the utterances that have a reference; None without any."""
    known = [r for r in records if r.ref is not None]
    if not known:
        return None, None
    references, texts = [normalizer(r.ref or "") for r in known], [normalizer(r.text) for r in known]
    found = corpus_errors(references, texts, normalizer.merge_compounds)
    return found["wer"], found["cer"]


def speed_of(timed: Sequence[Timed], environment: Environment) -> Speed:
    """Speed from the utterances' own timings, so that a resumed run counts all of its parts."""
    audio = sum(t.duration for t in timed)
    totals = {phase: sum(getattr(t.timing, phase) for t in timed) for phase in PHASES}
    ranks: dict[int, list[Timed]] = defaultdict(list)
    for t in timed:
        ranks[t.rank].append(t)
    # Devices work side by side: the slowest one is the wall clock.
    decoding = {rank: sum(t.timing.decoding for t in own) for rank, own in ranks.items()}
    loading = {rank: sum(t.timing.load for t in own) for rank, own in ranks.items()}
    wall = max((decoding[rank] + loading[rank] for rank in ranks), default=0.0)
    busy = max(decoding.values(), default=0.0)
    latencies = [t.timing.latency for t in timed]
    alone = environment.batch_size == 1 and totals["load"] > 0  # else loading is a share of a batch's
    whole = [t.timing.latency + t.timing.load for t in timed] if alone else []
    with_loading = [percentile(whole, share) if whole else None for share in (0.5, 0.9, 0.99)]
    shares = [
        DeviceShare(rank, len(own), sum(t.duration for t in own), decoding[rank]) for rank, own in sorted(ranks.items())
    ]
    known = {**vars(environment), "num_devices": max(len(ranks), environment.num_devices or 1)}
    return Speed(
        **known,
        audio_seconds=audio,
        wall_seconds=wall,
        rtf=rtf(audio, busy),
        rtfx=rtfx(audio, busy),
        load_seconds=totals["load"],
        encode_seconds=totals["encode"],
        ctc_seconds=totals["ctc"],
        search_seconds=totals["search"],
        latency_p50=percentile(latencies, 0.5),
        latency_p90=percentile(latencies, 0.9),
        latency_p99=percentile(latencies, 0.99),
        devices=tuple(shares),
        latency_with_loading_p50=with_loading[0],
        latency_with_loading_p90=with_loading[1],
        latency_with_loading_p99=with_loading[2],
    )


def par_counts(records: Sequence[UtteranceRecord]) -> ParCounts:
    """What was masked and what the search did, summed over utterances."""
    totals = decoder_counts(records)
    segments = [s for r in records for s in r.segments]
    lengths = [s.end - s.start for s in segments]
    return ParCounts(
        utterances_with_masks=sum(bool(r.segments) for r in records),
        tokens=totals.get("tokens", 0),
        masked_tokens=totals.get("masked_tokens", 0),
        segments=len(lengths),
        mean_segment_length=sum(lengths) / len(lengths) if lengths else 0.0,
        max_segment_length=max(lengths, default=0),
        decoder_steps=totals.get("decoder_steps", 0),
        forced_stops=totals.get("forced_stops", 0),
        changed_segments=sum(s.draft != s.fill for s in segments),
    )


def decoder_counts(records: Sequence[UtteranceRecord]) -> dict[str, float]:
    """Sums of everything that the decoder counted (passes, steps, accepted tokens, ...)."""
    names = sorted({name for r in records for name in r.counts})
    return {name: sum(r.counts.get(name, 0) for r in records) for name in names}
