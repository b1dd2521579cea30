"""The utterance browser: what the page's script draws, as plain data."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from parlab.commands.report.drafts import BOUNDARY, SPACE, Draft, Drafts, wrong_tokens
from parlab.metrics.wer import alignment
from parlab.predictions.files import Json
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction

EMBED_BYTES = 200_000


def utterances(p: Prediction, drafts: Drafts, page: Path, audio: str) -> list[dict[str, Json]]:
    """Describe each utterance of a prediction for the script of ``page.html``.

    Keys: ``t`` tokens as (text, confidence, wrong), ``s`` segments, ``g`` the draft as (text, confidence, masked), ``d``
    duration in seconds, ``r`` pairs of aligned words, ``e`` errors, ``n`` words of the reference, ``a`` the audio.
    """
    counts = {r.id: c for r, c in zip(p.scored, p.word_counts, strict=True)}
    rows = []
    for r in p.records:
        wrong = [False] * len(r.token_text) if r.ref is None else wrong_tokens(p, r, r.token_text)
        tokens = zip(r.token_text, r.token_confidence, wrong, strict=True)
        row: dict[str, Json] = {"id": r.id, "t": [_token(*t) for t in tokens], "s": _segments(r)}
        if r.segments and r.id in drafts:
            row["g"] = _draft(drafts[r.id])
        if r.duration is not None:
            row["d"] = round(r.duration, 2)
        if r.ref is not None:
            row["r"] = alignment(p.reference(r).split(), p.normalized(r.text).split())
            row["e"], row["n"] = counts[r.id].errors, counts[r.id].total
        source = _audio(r.audio, page, audio)
        if source:
            row["a"] = source
        rows.append(row)
    return rows


def _token(text: str, confidence: float | None, mark: bool) -> list[Json]:
    return [_shown(text), None if confidence is None else round(confidence, 3), int(mark)]


def _draft(draft: Draft) -> list[Json]:
    return [_token(*t) for t in zip(draft.text, draft.confidence, draft.masked, strict=True)]


def _shown(token: str) -> str:
    return token.replace(BOUNDARY, " ").replace(SPACE, " ")


def _segments(record: UtteranceRecord) -> list[Json]:
    """Segments in the result: index of the first token, number of tokens, and the draft that they replaced."""
    segments: list[Json] = []
    shift = 0  # tokens of the result less tokens of the draft, so far
    for s in record.segments:
        segments.append({"i": s.start + shift, "n": len(s.fill), "draft": "".join(map(_shown, s.draft_text))})
        shift += len(s.fill) - len(s.draft)
    return segments


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
