"""What the demo shows of its predictions: a table, and examples of what PAR changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from parlab.metrics.wer import GAP, ErrorCounts, alignment
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction, known_word_errors

NAMES = {"before": "greedy, not fine-tuned", "greedy": "greedy", "ar": "AR, joint beam", "par": "PAR"}


def table(predictions: Mapping[str, Prediction]) -> Table:
    """A row per prediction."""
    shown = Table(title="parlab demo: synthetic test voices that are not in the training")
    shown.add_column("decoder", no_wrap=True)
    for column in ("WER", "CER", "RTFx", "with loading", "search (s)", "tokens masked"):
        shown.add_column(column, justify="right")
    for name, prediction in predictions.items():
        metrics, speed = prediction.metrics, prediction.speed
        shown.add_row(
            NAMES.get(name, name),
            _percent(metrics.wer),
            _percent(metrics.cer),
            f"{speed.rtfx or 0.0:.0f}",
            f"{speed.rtfx_with_loading or 0.0:.0f}",
            f"{speed.search_seconds or 0.0:.2f}",
            f"{prediction.masked_share:.1%}" if name == "par" else "-",
        )
    return shown


def _percent(errors: ErrorCounts | None) -> str:
    return "-" if errors is None else f"{errors.rate:.1%}"


@dataclass(frozen=True)
class Change:
    """Whole words: what the draft had, what PAR wrote instead, and what the reference has there; any may be nothing."""

    draft: str
    fill: str
    reference: str


@dataclass(frozen=True)
class _Changed:
    """An utterance whose words PAR has changed; ``gain``: word errors of the draft less those of the result."""

    record: UtteranceRecord
    draft: str
    result: str
    changes: list[Change]
    gain: int


def examples(prediction: Prediction, count: int = 3) -> list[Text]:
    """What came of PAR's changes, and the ``count`` utterances that gained most: reference, draft, result, changed words."""
    found = [
        c
        for r, reference in zip(prediction.scored, prediction.references, strict=True)
        if (c := _changed(prediction, r, reference))
    ]
    better, worse = sum(c.gain > 0 for c in found), sum(c.gain < 0 for c in found)
    lines = [
        Text(
            f"\nPAR changed words of {len(found)} of {len(prediction.scored)} utterances: fewer errors than the "
            f"draft in {better}, more in {worse}. Those that gained most:"
        )
    ]
    for c in sorted(found, key=lambda c: -c.gain)[:count]:
        lines.append(Text.assemble("\nreference  ", c.record.ref or ""))
        lines.append(Text.assemble("draft      ", c.draft))
        lines.append(Text.assemble("PAR        ", (c.result, "bold")))
        for change in c.changes:
            draft, fill, reference = (text or "(nothing)" for text in (change.draft, change.fill, change.reference))
            right = "green" if change.fill == change.reference else "yellow"
            arrow = Text.assemble("           ", (draft, "red strike"), " -> ", (fill, right))
            lines.append(arrow + Text(f"   (reference: {reference})", "dim"))
    return lines if found else []


def _changed(p: Prediction, record: UtteranceRecord, reference: str) -> _Changed | None:
    """What PAR did to an utterance; None where draft and result have the same words."""
    draft, result = (_text(record, tokens) for tokens in (draft_tokens(record), record.token_text))
    found = changes(draft.split(), result.split(), reference.split())
    if not found:
        return None
    before, after = (known_word_errors(reference, p.normalized(text)).errors for text in (draft, result))
    return _Changed(record, draft, result, found, before - after)


def draft_tokens(record: UtteranceRecord) -> tuple[str, ...]:
    """The tokens before the fills."""
    tokens: list[str] = []
    index = 0  # of the result's next token
    for segment in record.segments:
        kept = segment.start - len(tokens)
        tokens += (*record.token_text[index : index + kept], *segment.draft_text)
        index += kept + len(segment.fill)
    return (*tokens, *record.token_text[index:])


def changes(draft: Sequence[str], result: Sequence[str], reference: Sequence[str]) -> list[Change]:
    """Runs of words that differ between draft and result, with the reference's words there."""
    spoken: list[list[str]] = [[] for _ in range(2 * len(result) + 1)]  # before each word, at it, ..., after the last
    index = 0
    for said, word in alignment(result, reference):
        place = 2 * index + (said != GAP)
        spoken[place] += [word] if word != GAP else []
        index += said != GAP
    found: list[Change] = []
    before: list[str] = []
    after: list[str] = []
    index = 0
    for old, new in [*alignment(draft, result), ("", "")]:  # the last pair ends the last run
        if old != new:
            before += [old] if old != GAP else []
            after += [new] if new != GAP else []
        elif before or after:
            there = [word for words in spoken[2 * (index - len(after)) : 2 * index + 1] for word in words]
            found.append(Change(" ".join(before), " ".join(after), " ".join(there)))
            before, after = [], []
        index += new != GAP
    return found


def _text(record: UtteranceRecord, tokens: Sequence[str]) -> str:
    """Tokens as words: the marks of sentencepiece and of character models are spaces."""
    between = " " if " ".join(record.token_text) == record.text else ""
    return " ".join(between.join(tokens).replace("\u2581", " ").replace("<space>", " ").split())
