"""Transcripts with times: SRT, WebVTT and JSON, from the records of a prediction."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parlab.errors import UserError, nearest
from parlab.predictions.files import Json, write_json, writing
from parlab.predictions.hypotheses import Piece, UtteranceRecord
from parlab.text.spoken import filled_tokens, spoken_words

FORMATS = ("srt", "vtt", "json")
_LONGEST = 6.0  # seconds that a cue stays
_WIDEST = 84  # characters: two lines
_PAUSE = 0.7  # seconds of silence that end a cue
_REFUSED = frozenset('%/\\:*?"<>|~')  # in file names, by one system or another; and what marks a hash
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # devices on Windows
_LONGEST_NAME = 200  # bytes; most systems allow 255, with the ending and the mark of a file that is being written
_SHORTENED = 160  # bytes that are left of a name that gets a hash


@dataclass(frozen=True)
class Timed:
    """Words, or a cue, from ``start`` to ``end`` seconds; of a word its confidence, and whether PAR wrote it."""

    start: float
    end: float
    text: str
    confidence: float | None = None
    filled: bool = False


def words_of(record: UtteranceRecord) -> list[Timed]:
    """Words with times, where the decoder knows the frames of its tokens; empty where it does not."""
    if not record.token_times:
        return []
    count = min(len(record.token_text), len(record.token_times))
    texts = record.token_text[:count]
    single = " ".join(record.token_text) == record.text  # words or phones: each stands alone
    filled = filled_tokens(count, record.segments)
    edges = [piece.start for piece in record.pieces]  # no word reaches over the seam of two pieces
    found = spoken_words(texts, record.token_times, record.token_confidence, filled, single, edges)
    return [Timed(w.start or 0.0, w.end or 0.0, w.text, w.confidence, w.filled) for w in found]


def cues(record: UtteranceRecord) -> list[Timed]:
    """What is shown at a time: the decoder's own timed parts, or its words in groups, or the pieces as a whole."""
    if record.times:
        return [Timed(start, end, text) for start, end, text in record.times]
    words = words_of(record)
    if not words:
        pieces = record.pieces or (Piece(record.id, 0.0, record.duration or 0.0, record.text),)
        return [Timed(p.start, p.start + p.duration, p.text) for p in pieces if p.text]
    found: list[Timed] = []
    for word in words:
        last = found[-1] if found else None
        if (
            last is None
            or word.start - last.end > _PAUSE
            or word.end - last.start > _LONGEST
            or len(last.text) + 1 + len(word.text) > _WIDEST
        ):
            found.append(word)
        else:
            found[-1] = Timed(last.start, word.end, f"{last.text} {word.text}")
    return found


def check_format(form: str) -> None:
    """Refuse what is no subtitle format.

    Raises:
        UserError: naming the formats.
    """
    if form not in FORMATS:
        raise UserError(f"there is no subtitle format '{form}', expected {', '.join(FORMATS)}{nearest(form, FORMATS)}")


def file_names(ids: Sequence[str]) -> dict[str, str]:
    """A file name, without an ending, for each id, that no other one has on any file system.

    An id is its own name where that is possible. Characters that some file system refuses are percent-encoded. An id that is
    too long, or that another one differs from in case or in the writing of an accent alone, gets a hash of its own.
    """
    known = {name: _encoded(name) for name in ids}
    alike = Counter(map(_folded, known.values()))
    return {
        name: encoded
        if alike[_folded(encoded)] == 1 and len(encoded.encode()) <= _LONGEST_NAME and not _RESERVED.match(encoded)
        else _hashed(name, encoded)
        for name, encoded in known.items()
    }


def _encoded(name: str) -> str:
    """``name`` with everything percent-encoded that a file name cannot hold, at its start and end also dots and spaces."""
    encoded = "".join(
        c if c.isprintable() and c not in _REFUSED else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "replace"))
        for c in name
    )
    return re.sub(r"^[. ]+|[. ]+$", lambda m: "".join(f"%{ord(c):02X}" for c in m[0]), encoded) or "%"


def _folded(encoded: str) -> str:
    """The same for names that a file system may take for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", encoded).casefold())


def _hashed(name: str, encoded: str) -> str:
    """The start of a name, and a hash of all of it; ``~`` keeps it apart from names without."""
    start = encoded.encode()[:_SHORTENED].decode("utf-8", "ignore")
    return f"{start}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def write_subtitles(folder: Path, records: Sequence[UtteranceRecord], formats: Sequence[str]) -> None:
    """Write ``folder/ID.srt`` and so on for each record; ``file_names`` says what stands for the id."""
    names = file_names([record.id for record in records])
    for record in records:
        name = names[record.id]
        for form in formats:
            path = folder / f"{name}.{form}"
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            if form == "json":
                words: list[Json] = [_word(w) for w in words_of(record)]
                shown: list[Json] = [{"start": c.start, "end": c.end, "text": c.text} for c in cues(record)]
                about = {"id": record.id, "text": record.text, "duration": record.duration}
                write_json(path, {**about, "cues": shown, "words": words})
            else:
                with writing(path):
                    path.write_text(_text(cues(record), form), encoding="utf-8")


def _word(word: Timed) -> dict[str, Json]:
    """A word in JSON."""
    known: dict[str, Json] = {} if word.confidence is None else {"confidence": word.confidence}
    return {"word": word.text, "start": word.start, "end": word.end, **known, "filled": word.filled}


def _text(shown: Sequence[Timed], form: str) -> str:
    mark = "," if form == "srt" else "."
    blocks = []
    for n, cue in enumerate(shown, 1):
        head = f"{n}\n" if form == "srt" else ""
        blocks.append(f"{head}{_clock(cue.start, mark)} --> {_clock(cue.end, mark)}\n{cue.text}\n")
    return ("WEBVTT\n\n" if form == "vtt" else "") + "\n".join(blocks)


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"
