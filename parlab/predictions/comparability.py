"""Which predictions may be compared: those of the same utterances, audio, references and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parlab.errors import UserError
from parlab.metrics.tables import visible
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction

SAME_SECONDS = 0.05  # recordings of one utterance may differ so much in length, after resampling or another codec


def check_comparable(predictions: Sequence[Prediction]) -> None:
    """Refuse predictions that were not made on the same utterances, audio, references and normalisation.

    Raises:
        UserError: naming all that differs between the first pair that cannot be compared.
    """
    if len(predictions) < 2:
        raise UserError("compare got one prediction, expected at least two; name another folder")
    first = predictions[0]
    for other in predictions[1:]:
        different = differences_of_data(first, other)
        if different:
            raise UserError(
                f"{visible(first.name)} and {visible(other.name)} cannot be compared: they have {'; '.join(different)}; predict the same "
                "data with the same --normalizer"
            )


def differences_of_data(a: Prediction, b: Prediction) -> list[str]:
    """What of utterances, audio, references and normalisation two predictions do not share, in words."""
    found = []
    in_a, in_b = ({r.id: r for r in p.records} for p in (a, b))
    apart = sorted(in_a.keys() ^ in_b.keys())
    if apart:
        counts = (
            f"{len(in_a.keys() - in_b.keys())} only in the first, {len(in_b.keys() - in_a.keys())} only in the second"
        )
        found.append(f"different utterances ({counts}, as '{visible(apart[0])}')")
    both = [(in_a[i], in_b[i]) for i in sorted(in_a.keys() & in_b.keys())]
    references = [x.id for x, y in both if x.ref != y.ref]
    if references:
        found.append(f"different references ({len(references)} utterances, as '{visible(references[0])}')")
    audio = [x.id for x, y in both if not _same_audio(x, y)]
    if audio:
        found.append(f"different audio ({len(audio)} utterances, as '{visible(audio[0])}')")
    if a.metrics.normalizer != b.metrics.normalizer:
        names = " and ".join(
            visible(f"{n.name} {n.version}".strip()) for n in (a.metrics.normalizer, b.metrics.normalizer)
        )
        found.append(f"different normalizers ({names})")
    return found


def _same_audio(x: UtteranceRecord, y: UtteranceRecord) -> bool:
    """Compare length and file name without its ending: data may move and be written in another format."""
    if x.duration is not None and y.duration is not None and abs(x.duration - y.duration) > SAME_SECONDS:
        return False
    return x.audio is None or y.audio is None or x.audio == y.audio or Path(x.audio).stem == Path(y.audio).stem
