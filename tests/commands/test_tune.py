"""``tune`` with a tiny model: budgets, trials, the promise, and the file that ``predict`` reads."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import parlab
from parlab.cli import main
from parlab.commands.tune.budget import Budget
from parlab.commands.tune.data import divide
from parlab.commands.tune.learning import named
from parlab.commands.tune.measures import SHARES, Judged, fitted_options
from parlab.commands.tune.options import TuneOptions
from parlab.commands.tune.search import Search, frontier
from parlab.commands.tune.trials import Trial, losses
from parlab.data.utterance import Utterance
from parlab.decode import AR, PAR, Decoder, Greedy
from parlab.decode.confidence.fitted import FILE
from parlab.decode.confidence.measure import find_measure
from parlab.decode.confidence.measures.posterior import Posterior
from parlab.decode.default import WITH_A_HEAD
from parlab.errors import UserError
from parlab.metrics.confidence import ConfidenceQuality
from parlab.metrics.promise import least_units
from parlab.options.decoders import make_decoder
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer


def trial(errors: list[int], work: float, decoder: Decoder | None = None, **changes: Any) -> Trial:
    """A trial on utterances of ten words of two speakers."""
    n = len(errors)
    ids, speakers = tuple(f"u{i}" for i in range(n)), tuple("ab"[i % 2] for i in range(n))
    words, tokens = np.full(n, 10.0), np.full(n, 20.0)
    values = {"masked": np.full(n, 2.0), "seconds": 3.0, **changes}
    return Trial(
        decoder or PAR(),
        ids,
        speakers,
        np.array(errors, dtype=float),
        words,
        tokens,
        values["masked"],
        work,
        work / 10,
        values["seconds"],
    )


BASES = {"greedy": trial([3, 3], 0.0, Greedy(), seconds=2.0), "ar": trial([1, 1], 10.0, AR(), seconds=9.0)}


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("wer<=ar+0.2", 10.2),
        ("wer <= ar * 1.5", 15.0),
        ("wer<=greedy+0", 30.0),
        ("wer<=12.5", 12.5),
        ("time<=greedy*1.1", 2.2),
        ("masked<=0.15", 0.15),
    ],
)
def test_budgets(text: str, limit: float) -> None:
    assert Budget.parse(text).limit(BASES) == pytest.approx(limit)


@pytest.mark.parametrize("text", ["wer<ar", "wer<=ar-1", "masked<=ar+1", "time<=3", "cer<=ar+1", "wer<=ar+x", ""])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"the budget is '{text}', expected one such as")):
        Budget.parse(text)


def test_the_setting_that_a_budget_takes() -> None:
    few, bold, best = trial([1, 2], 2.0), trial([2, 3], 1.0, seconds=2.1), trial([1, 1], 5.0)
    trials = [best, few, bold]
    assert Budget.parse("wer<=ar+5").best(trials, BASES) is few
    assert Budget.parse("wer<=ar+0").best(trials, BASES) is best
    assert Budget.parse("time<=greedy*1.1").best(trials, BASES) is bold
    assert Budget.parse("wer<=1").best(trials, BASES) is best  # none keeps it: the nearest
    assert not Budget.parse("wer<=1").within(best, BASES)
    assert frontier([bold, few, best, trial([2, 2], 3.0)]) == [best, few, bold]


def test_losses_of_utterances_and_speakers() -> None:
    own, other = trial([3, 0, 0, 25], 1.0), trial([1, 1, 0, 0], 1.0)
    assert losses(own, other, "utterance").tolist() == pytest.approx([0.2, -0.1, 0.0, 1.0])
    assert losses(own, other, "speaker").tolist() == pytest.approx([0.1, 1.0])  # 2 of 20 words, and 24 of 20


def test_a_threshold_masks_the_share_it_is_made_for() -> None:
    confidence = np.random.default_rng(1).uniform(0, 1, 500).astype(np.float32).astype(float)
    wrong = np.zeros(500, dtype=bool)
    judged = Judged("gibbs", confidence, wrong, ConfidenceQuality.of(confidence, wrong), (0.0,) * len(SHARES))
    for share in (0.05, 0.3, 0.9):
        assert (confidence < judged.threshold(share)).mean() == pytest.approx(share, abs=0.0021)
    assert judged.threshold(1.0) <= 1.0


def test_no_unit_is_both_searched_and_tested() -> None:
    utterances = [Utterance(f"u{i}", Path(f"{i}.wav"), "a", speaker=f"s{i % 60}") for i in range(1200)]
    options = TuneOptions("m", "d", "o", alpha=0.1)
    searched, held_out = divide(utterances, options, delta=0.01)
    assert len(searched) == len(held_out) == 600
    assert {u.id for u in searched}.isdisjoint(u.id for u in held_out)
    assert divide(list(reversed(utterances)), options, 0.01)[1] == list(reversed(held_out))
    by_speaker = TuneOptions("m", "d", "o", blocks="speaker")
    searched, held_out = divide(utterances, by_speaker, delta=0.2)
    assert held_out and {u.speaker for u in searched}.isdisjoint(u.speaker for u in held_out)
    assert divide(utterances, options, delta=0.001) == (utterances, [])  # too few for any promise: all are searched
    assert divide(utterances, by_speaker, delta=0.01)[1] == []
    with pytest.raises(UserError, match="u0 has no speaker, expected one each for --blocks speaker"):
        divide([Utterance("u0", Path("a.wav"), "a")], by_speaker, 0.1)


def tune(model: Path, data: Path, out: Path, *more: str) -> int:
    base = ["tune", "--model", str(model), "--data", str(data), "--out", str(out)]
    return main([*base, "--beams", "[3]", "--ctc_weights", "[0.5]", *more])


def test_the_file_is_the_setting(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``predict`` with the file has the word errors that ``tune`` counted; options override those of the file."""
    out = tmp_path / "t"
    assert tune(model, data, out, "--budget", "wer<=1000", "--test", str(data)) == 0
    shown = capsys.readouterr().out
    found = json.loads((out / "tune.json").read_text())
    file = str(out / "decoder.yaml")
    assert yaml.safe_load(Path(file).read_text())["class_path"] == "par"
    assert found["unseen"] == {} and "had not seen" not in shown
    assert "No promise: the development set is too small" in shown and "No promise" in Path(file).read_text()
    decoder = make_decoder(file)
    assert decoder == make_decoder("par", **found["chosen"]["options"])
    predicted = tmp_path / "p"
    base = ["predict", "--model", str(model), "--data", str(data), "--wandb", "off", "--progress", "false"]
    assert main([*base, "--decoder", file, "--out", str(predicted)]) == 0
    metrics = json.loads((predicted / "metrics.json").read_text())
    assert metrics["decoder"]["options"] == {**vars(decoder)}
    assert metrics["wer"]["errors"] == found["chosen"]["errors"] == found["test"]["chosen"]["errors"]
    assert metrics["par"]["masked_tokens"] / max(metrics["par"]["tokens"], 1) == pytest.approx(
        found["chosen"]["masked_share"]
    )
    assert main([*base, "--decoder", file, "--decoder.beam_size", "2", "--out", str(tmp_path / "q")]) == 0
    assert json.loads((tmp_path / "q" / "metrics.json").read_text())["decoder"]["options"]["beam_size"] == 2
    assert make_decoder(file, beam_size=7).beam_size == 7  # type: ignore[attr-defined]
    # Every measure was judged, and every trial of the search is there, none twice.
    assert {"posterior", "decoder", "rank", "product"} <= {m["measure"] for m in found["measures"]}
    options = [json.dumps(t["options"], sort_keys=True) for t in found["trials"]]
    assert len(options) == len(set(options)) >= 15
    assert {t["options"].get("rounds", 1) for t in found["trials"]} == {1, 2}
    assert {t["options"].get("margin", PAR().margin) for t in found["trials"]} == {1, PAR().margin, 8}
    assert min(found["trials"], key=lambda t: t["work"])["work"] == found["chosen"]["work"]


def test_a_promise_and_the_looks_at_a_test_set(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss of 90 points can be excluded by few utterances; the second look at the test set is recorded, and said."""
    out = tmp_path / "t"
    more = ("--budget", "masked<=0.5", "--delta", "90", "--test", str(data))
    least = least_units(0.9, 0.1)
    count = len(data.read_text().splitlines())
    assert least is not None and count // 2 >= least
    assert tune(model, data, out, *more) == 0
    first = capsys.readouterr()
    found = json.loads((out / "tune.json").read_text())
    assert found["promise"]["units"] == count // 2
    assert found["promise"]["kept"] == (found["promise"]["p_value"] <= 0.1)
    assert "The half that the search had not seen" in first.out
    unseen = found["unseen"]
    assert unseen["chosen"]["options"] == found["chosen"]["options"]
    test = {name: found["test"][name]["errors"] for name in ("greedy", "ar", "chosen")}  # on both halves
    assert {n: unseen[n]["errors"] + found["bases"].get(n, found["chosen"])["errors"] for n in test} == test
    assert ("Promise: with confidence 90%" in first.out) == found["promise"]["kept"]
    assert "looked at" not in first.err and found["test"]["look"] == 1
    assert tune(model, data, out, *more) == 0
    assert "this test set was looked at 1 times before" in capsys.readouterr().err
    looks = [json.loads(line) for line in (out / "test_looks.jsonl").read_text().splitlines()]
    assert [look["look"] for look in looks] == [1, 2]
    assert json.loads((out / "tune.json").read_text())["test"]["look"] == 2


class Imagined:
    """Trials whose errors are what ``errors`` says of the decoder."""

    def __init__(self, errors: Callable[[PAR], int]):
        self.errors = errors

    def run(self, decoder: PAR) -> Trial:
        return trial([self.errors(decoder)] * 2, float(decoder.margin), decoder)


@pytest.mark.parametrize(
    ("errors", "margin"),
    [
        (lambda d: 1 + (d.margin != 8), 8),
        (lambda d: 1 + (d.margin == 1), 3),
        (lambda d: 1, 1),  # the least work
    ],
)
def test_the_margin_that_errs_least(errors: Callable[[PAR], int], margin: int) -> None:
    sure, wrong = np.linspace(0, 1, 100), np.arange(100) < 10
    judged = Judged("posterior", sure, wrong, ConfidenceQuality.of(sure, wrong), (0.0,) * len(SHARES))
    search = Search(Imagined(errors), [judged], PAR(), margins=(1, 8))  # type: ignore[arg-type]
    trials = search.run((0.5,), (10, 4))
    assert {t.decoder.margin for t in trials if isinstance(t.decoder, PAR) and t.decoder.beam_size == 4} == {margin}


def test_what_was_fitted_stays_beside_the_model(model: Path, data: Path, tmp_path: Path) -> None:
    """The temperature and the learned combination that ``tune`` found are read by name, and are the options that it tried."""
    own = tmp_path / "m"
    shutil.copytree(model, own)
    assert tune(own, data, tmp_path / "t", "--budget", "wer<=1000", "--policies", "[]", "--beside_model", "true") == 0
    found = json.loads((tmp_path / "t" / "tune.json").read_text())
    assert (own / FILE).read_bytes() == (tmp_path / "t" / FILE).read_bytes()
    content = json.loads((own / FILE).read_text())
    assert content["fitted_on"]["model"] == found["hashes"]["model"] and content["fitted_on"]["tokens"] > 0
    judged = {find_measure(m["measure"]) for m in found["measures"]}
    assert {find_measure(f"{name}:file={own}") for name in content["measures"]} <= judged
    options = PAR(measure=f"posterior:file={own}")
    assert find_measure(options.measure) == Posterior(content["measures"]["posterior"]["temperature"])
    assert Recognizer.read(own, torch.device("cpu")).model_hash() == found["hashes"]["model"]


def test_the_setting_stays_beside_the_model(model: Path, data: Path, tmp_path: Path) -> None:
    """It is the default decoder there, and has the name ``tuned``, for commands and for Python; a named decoder is itself."""
    own = tmp_path / "m"
    shutil.copytree(model, own)
    few = ("--measures", '["rank"]', "--policies", "[]", "--margins", "[]", "--beside_model", "true")
    assert tune(own, data, tmp_path / "t", "--budget", "wer<=0.001", *few) == 1
    assert not (own / "decoder.yaml").exists()  # it keeps no budget
    base = ["--model", str(own), "--data", str(data), "--limit", "2", "--wandb", "off"]
    assert main(["predict", *base, "--decoder", "tuned", "--progress", "false", "--out", str(tmp_path / "x")]) == 2
    assert tune(own, data, tmp_path / "t2", "--budget", "wer<=1000", *few) == 0
    tuned = make_decoder(str(own / "decoder.yaml"))
    assert tuned == make_decoder(str(tmp_path / "t2" / "decoder.yaml")) and tuned.measure == "rank"  # type: ignore[attr-defined]
    assert not (own / FILE).exists()  # some measures were not judged
    for name, decoder in (("a", ()), ("b", ("--decoder", "tuned")), ("c", ("--decoder", "par"))):
        assert main(["predict", *base, *decoder, "--progress", "false", "--out", str(tmp_path / name)]) == 0
        options = json.loads((tmp_path / name / "metrics.json").read_text())["decoder"]["options"]
        assert options == vars(PAR() if name == "c" else tuned)
    swept = (
        "--decoder",
        "tuned",
        "--decoder.beam_size",
        "1,2",
        "--timed_utterances",
        "0",
        "--out",
        str(tmp_path / "s"),
    )
    assert main(["sweep", *base, *swept]) == 0
    points = [json.loads(p.read_text()) for p in (tmp_path / "s").glob("points/*/metrics.json")]
    assert sorted(p["decoder"]["options"]["beam_size"] for p in points) == [1, 2]
    assert {p["decoder"]["options"]["measure"] for p in points} == {"rank"}
    wave = np.random.default_rng(1).standard_normal(16000).astype(np.float32) * 0.1
    hypotheses = [parlab.load(own).transcribe(wave, decoder) for decoder in (None, "tuned", tuned)]
    assert hypotheses[0] == hypotheses[1] == hypotheses[2]
    with pytest.raises(UserError, match="the decoder is 'tuned', but tune left none beside this model"):
        parlab.load(model).transcribe(wave, "tuned")


def test_the_learned_combination_is_fitted_with_the_temperature() -> None:
    weights = np.array([0.5, -0.25, 1e-7])
    measures = ["posterior", "posterior:temperature=1.5", named(["posterior", "decoder"], weights)]
    quality = ConfidenceQuality.of(np.ones(2), np.zeros(2, dtype=bool))
    judged = [Judged(m, np.ones(2), np.zeros(2, dtype=bool), quality, (0.0,)) for m in measures]
    assert fitted_options(judged) == {
        "posterior": {"temperature": 1.5},
        "learned": {"of": "posterior+decoder", "weights": "0.5000+-0.2500", "bias": 0.0},
    }
    assert fitted_options(judged[:1]) == {"posterior": {"temperature": 1.0}}


@pytest.mark.parametrize("measure", [WITH_A_HEAD.measure, "product:of=posterior+decoder"])
def test_a_draft_head(measure: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's own default is where the search starts: a head's words are filled by the decoder alone, in rounds."""
    from parlab.model.folder import read_model
    from tests.whisper import write_letter_head, write_whisper

    monkeypatch.setattr("parlab.decode.default.WITH_A_HEAD", replace(WITH_A_HEAD, measure=measure))
    write_whisper(tmp_path / "m", seed=5)
    letters = Tokenizer(["<blank>", "<space>", *"abcdefghimnopqrstuwy"], "char")
    write_letter_head(tmp_path / "h", read_model(tmp_path / "m")[0], letters, 12.0, 4.0)
    more = ("--head", str(tmp_path / "h"), "--limit", "3", "--normalizer", "basic", "--budget", "wer<=100000")
    assert tune(tmp_path / "m", data, tmp_path / "t", *more) == 0
    found = json.loads((tmp_path / "t" / "tune.json").read_text())
    assert all(trial["options"]["rounds"] == WITH_A_HEAD.rounds for trial in found["trials"])
    assert all(trial["options"]["widen"] == WITH_A_HEAD.widen for trial in found["trials"])
    names = [m["measure"] for m in found["measures"]]
    assert {"decoder", "posterior", measure} <= set(names)
    # product and product:of=posterior+decoder are one measure, not two
    assert len(set(map(find_measure, names))) == len(names)
    assert found["trials"][0]["options"]["measure"] == measure


def test_only_some_measures(model: Path, data: Path, tmp_path: Path) -> None:
    """One that reads the decoder may be the only one."""
    names = ["product:of=gibbs+decoder", "rank"]
    for some in (names, names[1:]):
        out = tmp_path / str(len(some))
        assert tune(model, data, out, "--budget", "wer<=1000", "--measures", json.dumps(some)) == 0
        found = json.loads((out / "tune.json").read_text())
        assert (
            {m["measure"] for m in found["measures"]} == {t["options"]["measure"] for t in found["trials"]} == {*some}
        )


def test_a_budget_that_nothing_keeps(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(model, data, tmp_path / "t", "--budget", "wer<=0.001") == 1
    assert "the setting does not keep the budget" in capsys.readouterr().out
    assert (tmp_path / "t" / "decoder.yaml").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.0}, r"the option alpha is 1\.0, expected a probability between 0 and 1"),
        ({"blocks": "speakers"}, "the option blocks is 'speakers', expected utterance or speaker"),
        ({"delta": 100.0}, r"the option delta is 100\.0"),
        ({"beams": ()}, "beams or ctc_weights is empty"),
        ({"measures": ("posteriors",)}, "posteriors.*did you mean"),
        ({"margins": (-1,)}, r"the option margins is \[-1\], expected numbers of tokens from 0"),
        ({"beside_model": True}, "beside_model is true with m, expected the folder of a model"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TuneOptions("m", "d", "o", **options)


def test_utterances_without_references(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [json.loads(line) for line in data.read_text().splitlines()]
    entries[0].pop("text")
    without = data.with_name("without.jsonl")
    without.write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert tune(model, without, tmp_path / "t") == 2
    assert "have no reference" in capsys.readouterr().err
