"""The files of a prediction: what a line of ``hypotheses.jsonl`` and ``metrics.json`` hold (design.md, section 5)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parlab.data.sources import Utterance
from parlab.errors import UserError
from parlab.metrics.speed import percentile, rtfx
from parlab.metrics.wer import corpus_errors
from parlab.text.normalizer import Normalizer
from parlab.text.tokenizer import Tokenizer
from parlab.types import Hypothesis

PHASES = ("load", "encode", "ctc", "search")


def hypothesis_record(
    utterance: Utterance, hypothesis: Hypothesis, tokenizer: Tokenizer, duration: float, timing: Mapping[str, float]
) -> dict[str, Any]:
    """A line of a shard: the contract's keys, optional keys for reports, and what the metrics add up."""
    text = [tokenizer.token_list[i] for i in hypothesis.tokens]
    record: dict[str, Any] = {"id": utterance.id, "text": hypothesis.text}
    if utterance.text is not None:
        record["ref"] = utterance.text
    if utterance.speaker is not None:
        record["speaker"] = utterance.speaker
    record |= {
        "tokens": list(hypothesis.tokens),
        "token_text": text,
        "token_confidence": [round(c, 4) for c in hypothesis.token_confidence],
        "token_frames": [list(span) for span in hypothesis.token_frames],
        "token_times": [list(span) for span in hypothesis.token_times],
        "segments": [
            {
                "start": s.start,
                "end": s.end,
                "draft": list(s.draft),
                "fill": list(s.fill),
                "draft_text": [tokenizer.token_list[i] for i in s.draft],
                "fill_text": [tokenizer.token_list[i] for i in s.fill],
                "score": _number(s.score),
                "forced": s.forced,
            }
            for s in hypothesis.segments
        ],
        "score": _number(hypothesis.score),
        "duration": round(duration, 4),
        "audio": str(utterance.audio),
        "counts": dict(hypothesis.counts),
    }
    if hypothesis.times:
        record["times"] = [list(part) for part in hypothesis.times]
    if hypothesis.nbest:
        record["nbest"] = [{"text": tokenizer.decode(h.tokens), "score": _number(h.score)} for h in hypothesis.nbest]
    record["seconds"] = sum(timing[p] for p in ("encode", "ctc", "search"))
    record["timing"] = dict(timing)
    return record


def _number(value: float) -> float | None:
    """A score for JSON, which has no word for infinity; digits that the number of threads may change are left out."""
    return round(value, 3) if math.isfinite(value) else None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a full disk or a missing permission in one sentence.

    Raises:
        UserError: the block failed to write ``path``.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); what was done is kept: make room or name another "
            "--out, then start the same command again"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write through a temporary file, so that a reader never sees half of it."""
    _write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        with partial.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, through a temporary file."""
    _write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a half-written last line, as a killed process leaves it, is dropped."""
    records = []
    # Bytes, because a kill cuts characters in two; split at "\n" alone, because str.splitlines also splits at
    # characters that a text may hold (U+2028, U+0085).
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            records.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):  # a line that a kill cut and a restart ended
            continue
    return records


def accuracy_metrics(records: Sequence[Mapping[str, Any]], normalizer: Normalizer) -> dict[str, Any]:
    """``wer`` and ``cer`` over the utterances that have a reference; empty without any."""
    known = [r for r in records if r.get("ref") is not None]
    if not known:
        return {}
    found = corpus_errors([normalizer(r["ref"]) for r in known], [normalizer(r["text"]) for r in known])
    return {name: counts.as_dict() for name, counts in found.items()}


def speed_metrics(records: Sequence[Mapping[str, Any]], environment: Mapping[str, Any]) -> dict[str, Any]:
    """``speed`` from the records' own timings, so that a resumed run counts all of its parts."""
    audio = sum(r["duration"] for r in records)
    totals = {p: sum(r["timing"][p] for r in records) for p in PHASES}
    ranks: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        ranks.setdefault(int(record.get("rank", 0)), []).append(record)
    # Devices work side by side: the slowest one is the wall clock.
    decoding = {k: sum(r["seconds"] for r in rs) for k, rs in ranks.items()}
    wall = max((sum(sum(r["timing"][p] for p in PHASES) for r in rs) for rs in ranks.values()), default=0.0)
    busy = max(decoding.values(), default=0.0)
    latencies = [r["timing"]["latency"] for r in records]
    return {
        "audio_seconds": audio,
        "wall_seconds": wall,
        "rtf": busy / audio if audio else 0.0,
        "rtfx": rtfx(audio, busy),
        "load_seconds": totals["load"],
        "encode_seconds": totals["encode"],
        "ctc_seconds": totals["ctc"],
        "search_seconds": totals["search"],
        "latency_p50": percentile(latencies, 0.5),
        "latency_p90": percentile(latencies, 0.9),
        "latency_p99": percentile(latencies, 0.99),
        **environment,
        "num_devices": max(len(ranks), int(environment.get("num_devices", 1))),
        "devices": [
            {"rank": k, "utterances": len(rs), "audio_seconds": sum(r["duration"] for r in rs), "seconds": decoding[k]}
            for k, rs in sorted(ranks.items())
        ],
    }


def par_metrics(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``par``: what was masked and what the search did, summed over utterances."""
    counts = [r["counts"] for r in records]

    def total(name: str) -> float:
        return sum(c.get(name, 0) for c in counts)

    lengths = [s["end"] - s["start"] for r in records for s in r["segments"]]
    return {
        "utterances_with_masks": sum(bool(r["segments"]) for r in records),
        "tokens": total("tokens"),
        "masked_tokens": total("masked_tokens"),
        "segments": len(lengths),
        "mean_segment_length": sum(lengths) / len(lengths) if lengths else 0.0,
        "max_segment_length": max(lengths, default=0),
        "decoder_steps": total("decoder_steps"),
        "forced_stops": total("forced_stops"),
        "changed_segments": sum(s["draft"] != s["fill"] for r in records for s in r["segments"]),
    }


def decoder_metrics(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sums of everything that the decoder counted (passes, steps, accepted tokens, ...)."""
    names = sorted({name for r in records for name in r["counts"]})
    return {name: sum(r["counts"].get(name, 0) for r in records) for name in names}
