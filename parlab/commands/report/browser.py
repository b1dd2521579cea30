"""The utterance browser: what the page's script draws, as plain data."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parlab.commands.report.drafts import Draft, token_errors
from parlab.metrics.wer import alignment
from parlab.predictions.loaded import Prediction

EMBED_BYTES = 200_000


def utterances(prediction: Prediction, own: Mapping[str, Draft], page: Path, audio: str) -> list[dict[str, Any]]:
    """Each utterance: tokens with confidence and error, segments, the draft, the aligned words, its audio if it is there."""
    counts = {r["id"]: c for r, c in zip(prediction.scored, prediction.word_counts, strict=True)}
    rows = []
    for r in prediction.records:
        reference = prediction.normalized(r["ref"]) if r.get("ref") is not None else None
        text = r["token_text"]
        wrong = [False] * len(text)
        if reference is not None:
            wrong = token_errors(text, reference, prediction.normalized, prediction.words_are_tokens)
        row: dict[str, Any] = {
            "id": r["id"],
            "t": [
                [_shown(t), None if c is None else round(c, 3), int(w)]
                for t, c, w in zip(text, r["token_confidence"], wrong, strict=True)
            ],
            "s": _segments(r),
        }
        if r["segments"] and r["id"] in own:
            d = own[r["id"]]
            sure = [None if c is None else round(c, 3) for c in d.confidence]
            row["g"] = [[_shown(t), c, int(m)] for t, c, m in zip(d.text, sure, d.masked, strict=True)]
        if r.get("duration") is not None:
            row["d"] = round(r["duration"], 2)
        if reference is not None:
            row["r"] = alignment(reference.split(), prediction.normalized(r["text"]).split())
            row["e"], row["n"] = counts[r["id"]].errors, counts[r["id"]].total
        source = _audio(r.get("audio"), page, audio)
        if source:
            row["a"] = source
        rows.append(row)
    return rows


def _shown(token: str) -> str:
    return token.replace("\u2581", " ").replace("<space>", " ")


def _segments(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Segments by their place in the result: first token, number of tokens, and the draft that they replaced."""
    out, shift = [], 0
    for s in record["segments"]:
        out.append(
            {"i": s["start"] + shift, "n": len(s["fill"]), "draft": "".join(_shown(t) for t in s.get("draft_text", ()))}
        )
        shift += len(s["fill"]) - len(s["draft"])
    return out


def _audio(path: str | None, page: Path, audio: str) -> str | None:
    if audio == "off" or not path or not Path(path).is_file():
        return None
    file = Path(path)
    if audio == "embed":
        if file.stat().st_size > EMBED_BYTES:
            return None
        kind = {".flac": "flac", ".wav": "wav", ".mp3": "mpeg"}.get(file.suffix, "ogg")
        return f"data:audio/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    return os.path.relpath(file.resolve(), page.resolve().parent)
