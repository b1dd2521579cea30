"""Which prediction is best, what it costs against greedy and AR, and whether the data decide it, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parlab.metrics.paired import PairedDifference
from parlab.metrics.significance import REPLICATES
from parlab.predictions.comparability import differences_of_data
from parlab.predictions.prediction import Prediction
from parlab.predictions.rates import MARGIN, Rate, RateChange, Resampled, ratio, speakers_of

_FEW = 4
_CHOOSING = 2000  # replicates while one of many settings is chosen


@dataclass(frozen=True)
class Verdict:
    """What a report decides.

    Attributes:
        sentences: of one paragraph each.
        best: None where nothing says which prediction is best.
        greedy, par, ar: the best of each decoder on the same data, None where there is none.
    """

    sentences: tuple[str, ...]
    best: Prediction | None = None
    greedy: Prediction | None = None
    par: Prediction | None = None
    ar: Prediction | None = None


def decide(predictions: Sequence[Prediction]) -> Verdict:
    """Decide among the predictions on the same data; where there are several sets of data, on the one with most of them."""
    group = max(_same_data(predictions), key=len, default=[])
    if not group:
        return Verdict(
            ("No utterance has a reference, so nothing says which prediction is best.",),
            *(_of(predictions, name) for name in ("", "greedy", "par", "ar")),
        )
    few = len(group) <= _FEW  # drawn once, for the choice and for the verdict
    found = Resampled.of([p.word_counts for p in group], speakers_of(group[0]), REPLICATES if few else _CHOOSING)
    choice = found.by_utterance.first(_CHOOSING)
    rates = [counts.rate for counts in found.pooled]
    order = sorted(range(len(group)), key=lambda i: rates[i])
    lowest = order[0]
    as_good = [i for i in order if choice.paired(lowest, i).high <= MARGIN]
    timed = all(group[i].speed.rtfx for i in as_good)
    best = max(as_good, key=lambda i: group[i].speed.rtfx or 0.0) if timed else lowest
    ordered = [group[i] for i in order]
    chosen = group[best]
    greedy, ar = (_of([p for p in ordered if p.metrics.hashes.model == chosen.metrics.hashes.model], name)
                  or _of(ordered, name) for name in ("greedy", "ar"))  # fmt: skip
    par = chosen if chosen.decoder == "par" else _of(ordered, "par")
    references = [p for p in (greedy, ar, par) if p is not None and p is not chosen]
    shown = group if few else [chosen, *references]
    final = found if few else Resampled.of([p.word_counts for p in shown], speakers_of(chosen), REPLICATES)
    at = {p.name: i for i, p in enumerate(shown)}
    sentences = [_opening(chosen, group[lowest], final.rate(at[chosen.name]), len(group))]
    sentences += [_against(chosen, p, final.change(at[p.name], at[chosen.name])) for p in references]
    if len(group) > 2:
        sentences.append(f"It was chosen among {len(group)} on these utterances themselves: confirm it on others.")
    others = len(predictions) - len(group)
    if others:
        sentences.append(f"{others} of the predictions have other data or no references, and take no part in this.")
    return Verdict(tuple(sentences), chosen, greedy, par, ar)


def _of(predictions: Sequence[Prediction], decoder: str) -> Prediction | None:
    return next((p for p in predictions if p.decoder == decoder), None)


def _same_data(predictions: Sequence[Prediction]) -> list[list[Prediction]]:
    """Predictions with references in groups that can be compared."""
    groups: list[list[Prediction]] = []
    for p in predictions:
        if not sum(c.total for c in p.word_counts):
            continue
        group = next((g for g in groups if not differences_of_data(g[0], p)), None)
        if group is None:
            groups.append([p])
        else:
            group.append(p)
    return groups


def _opening(best: Prediction, lowest: Prediction, rate: Rate, count: int) -> str:
    speed = f", {best.speed.rtfx:.3g} seconds of audio decoded per second" if best.speed.rtfx else ""
    figures = f"WER {rate.counts.rate:.2%} (95 % interval {rate.low:.2%} to {rate.high:.2%}){speed}"
    if count == 1:
        return f"{best.name}: {figures}. It is the only prediction on its data, so there is nothing to decide."
    if best is lowest:
        reason = f"it has the lowest WER of {count} predictions on {len(best.scored)} utterances"
    else:
        reason = (
            f"it is the fastest of those that are shown to lose at most {100 * MARGIN:g} points of WER against the lowest "
            f"of {count} predictions on {len(best.scored)} utterances, which {lowest.name} has"
        )
    return f"{best.name} is best: {reason}. {figures}."


def _against(best: Prediction, other: Prediction, change: RateChange) -> str:
    d = change.by_utterance
    speed = ratio(best.speed.rtfx, other.speed.rtfx)
    cost = ", speed not measured" if speed is None else f", {speed:.2f} x its speed{_unlike(best, other)}"
    interval = f"95 % interval {_points(d.low)} to {_points(d.high)}" if d.bounded else "too few for an interval"
    figures = f"WER {_points(d.difference)} points ({interval}){cost}"
    said = _decision(d, "utterances")
    if change.by_speaker:
        by_speaker = _decision(change.by_speaker, "speakers")
        if by_speaker != said:
            said += f" With its {change.speakers} speakers as the unit: {by_speaker[0].lower()}{by_speaker[1:]}"
    return f"Against {other.name} ({other.decoder}): {figures}. {said}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _decision(change: PairedDifference, unit: str) -> str:
    if not change.bounded:
        return f"This set does not decide: {change.units} {unit} are too few, at least 6 are needed."
    if change.high <= MARGIN and change.high >= 0:
        return f"This set decides that it loses at most {100 * MARGIN:g} points, not whether it is better."
    if change.high < 0 or change.low > 0:
        return f"This set decides: it is {'better' if change.high < 0 else 'worse'}."
    needed = change.units_to_decide(MARGIN)
    more = f"about {needed:,} {unit} like these would decide" if needed else "more speech is needed"
    return f"This set does not decide: it may be worse by up to {100 * change.high:.2f} points; {more}."


def _unlike(a: Prediction, b: Prediction) -> str:
    """What two measurements of speed do not share, in brackets."""
    names = {
        "batch_size": "batch sizes",
        "precision": "precisions",
        "device": "devices",
        "num_devices": "numbers of devices",
    }
    found = [text for name, text in names.items() if getattr(a.speed, name) != getattr(b.speed, name)]
    return f" (measured with other {' and '.join(found)})" if found else ""
