"""The utterance browser: what the page's script draws, as plain data."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from parlab.commands.report.audio import AudioLinks
from parlab.commands.report.drafts import Drafts
from parlab.commands.report.waveform import waveform, windows
from parlab.metrics.token_errors import BOUNDARY, SPACE
from parlab.metrics.wer import GAP, alignment
from parlab.predictions.files import Json
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction

PAGE_BYTES = 9_000_000  # of JSON: what a browser opens without a pause
WAVEFORMS = 200  # utterances that have one: as many as the page shows at once
_SAMPLE = 0.1  # share of the bytes that is for utterances in which nothing differs or is wrong


@dataclass
class _Spoken:
    """An utterance of several predictions: the record and its word errors by the prediction's index."""

    id: str
    ref: str | None
    records: dict[int, UtteranceRecord] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts those first in which the predictions differ most, then those with most errors."""
        errors = self.errors.values()
        return -(max(errors, default=0) - min(errors, default=0)), -max(errors, default=0), self.id

    @property
    def telling(self) -> bool:
        """Whether predictions differ, or one errs."""
        return any(self.errors.values()) or len({r.text for r in self.records.values()}) > 1


def utterances(
    predictions: Sequence[Prediction], drafts: Sequence[Drafts], audio: AudioLinks, limit: int = PAGE_BYTES
) -> tuple[list[Json], str]:
    """Describe the utterances of all predictions for the page's script, and say in a sentence which ones are there.

    Those that differ or have errors come first, as many as fit in ``limit`` bytes, then a random sample of the others.

    Keys of an utterance: ``id``, ``d`` duration in seconds, ``a`` the audio, ``v`` its waveform (of the first ``WAVEFORMS``
    that any prediction masked something of), ``w`` the words that all are aligned with, ``k`` whether they are the
    reference, ``p`` an entry per prediction or null.

    Keys of an entry: ``e`` errors; ``x`` edits of ``w`` as (index, word; "" where it is missing) and (index, words, 1) for
    words before the index; ``t`` tokens; ``c`` their confidences in thousandths; ``s`` segments as (index of the first token,
    tokens, tokens of the draft, their confidences); ``m`` the window of each segment in hundredths of a second.
    """
    spoken = _spoken(predictions)
    telling = sorted((s for s in spoken if s.telling), key=lambda s: s.rank)
    others = [s for s in spoken if not s.telling]
    random.Random(0).shuffle(others)
    found: list[Json] = []
    used, drawn, counts = 0, 0, [0, 0]
    share = (1 - _SAMPLE if others else 1.0) * limit
    for kind, (some, most) in enumerate(((telling, share), (others, limit))):
        for s in some:
            entry = _described(s, predictions, drafts, audio)
            if drawn < WAVEFORMS and (picture := _waveform(s, audio)):
                entry["v"] = picture
                drawn += 1
            used += len(json.dumps(entry))
            if used > most and found:
                break
            found.append(entry)
            counts[kind] += 1
    if sum(counts) == len(spoken):
        return found, f"All {len(spoken)} utterances."
    return found, (
        f"{sum(counts)} of {len(spoken)} utterances: {counts[0]} of the {len(telling)} that differ or have errors, most "
        f"first, and a random sample of {counts[1]} of the {len(others)} others."
    )


def _spoken(predictions: Sequence[Prediction]) -> list[_Spoken]:
    """All utterances; those of the same id and reference are one."""
    found: dict[tuple[str, str | None], _Spoken] = {}
    for i, p in enumerate(predictions):
        counts = iter(p.word_counts)
        for r in p.records:
            s = found.setdefault((r.id, r.ref), _Spoken(r.id, r.ref))
            s.records[i] = r
            if r.ref is not None:
                s.errors[i] = next(counts).errors
    return list(found.values())


def _described(
    s: _Spoken, predictions: Sequence[Prediction], drafts: Sequence[Drafts], audio: AudioLinks
) -> dict[str, Json]:
    first = min(s.records)
    shown = predictions[first]
    record = s.records[first]
    words = (shown.normalized(record.text) if s.ref is None else shown.reference(record)).split()
    entry: dict[str, Json] = {"id": s.id, "w": words, "k": int(s.ref is not None)}
    if record.duration is not None:
        entry["d"] = round(record.duration, 2)
    source = audio.source(record.audio)
    if source:
        entry["a"] = source
    rows: list[Json] = []
    for i, p in enumerate(predictions):
        if i not in s.records:
            rows.append(None)
            continue
        r = s.records[i]
        row: dict[str, Json] = {"x": list(_edits(words, p.normalized(r.text).split()))}
        row["t"] = [_shown(text) for text in r.token_text]
        row["c"] = _thousandths(r.token_confidence)
        if i in s.errors:
            row["e"] = s.errors[i]
        if r.segments:
            row["s"] = list(_segments(r, drafts[i]))
            if spans := [[round(100 * start), round(100 * end)] for start, end in windows(r)]:
                row["m"] = spans
        rows.append(row)
    return {**entry, "p": rows}


def _waveform(s: _Spoken, audio: AudioLinks) -> str | None:
    """The waveform of an utterance in which something was masked; None for others, and for a page without audio."""
    if audio.way == "off" or not any(r.segments for r in s.records.values()):
        return None
    record = s.records[min(s.records)]
    return waveform(record.audio, record.duration)


def _edits(words: Sequence[str], said: Sequence[str]) -> Iterator[list[Json]]:
    """What turns ``words`` into ``said``."""
    index = 0
    for w, h in alignment(words, said):
        if w == GAP:
            yield [index, h, 1]
            continue
        if w != h:
            yield [index, "" if h == GAP else h]
        index += 1


def _segments(record: UtteranceRecord, drafts: Drafts) -> Iterator[list[Json]]:
    """Segments in the result, with the draft's tokens and confidences."""
    draft = drafts.get(record.id)
    shift = 0  # tokens of the result less tokens of the draft, so far
    for s in record.segments:
        texts = [_shown(text) for text in s.draft_text]
        yield [s.start + shift, len(s.fill), texts, _thousandths(draft.confidence[s.start : s.end] if draft else ())]
        shift += len(s.fill) - len(s.draft)


def _thousandths(confidences: Sequence[float | None]) -> list[Json]:
    return [None if c is None else round(1000 * c) for c in confidences]


def _shown(token: str) -> str:
    return token.replace(BOUNDARY, " ").replace(SPACE, " ")
