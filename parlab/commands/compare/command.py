"""``compare A B [C ...]``: predictions on the same utterances, and whether their differences are real."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.commands.compare.text import markdown, print_comparison
from parlab.errors import UserError
from parlab.metrics.significance import REPLICATES, bootstrap_interval, mapsswe, paired_bootstrap
from parlab.metrics.wer import alignment
from parlab.options.arguments import Parser
from parlab.predictions.loaded import Prediction, read_sources, totals
from parlab.predictions.records import write_json

SAME_SECONDS = 0.05  # recordings of one utterance may differ so much in length, after resampling or another codec


def main(argv: Sequence[str]) -> int:
    """Run ``compare``.

    Raises:
        UserError: the predictions cannot be compared, or an option has an impossible value.
    """
    parser = Parser.of("compare", "Compare predictions on the same data: WER, CER, significance, speed.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_argument(
        "folders", nargs="+", type=str, help="folders that `predict --out` wrote; the first is the baseline"
    )
    parser.add_argument(
        "--margin", type=float, default=0.005, help="'no worse than': absolute WER that may be lost (a fraction)"
    )
    parser.add_argument("--json", type=str | None, default=None, help="write everything to this file")
    parser.add_argument("--markdown", type=bool, default=False, help="print the table of systems as Markdown")
    parser.add_argument("--show", type=int, default=10, help="differing utterances to print")
    parser.add_argument("--replicates", type=int, default=REPLICATES, help="bootstrap replicates")
    o = parser.parse_args(list(argv))
    result = compare(read_sources([Path(f) for f in o.folders]), o.margin, o.replicates)
    if o.json:
        write_json(Path(o.json), result)
    if o.markdown:
        print(markdown(result))
    else:
        print_comparison(result, o.show)
    return 0


def check_comparable(predictions: Sequence[Prediction]) -> None:
    """Refuse predictions that were not made on the same utterances, audio, references and normalisation.

    Raises:
        UserError: naming all that differs between the first pair that cannot be compared.
    """
    if len(predictions) < 2:
        raise UserError("compare got one prediction, expected at least two; name another folder")
    first = predictions[0]
    for other in predictions[1:]:
        different = differences_of_data(first, other)
        if different:
            raise UserError(
                f"{first.name} and {other.name} cannot be compared: they have {'; '.join(different)}; predict the same "
                "data with the same --normalizer"
            )


def differences_of_data(a: Prediction, b: Prediction) -> list[str]:
    """What of utterances, audio, references and normalisation two predictions do not share, in words."""
    found = []
    in_a, in_b = ({r["id"]: r for r in p.records} for p in (a, b))
    apart = sorted(in_a.keys() ^ in_b.keys())
    if apart:
        counts = (
            f"{len(in_a.keys() - in_b.keys())} only in the first, {len(in_b.keys() - in_a.keys())} only in the second"
        )
        found.append(f"different utterances ({counts}, as '{apart[0]}')")
    both = [(in_a[i], in_b[i]) for i in sorted(in_a.keys() & in_b.keys())]
    references = [x["id"] for x, y in both if x.get("ref") != y.get("ref")]
    if references:
        found.append(f"different references ({len(references)} utterances, as '{references[0]}')")
    audio = [x["id"] for x, y in both if not _same_audio(x, y)]
    if audio:
        found.append(f"different audio ({len(audio)} utterances, as '{audio[0]}')")
    if a.normalizer != b.normalizer:
        names = " and ".join(f"{n.get('name')} {n.get('version', '')}".strip() for n in (a.normalizer, b.normalizer))
        found.append(f"different normalizers ({names})")
    return found


def _same_audio(x: dict[str, Any], y: dict[str, Any]) -> bool:
    """By length and by the file's name without its ending: data may move and be written in another format."""
    lengths, files = (x.get("duration"), y.get("duration")), (x.get("audio"), y.get("audio"))
    if None not in lengths and abs(lengths[0] - lengths[1]) > SAME_SECONDS:  # type: ignore[operator]
        return False
    return None in files or Path(str(files[0])).stem == Path(str(files[1])).stem


def compare(predictions: Sequence[Prediction], margin: float = 0.005, replicates: int = REPLICATES) -> dict[str, Any]:
    """All systems with intervals, and each one against the first, as a JSON-ready dictionary.

    Args:
        margin: WER that may be lost for the verdict "no worse", absolute, a fraction.

    Raises:
        UserError: they cannot be compared; ``margin`` or ``replicates`` is out of range.
    """
    if not 0 <= margin < 1:
        raise UserError(f"the margin is {margin}, expected an absolute WER from 0 to 1 (0.005 is half a percent)")
    if replicates < 100:
        raise UserError(f"replicates is {replicates}, expected at least 100 for an interval of 95 %")
    check_comparable(predictions)
    systems = [system(p, replicates) for p in predictions]
    pairs = [pair(predictions[0], other, margin, replicates) for other in predictions[1:]]
    return {"systems": systems, "pairs": pairs, "margin": margin, "replicates": replicates}


def _speakers(p: Prediction) -> list[str] | None:
    """The speaker of each scored utterance, where there is more than one and all are known."""
    names = [r.get("speaker") for r in p.scored]
    return [str(n) for n in names] if names and all(names) and len(set(names)) > 1 else None


def system(p: Prediction, replicates: int) -> dict[str, Any]:
    """One system: WER and CER with 95 % intervals over utterances (and speakers), speed, masks."""
    entry: dict[str, Any] = {"name": p.name, "decoder": p.metrics["decoder"], "utterances": len(p.records)}
    speakers = _speakers(p)
    for rate, counts in (("wer", p.word_counts), ("cer", p.char_counts)):
        if counts:
            errors, total = totals(counts)
            low, high = bootstrap_interval(errors, total, replicates=replicates)
            held = sum(counts[1:], counts[0]).as_dict()
            entry[rate] = {**held, "low": low, "high": high}
            if speakers:
                low, high = bootstrap_interval(errors, total, speakers, replicates)
                entry[rate] |= {"low_by_speaker": low, "high_by_speaker": high, "speakers": len(set(speakers))}
    if p.speed:
        keys = ("rtfx", "search_seconds", "encode_seconds", "latency_p50", "latency_p90")
        entry["speed"] = {k: p.speed[k] for k in keys if k in p.speed}
    entry["masked_share"] = p.masked_share
    counts_of = p.metrics.get("counts", {})
    entry["passes"] = counts_of.get("decoder_passes", 0)
    entry["steps"] = counts_of.get("decoder_steps", p.par.get("decoder_steps", 0))
    entry["failed"] = len(p.metrics.get("failed", []))
    return entry


def pair(a: Prediction, b: Prediction, margin: float, replicates: int) -> dict[str, Any]:
    """``b`` against the baseline ``a``, which were made on the same data."""
    entry: dict[str, Any] = {"baseline": a.name, "other": b.name}
    if a.scored:
        for rate, one, two in (("wer", a.word_counts, b.word_counts), ("cer", a.char_counts, b.char_counts)):
            errors_a, total = totals(one)
            errors_b, _ = totals(two)
            prefix = "" if rate == "wer" else "cer_"
            found = paired_bootstrap(errors_a, errors_b, total, replicates=replicates)
            entry[f"{prefix}by_utterance"] = dataclasses.asdict(found)
            speakers = _speakers(a)
            if speakers:
                found = paired_bootstrap(errors_a, errors_b, total, speakers, replicates)
                entry[f"{prefix}by_speaker"] = {**dataclasses.asdict(found), "speakers": len(set(speakers))}
        texts = [[p.normalized(r[k]) for r in p.scored] for p, k in ((a, "ref"), (a, "text"), (b, "text"))]
        entry["mapsswe"] = dataclasses.asdict(mapsswe(*texts))
        for key, name in (("by_utterance", "verdict"), ("by_speaker", "verdict_by_speaker")):
            if key in entry:
                entry[name] = verdict(entry[key]["low"], entry[key]["high"], margin)
    entry["differences"] = _differences(a, b)
    entry["changes"] = [
        {"baseline": x, "other": y, "count": count}
        for (x, y), count in Counter((x, y) for d in entry["differences"] for x, y in d["changes"]).most_common(50)
    ]
    if a.speed.get("rtfx") and b.speed.get("rtfx"):
        entry["speed_ratio"] = b.speed["rtfx"] / a.speed["rtfx"]
    if a.speed.get("search_seconds") and b.speed.get("search_seconds") and a.speed.get("audio_seconds"):
        per_second = [p.speed["search_seconds"] / p.speed["audio_seconds"] for p in (a, b)]
        entry["search_time_ratio"] = per_second[1] / per_second[0]
    return entry


def verdict(low: float, high: float, margin: float) -> str:
    """What the 95 % interval of (other - baseline) allows to say."""
    if high < 0:
        return "better"
    if low > 0 and low > margin:
        return f"worse by more than {margin:.2%}"
    if high <= margin:
        return f"no worse than {margin:.2%}"
    return "worse" if low > 0 else f"undecided: it may be worse by up to {high:.2%}"


def _differences(a: Prediction, b: Prediction) -> list[dict[str, Any]]:
    """Utterances whose text differs, those that changed most errors first, each with its changed words."""
    errors = {}
    if a.scored:
        counts = zip(a.scored, a.word_counts, b.word_counts, strict=True)
        errors = {r["id"]: (x.errors, y.errors) for r, x, y in counts}
    found = []
    for x, y in zip(a.records, b.records, strict=True):
        if x["text"] == y["text"]:
            continue
        words = alignment(x["text"].split(), y["text"].split())
        entry = {"id": x["id"], "ref": x.get("ref"), "baseline": x["text"], "other": y["text"]}
        entry["changes"] = [list(two) for two in words if two[0] != two[1]]
        if x["id"] in errors:
            entry |= {"baseline_errors": errors[x["id"]][0], "other_errors": errors[x["id"]][1]}
        found.append(entry)
    found.sort(key=lambda e: (-abs(e.get("other_errors", 0) - e.get("baseline_errors", 0)), e["id"]))
    return found
