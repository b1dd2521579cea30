"""Hypotheses as a line of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from parlab.types import Hypothesis

UNSURE = 0.9  # tokens less probable than this are highlighted
_FILL, _UNSURE = "bold green", "yellow"


def marked(name: str, hypotheses: Sequence[Hypothesis], token_list: Sequence[str]) -> Text:
    """A name and the texts of the pieces of a recording; fills and unsure tokens have a style, which a pipe drops."""
    line = Text(name, style="dim")
    spoken = [h for h in hypotheses if h.text]
    for i, hypothesis in enumerate(spoken):
        line.append(" " if i else "")
        line.append_text(_marked(hypothesis, token_list))
    return line


def _marked(hypothesis: Hypothesis, token_list: Sequence[str]) -> Text:
    fills = _fills(hypothesis)
    text = Text()
    for i, (token, confidence) in enumerate(zip(hypothesis.tokens, hypothesis.token_confidence, strict=False)):
        piece = token_list[token].replace("\u2581", " ").replace("<space>", " ")
        piece = piece if len(text) else piece.lstrip()
        text.append(piece, style=_FILL if i in fills else _UNSURE if confidence < UNSURE else "")
    # What is no plain sequence of pieces (words, bytes, symbols) is shown as it is.
    return text if text.plain == hypothesis.text else Text(hypothesis.text)


def _fills(hypothesis: Hypothesis) -> set[int]:
    """Indices of tokens that PAR changed."""
    changed: set[int] = set()
    shift = 0  # tokens of the result less tokens of the draft, so far
    for segment in hypothesis.segments:
        start = segment.start + shift
        if segment.fill != segment.draft:
            changed |= set(range(start, start + len(segment.fill)))
        shift += len(segment.fill) - len(segment.draft)
    return changed
