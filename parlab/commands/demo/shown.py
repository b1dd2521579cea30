"""What the demo shows of its predictions: a table, and examples of what PAR changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from parlab.metrics.wer import ErrorCounts
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction

NAMES = {"before": "greedy, not fine-tuned", "greedy": "greedy", "ar": "AR, joint beam", "par": "PAR"}


def table(predictions: Mapping[str, Prediction]) -> Table:
    """A row per prediction."""
    shown = Table(title="parlab demo: synthetic test voices that are not in the training")
    shown.add_column("decoder", no_wrap=True)
    for column in ("WER", "CER", "RTFx", "search (s)", "tokens masked"):
        shown.add_column(column, justify="right")
    for name, prediction in predictions.items():
        metrics, speed = prediction.metrics, prediction.speed
        shown.add_row(
            NAMES.get(name, name),
            _percent(metrics.wer),
            _percent(metrics.cer),
            f"{speed.rtfx or 0.0:.0f}",
            f"{speed.search_seconds or 0.0:.2f}",
            f"{prediction.masked_share:.1%}" if name == "par" else "-",
        )
    return shown


def _percent(errors: ErrorCounts | None) -> str:
    return "-" if errors is None else f"{errors.rate:.1%}"


def examples(records: Sequence[UtteranceRecord], count: int = 3) -> list[Text]:
    """Utterances whose draft PAR has changed: reference, result, and each draft with its fill."""
    changed = [r for r in records if any(s.draft != s.fill for s in r.segments)]
    lines: list[Text] = []
    for record in changed[:count]:
        lines.append(Text.assemble("\nreference  ", record.ref or ""))
        lines.append(Text.assemble("PAR        ", (record.text, "bold")))
        for segment in record.segments:
            if segment.draft != segment.fill:
                draft, fill = _readable(segment.draft_text), _readable(segment.fill_text)
                lines.append(Text.assemble("           ", (draft, "red strike"), " -> ", (fill, "green")))
    return lines


def _readable(pieces: Sequence[str]) -> str:
    """Token strings as text: the marks of sentencepiece and of character models are spaces."""
    text = "".join(pieces).replace("\u2581", " ").replace("<space>", " ").strip()
    return text or "(nothing)"
