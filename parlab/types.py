"""The words of the field as data, and the legend of shapes.

Shape legend, used in every docstring of the package:

========  ==============================================================
``B``     utterances of a batch
``T``     encoder frames
``U``     tokens of a draft (the collapsed greedy CTC output)
``P``     tokens of a prefix (prompt and draft)
``S``     segments (runs of adjacent masked draft tokens)
``K``     beam size
``N``     rows of a search (segment x beam, or utterance x beam)
``L``     length of a token sequence
``V``     vocabulary
``D``     width of the model
``H``     attention heads
========  ==============================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that have a meaning of their own.

    ``never`` holds every id that may not appear in decoded text: blank, start, end, padding and
    mask symbols, and for S2T models the language, task and time symbols.
    """

    blank: int
    sos: int
    eos: int
    unk: int | None = None
    never: tuple[int, ...] = ()


@dataclass(frozen=True)
class Segment:
    """A run of adjacent masked draft tokens and what replaced it.

    ``start`` and ``end`` (exclusive) count draft tokens; ``draft`` and ``fill`` are token ids.
    ``forced`` is true when no hypothesis emitted the stop token in time.
    """

    start: int
    end: int
    draft: tuple[int, ...]
    fill: tuple[int, ...]
    score: float = 0.0
    forced: bool = False


@dataclass(frozen=True)
class Word:
    """A word of a result.

    ``start`` and ``end`` are seconds, None where the decoder knows no alignment; ``confidence`` is the least probability of
    its tokens, None where none is known; ``filled`` is true where PAR wrote a token of it that was not in the draft.
    """

    text: str
    start: float | None = None
    end: float | None = None
    confidence: float | None = None
    filled: bool = False


@dataclass(frozen=True)
class Hypothesis:
    """The decoded tokens of one utterance.

    ``token_confidence`` has one probability per token; ``token_frames`` one ``(first, last)``
    pair of encoder frames per token, or is empty when the decoder knows no alignment; ``token_times`` are the same in
    seconds, ``(start, end)``. ``words`` are the text's words with times and confidences. ``times`` holds what an S2T decoder timed itself: ``(start, end, text)``.
    ``counts`` holds what the decoder counted: ``masked_tokens``, ``segments``, ``decoder_steps``,
    ``forced_stops``, ``corrected_tokens``, ``decoder_passes``, ``accepted_tokens``, ... (only those that apply).
    ``nbest`` holds all results, best first, this one included, when more than one was asked for.
    """

    tokens: tuple[int, ...]
    score: float
    token_confidence: tuple[float, ...] = ()
    token_frames: tuple[tuple[int, int], ...] = ()
    segments: tuple[Segment, ...] = ()
    nbest: tuple[Hypothesis, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    id: str = ""
    token_times: tuple[tuple[float, float], ...] = ()
    times: tuple[tuple[float, float, str], ...] = ()
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Failure:
    """An utterance that could not be decoded, and why."""

    id: str
    reason: str
