"""Whisper's symbols by their names in its vocabulary, and its rules of decoding, as a model folder has them.

Ids come from the folder: an English-only vocabulary has others than a multilingual one, and large-v3 one language more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parlab.text.s2t import S2TSymbols, WhisperRules

RESOLUTION = 0.02  # seconds from one time symbol to the next
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")  # yue is the one with three letters


@dataclass(frozen=True)
class WhisperText:
    """What a Whisper model folder says about text.

    Attributes:
        index: symbol -> id, as ``<|en|>``.
        eos, sos: ids of ``<|endoftext|>`` and ``<|startoftranscript|>``.
        vocabulary: V; the time symbols are the last ones, after ``<|notimestamps|>``.
        multilingual: whether prompts name language and task.
        language: of prompts that name none, as ``"<|en|>"``; None: the decoder is asked.
        names: further names of languages, as ``"english"`` -> ``"en"``.
        suppressed, begin_suppressed: ids that are never written, or not first; None: the folder names none.
        max_initial_time: time symbols that may come first, less one; None: all.
        window_seconds: of audio that the encoder sees.
        max_positions: tokens of prompt and text together.
    """

    index: Mapping[str, int]
    eos: int
    sos: int
    vocabulary: int
    multilingual: bool
    language: str | None
    names: Mapping[str, str]
    suppressed: Sequence[int] | None
    begin_suppressed: Sequence[int] | None
    max_initial_time: int | None
    window_seconds: float
    max_positions: int

    @property
    def notimestamps(self) -> int | None:
        """Id of ``<|notimestamps|>``."""
        return self.index.get("<|notimestamps|>")

    def symbols(self) -> S2TSymbols:
        """Prompts and times, by the names that an S2T model has for them: the task ``asr`` is ``<|transcribe|>``."""
        before_times = self.notimestamps
        first = None if before_times is None or before_times + 1 >= self.vocabulary else before_times + 1
        last = None if first is None else min(first + round(self.window_seconds / RESOLUTION), self.vocabulary - 1)
        return S2TSymbols(
            sos=self.sos,
            sop=self.index.get("<|startofprev|>"),
            na=None,
            languages=self._languages(),
            tasks=self._tasks(),
            notimestamps=before_times,
            first_time=first,
            last_time=last,
            resolution=RESOLUTION,
            window_seconds=self.window_seconds,
            default_language=None if self.language is None else self.language.strip("<|>"),
            detects=self.multilingual and self.language is None,
            most_previous=self.max_positions // 2 - 1,  # OpenAI's: half of the positions, less <|startofprev|>
            rules=self._rules(first),
        )

    def never(self) -> tuple[int, ...]:
        """Ids that are never written: those of the folder, or where it names none all symbols but the end and times."""
        if self.suppressed is not None:
            return tuple(sorted(self.suppressed))
        last = self.notimestamps if self.notimestamps is not None else self.vocabulary
        return tuple(sorted(i for i in self.index.values() if i != self.eos and i <= last))

    def _languages(self) -> dict[str, int]:
        if not self.multilingual:
            return {}
        found = {_LANGUAGE.fullmatch(t): i for t, i in sorted(self.index.items(), key=lambda item: item[1])}
        codes = {f"<{m[1]}>": i for m, i in found.items() if m is not None}
        return codes | {f"<{name}>": codes[f"<{code}>"] for name, code in self.names.items() if f"<{code}>" in codes}

    def _tasks(self) -> dict[str, int]:
        """A task's last name is the one that others are told."""
        names = {"<transcribe>": "<|transcribe|>", "<translate>": "<|translate|>"}
        names |= {"<asr>": "<|transcribe|>", "<st_eng>": "<|translate|>"}
        return {name: self.index[t] for name, t in names.items() if self.multilingual and t in self.index}

    def _rules(self, first_time: int | None) -> WhisperRules:
        last = None
        if first_time is not None and self.max_initial_time is not None:
            last = first_time + self.max_initial_time
        return WhisperRules(self.never(), tuple(self.begin_suppressed or ()), last)
