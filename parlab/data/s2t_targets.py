"""The targets of an S2T model for one utterance: the decoder's text with its symbols, the previous text, CTC's text.

Manifests hold, beside ``text``, the fields of ESPnet's S2T recipes: ``lang`` and ``task`` (symbols, with or without
brackets), ``text_prev`` (what was said before), ``text_ctc`` (the transcription, where ``text`` is a translation). ``<na>``
and a missing field mean "not available". ``text`` may hold time symbols (``<0.00> HELLO <1.20>``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.text.s2t import TRANSCRIPTION, S2TSymbols
from parlab.text.tokenizer import Tokenizer

_TIME = re.compile(r"\s*(<\d+\.\d\d>)\s*")
_ABSENT = ("", "<na>")


@dataclass(frozen=True)
class S2TTargets:
    """Token ids. ``text`` starts with language and task; ``previous`` and ``ctc`` are None where not available."""

    text: tuple[int, ...]
    previous: tuple[int, ...] | None
    ctc: tuple[int, ...] | None


def s2t_targets(
    utterance: Utterance, tokenizer: Tokenizer, symbols: S2TSymbols, with_previous: bool = True, with_times: bool = True
) -> S2TTargets:
    """The targets of one utterance.

    Args:
        with_previous, with_times: whether to use the previous text and the times that the utterance has (ESPnet draws
            both with a probability of one half while training).

    Raises:
        UserError: an unknown language or task, or none where the model has regions (Dolphin).
    """
    task = str(utterance.extra.get("task") or TRANSCRIPTION)
    language = utterance.extra.get("lang")
    if symbols.regions and language is None:  # a default would teach the wrong one
        raise UserError(
            f"the utterance {utterance.id} names no language, expected 'lang' in the manifest, as 'zh-CN'; add it to every line"
        )
    head = symbols.prompt(language, task.strip("<>"), timestamps=True)[1:]
    text = utterance.text or ""
    timed = bool(_TIME.search(text)) and with_times and symbols.first_time is not None
    if not timed and symbols.notimestamps is not None:
        head = (*head, symbols.notimestamps)
    said = _encode_timed(text, tokenizer) if timed else tokenizer.encode(plain(text))
    previous = utterance.extra.get("text_prev")
    known = previous if with_previous and isinstance(previous, str) and previous not in _ABSENT else None
    heard = utterance.extra.get("text_ctc", plain(text) if f"<{task.strip('<>')}>" == TRANSCRIPTION else None)
    return S2TTargets(
        text=(*head, *said),
        previous=tuple(tokenizer.encode(plain(known))) if known is not None else None,
        ctc=tuple(tokenizer.encode(plain(heard))) if isinstance(heard, str) and heard not in _ABSENT else None,
    )


def plain(text: str) -> str:
    """Text without time symbols."""
    return _TIME.sub(" ", text).strip()


def transcription(utterance: Utterance) -> str:
    """The reference of the CTC output: ``text_ctc``, or the text."""
    heard = utterance.extra.get("text_ctc")
    return plain(heard if isinstance(heard, str) and heard not in _ABSENT else utterance.text or "")


def _encode_timed(text: str, tokenizer: Tokenizer) -> list[int]:
    ids: list[int] = []
    for i, part in enumerate(_TIME.split(text)):
        if i % 2:
            ids.append(tokenizer.index[part] if part in tokenizer.index else tokenizer.encode(part)[0])
        elif part:
            ids += tokenizer.encode(part)
    return ids
