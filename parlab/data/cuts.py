"""Lhotse cut manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parlab.data.utterance import S2T_FIELDS, Utterance, find_relative
from parlab.errors import UserError


def read_cuts(path: Path) -> list[Utterance]:
    """Utterances of a CutSet manifest; the texts of a cut's supervisions are joined in the order of time.

    Raises:
        UserError: it is no CutSet, or a cut is not a plain part of an audio file (mixed, transformed, one channel
            of several, or read by a command), whose audio this package would not reproduce.
    """
    from lhotse import CutSet

    try:
        return [_utterance(cut, path) for cut in CutSet.from_file(path)]
    except UserError:
        raise
    except Exception as error:  # Lhotse raises whatever its parsers raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"{path} cannot be read as Lhotse cuts ({reason}), expected a CutSet manifest; write it again with "
            "CutSet.to_file"
        ) from error


def _utterance(cut: Any, path: Path) -> Utterance:
    if problem := _problem(cut):
        raise UserError(
            f"{path}: the cut '{cut.id}' {problem}, expected a part of an audio file; save the audio first "
            "(CutSet.save_audios)"
        )
    parts = sorted(cut.supervisions, key=lambda s: s.start)
    texts = [s.text for s in parts if s.text is not None]
    extra: dict[str, Any] = {}
    if parts:
        extra = {k: v for k, v in (parts[0].custom or {}).items() if k in S2T_FIELDS}
        if parts[0].language is not None:
            extra.setdefault("lang", parts[0].language)
    return Utterance(
        id=cut.id,
        audio=find_relative(cut.recording.sources[0].source, path.parent),
        text=" ".join(texts) if texts else None,
        duration=cut.duration,
        speaker=parts[0].speaker if parts else None,
        start=cut.start,
        extra=extra,
    )


def _problem(cut: Any) -> str | None:
    """Why this package would not reproduce the audio of a cut, or None."""
    recording = getattr(cut, "recording", None)
    if recording is None:
        return f"is a {type(cut).__name__} without one recording"
    if [source.type for source in recording.sources] != ["file"]:
        return f"has audio of type {', '.join(source.type for source in recording.sources)}"
    if any("resample" not in str(t).lower() for t in recording.transforms or ()):  # loading resamples anyway
        return "has transforms (speed, volume, ...)"
    if recording.num_channels > 1 and isinstance(cut.channel, int):
        return f"is channel {cut.channel} of {recording.num_channels}"
    return None
