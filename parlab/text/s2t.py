"""S2T (OWSM, Whisper) models: their symbols, their window of speech, and prompts made of them.

ESPnet's primer (espnet2/bin/s2t_inference.py): ``[<sop> previous text] <sos> <language> <task> [<notimestamps>]``. OWSM-CTC
has no decoder; its prompt goes into the encoder as ``previous text <language> <task>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parlab.errors import UserError, nearest

# Three letters in brackets name a language (ISO 639-3), but for these.
_NO_LANGUAGES = frozenset({"<asr>", "<sos>", "<eos>", "<sop>", "<unk>", "<pad>"})
_DOLPHINS_OTHERS = _NO_LANGUAGES | {"<na>", "<itn>"}
_LANGUAGE = re.compile(r"<[a-z]{3}(_[A-Za-z]+)?>")
_TASK = re.compile(r"<(asr|st_[a-z]{3})>")
_SHORT_LANGUAGE, _REGION = re.compile(r"<[a-z]{2,3}>"), re.compile(r"<[A-Z]{2,}>")  # Dolphin's
_NOTIME = "<notimestamp>"  # Dolphin's, which tells its token lists
UNKNOWN_LANGUAGE = "<nolang>"
TRANSCRIPTION = "<asr>"


@dataclass(frozen=True)
class WhisperRules:
    """What a Whisper decoder may write.

    Attributes:
        suppressed: ids that are never written.
        begin_suppressed: ids that no text begins with.
        last_initial: the latest time symbol that a text with times may begin with; None: any.
    """

    suppressed: tuple[int, ...]
    begin_suppressed: tuple[int, ...]
    last_initial: int | None


@dataclass(frozen=True)
class S2TSymbols:
    """Ids and times of an S2T model.

    Attributes:
        sos, sop, na: start of text, start of the previous text, "not available".
        languages, tasks: symbol -> id.
        notimestamps: id, or None.
        first_time, last_time: ids of the first and the last time symbol, or None.
        resolution: seconds from one time symbol to the next.
        window_seconds: speech is padded or cut to this; None: as it is (OWSM-CTC).
        encoder_prompt: whether the prompt goes into the encoder (OWSM-CTC).
        default_language: of prompts that name none, as ``"eng"``.
        detects: where no language is named, the decoder is asked for it.
        most_previous: tokens of the previous text that count, its last ones; None: all.
        rules: Whisper's; None: ESPnet's.
        regions: symbol -> id of Dolphin's, which follow the language: ``"zh-CN"`` names both.
    """

    sos: int
    sop: int | None
    na: int | None
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    notimestamps: int | None
    first_time: int | None
    last_time: int | None
    resolution: float
    window_seconds: float | None
    encoder_prompt: bool = False
    default_language: str | None = None
    detects: bool = False
    most_previous: int | None = None
    rules: WhisperRules | None = None
    regions: Mapping[str, int] = field(default_factory=dict)

    def prompt(
        self, language: str | None = None, task: str = "asr", timestamps: bool = False, previous: Sequence[int] = ()
    ) -> tuple[int, ...]:
        """The ids before the first decoded token.

        Args:
            language: ``"eng"`` or ``"<eng>"`` (Whisper: ``"en"``, ``"english"``; Dolphin: ``"zh-CN"``); None is the model's
                default, English where it has none (OWSM-CTC: unknown).
            task: ``"asr"``, or ``"st_deu"`` for a translation into German (Whisper: ``"st_eng"``, ``"translate"``).
            timestamps: let the decoder write times.
            previous: ids of a text that the prompt starts with.

        Raises:
            UserError: the model has no such language or task, or no time symbols.
        """
        head = []  # an English-only Whisper has neither language nor task
        region = ""
        if self.regions and language is not None:
            language, _, region = language.partition("-")
        if self.languages or language is not None:
            head.append(self._find("language", self.languages, language or self._default()))
        if self.regions:
            head.append(self._find("region", self.regions, region or next(iter(self.regions))))
        if self.tasks or f"<{task.strip('<>')}>" != TRANSCRIPTION:
            head.append(self._find("task", self.tasks, task))
        if self.encoder_prompt:
            if timestamps:
                raise UserError(
                    "an OWSM-CTC model writes no timestamp symbols, expected timestamps=False; use its frames"
                )
            return (*(previous or [i for i in (self.na,) if i is not None]), *head)
        if timestamps and (self.first_time is None or self.last_time is None):
            raise UserError("this model has no time symbols, expected <0.00> and later ones; decode without timestamps")
        if not timestamps and self.notimestamps is not None:
            head.append(self.notimestamps)
        if self.most_previous is not None:
            previous = previous[-self.most_previous :]
        before = (self.sop, *previous) if previous and self.sop is not None else ()
        return (*before, self.sos, *head)

    def _default(self) -> str:
        if self.default_language is not None:
            return self.default_language
        wanted = UNKNOWN_LANGUAGE if self.encoder_prompt else "<en>" if self.rules is not None else "<eng>"
        return wanted if wanted in self.languages else next(iter(self.languages), wanted)

    def _find(self, what: str, table: Mapping[str, int], name: str) -> int:
        symbol = f"<{name.strip('<|>').lower() if self.rules is not None else name.strip('<>')}>"
        if symbol not in table:
            some = ", ".join(t.strip("<>") for t in list(table)[:8]) or "none"
            hint = nearest(symbol.strip("<>"), [t.strip("<>") for t in table])
            raise UserError(
                f"this model has no {what} '{name.strip('<>')}'{hint} (it has {some}{', ...' if len(table) > 8 else ''})"
            )
        return table[symbol]

    def tasks_of(self, prompt: Sequence[int]) -> list[str]:
        """The task symbols in a prompt."""
        names = {i: symbol for symbol, i in self.tasks.items()}
        return [names[i] for i in prompt if i in names]

    def is_time(self, token: int) -> bool:
        """Whether a token is a time symbol."""
        return self.first_time is not None and self.last_time is not None and self.first_time <= token <= self.last_time

    def timed(self, tokens: Sequence[int]) -> list[tuple[float, float, tuple[int, ...]]]:
        """Utterances as the decoder timed them: (start, end, tokens), in seconds; an open end is the window's."""
        out: list[tuple[float, float, tuple[int, ...]]] = []
        start: float | None = None
        words: list[int] = []
        for token in tokens:
            if not self.is_time(token):
                words.append(token)
                continue
            seconds = round((token - int(self.first_time or 0)) * self.resolution, 3)
            if start is None:
                start, words = seconds, []
            else:
                out.append((start, seconds, tuple(words)))
                start, words = None, []
        if start is not None and words:
            out.append((start, self.window_seconds or start, tuple(words)))
        return out


def s2t_symbols(config: Mapping[str, Any], kind: str) -> S2TSymbols | None:
    """The symbols of a config with its token list; None for ASR models."""
    if kind == "asr":
        return None
    tokens: Sequence[str] = config["token_list"]
    model_conf, conf = config.get("model_conf") or {}, config.get("preprocessor_conf") or {}
    index = {token: i for i, token in reversed(list(enumerate(tokens)))}
    if _NOTIME in index:
        return dolphin_symbols(index, index[model_conf.get("sym_sos", "<sos>")])
    languages = {
        t: i
        for i, t in enumerate(tokens)
        if (_LANGUAGE.fullmatch(t) and t not in _NO_LANGUAGES) or t == UNKNOWN_LANGUAGE
    }
    encoder_prompt = kind == "s2t_ctc"
    return S2TSymbols(
        sos=index[model_conf.get("sym_sos", "<sos>")],
        sop=index.get(model_conf.get("sym_sop", "<sop>")),
        na=index.get(model_conf.get("sym_na", "<na>")),
        languages=languages,
        tasks={t: i for i, t in enumerate(tokens) if _TASK.fullmatch(t)},
        notimestamps=index.get(conf.get("notime_symbol", "<notimestamps>")),
        first_time=index.get(conf.get("first_time_symbol", "<0.00>")),
        last_time=index.get(conf.get("last_time_symbol", "<30.00>")),
        resolution=float(conf.get("speech_resolution", 0.02)),
        window_seconds=None if encoder_prompt else float(conf.get("speech_length", 30)),
        encoder_prompt=encoder_prompt,
    )


def dolphin_symbols(index: Mapping[str, int], sos: int) -> S2TSymbols:
    """The symbols of a Dolphin model: ``<sos> <zh> <CN> <asr> <notimestamp>`` is a prompt; speech is not padded to a window.

    Args:
        index: id of each token.
    """
    return S2TSymbols(
        sos=sos,
        sop=None,
        na=index.get("<na>"),
        languages={t: i for t, i in index.items() if _SHORT_LANGUAGE.fullmatch(t) and t not in _DOLPHINS_OTHERS},
        tasks={t: i for t, i in index.items() if _TASK.fullmatch(t)},
        notimestamps=index[_NOTIME],
        first_time=index.get("<0.00>"),
        last_time=index.get("<30.00>"),
        resolution=0.02,
        window_seconds=None,
        detects=True,
        regions={t: i for t, i in index.items() if _REGION.fullmatch(t)},
    )
