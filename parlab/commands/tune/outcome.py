"""What ``tune`` found: the decoder's configuration, its promise, and the looks at a test set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from parlab.commands.tune.budget import Budget
from parlab.commands.tune.measures import Judged, fitted_options
from parlab.commands.tune.trials import Trial, losses
from parlab.decode import Decoder
from parlab.decode.confidence.fitted import FILE, VERSION
from parlab.metrics.promise import Promise, least_units, needed_units
from parlab.options.decoder_names import FILE as DECODER
from parlab.predictions.files import Entry, Json, read_jsonl, write_json, write_jsonl, writing
from parlab.predictions.metrics import Hashes
from parlab.predictions.provenance import describe_decoder

LOOKS = "test_looks.jsonl"


@dataclass(frozen=True)
class Outcome:
    """The setting that is taken.

    Attributes:
        bases: greedy and AR on the utterances of the search.
        within: whether it keeps the budget there.
        promise: what is promised of it against AR, or the test that it did not pass; None where the data are too few for any.
        delta, alpha, blocks: of the promise.
    """

    budget: Budget
    chosen: Trial
    bases: dict[str, Trial]
    within: bool
    promise: Promise | None
    delta: float
    alpha: float
    blocks: str

    def sentences(self) -> list[str]:
        """What the setting keeps, and what it promises, in words."""
        limit = self.budget.limit(self.bases)
        kept = "keeps" if self.within else "does not keep"
        unit = {"wer": " % WER", "time": " s", "masked": " of the tokens masked"}[self.budget.quantity]
        own = self.budget.value(self.chosen)
        first = f"On the data of the search the setting {kept} the budget: {own:.2f} of {limit:.2f}{unit}."
        return [first, self._promised()]

    def _promised(self) -> str:
        points, sure = f"{100 * self.delta:g} points", f"{1 - self.alpha:.0%}"
        what = f"the mean over {self.blocks}s of the WER lost against AR is at most {points}"
        half = "; half of a development set is kept for this test"
        p = self.promise
        if p is None:
            least = least_units(self.delta, self.alpha)
            return (
                f"No promise: the development set is too small. That with confidence {sure} {what} would need "
                f"{2 * (least or 0)} {self.blocks}s if nothing were lost or won{self._at_this_rate()}{half}."
            )
        if p.kept:
            return f"Promise: with confidence {sure} {what} (p = {p.p_value:.3g}, {p.units} {self.blocks}s that the search did not see)."
        more = "it lost too much" if p.needed is None else f"about {2 * p.needed} {self.blocks}s would be needed"
        tested = f"of the safest setting p = {p.p_value:.3g}, {p.units} {self.blocks}s"
        return f"No promise that with confidence {sure} {what} ({tested}): {more}{half}."

    def _at_this_rate(self) -> str:
        """How many units a promise would need if the losses went on as in the search, which is a hopeful guess."""
        needed = needed_units(losses(self.chosen, self.bases["ar"], self.blocks), self.delta, self.alpha)
        return (
            "; with the losses of the search it could not be made"
            if needed is None
            else f", and about {2 * needed} with the losses of the search"
        )


def write_decoder(folders: Sequence[Path], outcome: Outcome) -> None:
    """Write the configuration that ``--decoder`` reads."""
    decoder = outcome.chosen.decoder
    options = dict(asdict(decoder))  # type: ignore[call-overload]
    options = {name: options[name] for name in options if name != "max_mask_parallel"}
    head = "".join(f"# {sentence}\n" for sentence in ("Written by parlab tune.", *outcome.sentences()))
    text = head + yaml.safe_dump({"class_path": decoder.name, "init_args": options}, sort_keys=False)
    for path in (folder / DECODER for folder in folders):
        with writing(path):
            path.write_text(text, encoding="utf-8")


def write_fitted(folders: Sequence[Path], judged: Sequence[Judged], hashes: Hashes) -> None:
    """Write what was fitted to the model, for ``posterior:file=DIR`` and ``learned:file=DIR``."""
    about: dict[str, Json] = {**asdict(hashes), "tokens": len(judged[0].wrong), "wrong": int(judged[0].wrong.sum())}
    measures: dict[str, Json] = {name: {**options} for name, options in fitted_options(judged).items()}
    for folder in folders:
        write_json(folder / FILE, {"version": VERSION, "measures": measures, "fitted_on": about})


def describe(trial: Trial) -> dict[str, Json]:
    """A trial as ``tune.json`` has it."""
    return {
        "decoder": trial.decoder.name,
        "options": trial.decoder.changed(),
        "wer": trial.wer,
        "errors": int(trial.errors.sum()),
        "words": int(trial.words.sum()),
        "masked_share": trial.masked_share,
        "work": trial.work,
        "steps": trial.steps,
        "seconds": trial.seconds,
    }


def record_look(folder: Path, decoder: Decoder, data_hash: str, wer: float) -> int:
    """Record that a test set was decoded; how often it was before, with any setting of this folder."""
    path = folder / LOOKS
    before: list[Entry] = list(read_jsonl(path)) if path.is_file() else []
    earlier = sum(entry.get("data") == data_hash for entry in before)
    options = json.loads(json.dumps(dict(describe_decoder(decoder).options)))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_jsonl(path, [*before, {"time": now, "data": data_hash, "options": options, "wer": wer, "look": earlier + 1}])
    return earlier
