"""``tune``: the measure, policy, threshold, CTC weight, margin and beam of PAR that keep a budget, and what they promise."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from numpy.typing import NDArray

from parlab.commands.tune.budget import Budget
from parlab.commands.tune.calibration import with_calibrated_fills
from parlab.commands.tune.data import divide, encode, read_scored
from parlab.commands.tune.measures import judge_all, measure_rows
from parlab.commands.tune.options import TuneOptions
from parlab.commands.tune.outcome import DECODER, Outcome, describe, record_look, write_decoder, write_fitted
from parlab.commands.tune.search import Search, frontier
from parlab.commands.tune.trials import Laboratory, Trial, losses
from parlab.data.utterance import Utterance
from parlab.decode import AR, PAR, Greedy
from parlab.errors import UserError
from parlab.metrics.promise import Promise, first_to_last
from parlab.options.devices import make_fabric
from parlab.options.libraries import quiet_libraries
from parlab.predictions.files import Json, write_json
from parlab.predictions.provenance import hash_data, hashes_of
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer

DELTA = 0.5  # points of WER, where neither the budget nor the options say what may be lost


def main(argv: Sequence[str]) -> int:
    """Run ``tune``; 0 when the setting keeps the budget, 1 when none does."""
    quiet_libraries()
    options = TuneOptions.read(argv)
    budget = Budget.parse(options.budget)
    delta = (options.delta or _allowed(budget)) / 100
    utterances = read_scored(options.data, options.limit)
    searched, held_out = divide(utterances, options, delta)
    recognizer = _recognizer(options)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    # 1. The measures, from the drafts alone; then the trials.
    print(f"{len(searched)} utterances to search with, {len(held_out)} to test the promise on")
    laboratory = encode(options, recognizer, searched, "cache")
    start = _start(recognizer)
    judged = judge_all(laboratory, start, options.measures)
    show("Measures, the best first", measure_rows(judged))
    bases = reference_trials(laboratory, options)
    search = Search(laboratory, judged, start, _report, options.policies, options.margins, bool(options.measures))
    trials = search.run(_weights(options, recognizer), options.beams)
    # 2. The setting, and its promise.
    chosen, promise, unseen = budget.best(trials, bases), None, dict[str, Trial]()
    if held_out:
        chosen, promise, unseen = _promised(options, recognizer, held_out, _candidates(trials, chosen), delta)
    chosen, unseen = _calibrated(laboratory, chosen, unseen)
    within = budget.within(chosen, bases)
    outcome = Outcome(budget, chosen, bases, within, promise, delta, options.alpha, options.blocks)
    show(
        "Greedy, AR and the settings that none beats in errors and work",
        [trial_row(t) for t in (*bases.values(), *frontier(trials))],
    )
    show("The setting", [trial_row(chosen)])
    show("The half that the search had not seen", [trial_row(t) for t in unseen.values()])
    print("\n".join(outcome.sentences()))
    beside = [options.fitted_folder] if options.beside_model else []
    write_decoder([out, *(beside if within else [])], outcome)
    hashes = hashes_of(recognizer.model_hash(), utterances)
    if not options.measures:
        write_fitted([out, *beside], judged, replace(hashes, data=hash_data(searched)))
    # 3. A test set is opened once.
    tested = _test(options, recognizer, chosen) if options.test is not None else None
    measures: list[Json] = [{"measure": j.measure, **asdict(j.quality), "caught": list(j.caught)} for j in judged]
    write_json(
        out / "tune.json",
        {
            "budget": options.budget,
            "within": within,
            "promise": None if promise is None else {**asdict(promise), "kept": promise.kept},
            "chosen": describe(chosen),
            "bases": {name: describe(trial) for name, trial in bases.items()},
            "unseen": {name: describe(trial) for name, trial in unseen.items()},
            "trials": [describe(trial) for trial in trials],
            "measures": measures,
            "test": tested,
            "hashes": asdict(hashes),
        },
    )
    laboratory.encodings.close()
    print(f"wrote {out / DECODER} and {out / 'tune.json'}")
    return 0 if within else 1


def _calibrated(laboratory: Laboratory, chosen: Trial, unseen: dict[str, Trial]) -> tuple[Trial, dict[str, Trial]]:
    """The trials of the setting that is taken with its fills calibrated, which changes no text."""
    decoder = with_calibrated_fills(laboratory, chosen.decoder)
    return replace(chosen, decoder=decoder), {
        name: replace(trial, decoder=decoder) if name == "chosen" else trial for name, trial in unseen.items()
    }


def _allowed(budget: Budget) -> float:
    """Points of WER that the promise allows against AR."""
    return (
        budget.amount if (budget.quantity, budget.base, budget.sign) == ("wer", "ar", "+") and budget.amount else DELTA
    )


def _recognizer(options: TuneOptions) -> Recognizer:
    device = make_fabric(options.accelerator, 1).device
    recognizer = Recognizer.read(options.model, device, head=options.head)
    recognizer = recognizer.asked(PromptOptions(options.language))
    if not isinstance(recognizer.default_decoder(), PAR):
        raise UserError(
            f"{options.model} cannot be decoded with par, expected a hybrid model, or one with a draft head (--head)"
        )
    return recognizer


def _start(recognizer: Recognizer) -> PAR:
    """What every setting has: the model's default."""
    default = recognizer.default_decoder()
    assert isinstance(default, PAR)
    return default


def _weights(options: TuneOptions, recognizer: Recognizer) -> tuple[float, ...]:
    """The weights of CTC that are tried; a head of pieces cannot score fills."""
    spelling = None if recognizer.head is None else recognizer.head.spelling
    return options.ctc_weights if spelling is None or spelling.same or spelling.by_letters else (0.0,)


def reference_trials(laboratory: Laboratory, options: TuneOptions) -> dict[str, Trial]:
    """Greedy CTC, and AR: joint with CTC where the model has a CTC head."""
    joint = AR(beam_size=max(options.beams))
    joint = joint if laboratory.recognizer.model.ctc is not None else replace(joint, ctc_weight=0.0)
    return {"greedy": laboratory.run(Greedy()), "ar": laboratory.run(joint)}


def _candidates(trials: Sequence[Trial], chosen: Trial) -> list[Trial]:
    """The settings whose promises are tested, the safest first: those of the frontier that do at least the chosen one's work."""
    return [*(t for t in frontier(trials) if t.work > chosen.work), chosen]


def _promised(
    options: TuneOptions,
    recognizer: Recognizer,
    held_out: Sequence[Utterance],
    candidates: Sequence[Trial],
    delta: float,
) -> tuple[Trial, Promise, dict[str, Trial]]:
    """The last candidate that is promised, from the safest one on; where not even that one is, the one that was chosen, and
    the test that the safest one did not pass. And what greedy, AR and this setting have on these utterances."""
    laboratory = encode(options, recognizer, held_out, "cache_promise")
    bases = reference_trials(laboratory, options)
    tested: list[Trial] = []

    def lost(candidate: Trial) -> NDArray:
        tested.append(laboratory.run(candidate.decoder))
        return losses(tested[-1], bases["ar"], options.blocks)

    found = first_to_last(map(lost, candidates), delta, options.alpha)
    kept = sum(p.kept for p in found)
    chosen, promise = (candidates[kept - 1], found[kept - 1]) if kept else (candidates[-1], found[0])
    own = next((t for t in tested if t.decoder == chosen.decoder), None) or laboratory.run(chosen.decoder)
    laboratory.encodings.close()
    return chosen, promise, {**bases, "chosen": own}


def _test(options: TuneOptions, recognizer: Recognizer, chosen: Trial) -> dict[str, Json]:
    """Decode the test set with the setting, greedy and AR; record the look."""
    assert options.test is not None
    utterances = read_scored(options.test)
    laboratory = encode(options, recognizer, utterances, "cache_test")
    found = {**reference_trials(laboratory, options), "chosen": laboratory.run(chosen.decoder)}
    laboratory.encodings.close()
    show("The test set", [trial_row(t) for t in found.values()])
    earlier = record_look(Path(options.out), chosen.decoder, hash_data(utterances), found["chosen"].wer)
    if earlier:
        print(
            f"parlab: this test set was looked at {earlier} times before ({options.out}/test_looks.jsonl); its result is no "
            "longer that of a set nobody has seen",
            file=sys.stderr,
        )
    return {"look": earlier + 1, **{name: describe(trial) for name, trial in found.items()}}


# ---- tables -------------------------------------------------------------------------------------


def _report(trial: Trial) -> None:
    print("  " + ", ".join(f"{name} {value}" for name, value in trial_row(trial).items()), flush=True)


def trial_row(trial: Trial) -> dict[str, str]:
    """A row of text."""
    options = describe(trial)["options"]
    assert isinstance(options, Mapping)
    named = " ".join(f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in options.items())
    return {
        "setting": f"{trial.decoder.name} {named}".strip(),
        "WER": f"{trial.wer:.2%}",
        "masked": f"{trial.masked_share:.1%}",
        "work": f"{trial.work:.2f}",
        "steps": f"{trial.steps:.2f}",
        "seconds": f"{trial.seconds:.1f}",
    }


def show(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """A table of text, in columns."""
    if not rows:
        return
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = ["  ".join(name.ljust(widths[name]) for name in rows[0])]
    lines += ["  ".join(row[name].ljust(widths[name]) for name in row) for row in rows]
    print("\n".join([title, *(line.rstrip() for line in lines), ""]), flush=True)
