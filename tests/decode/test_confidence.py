"""Confidence measures against the slow reference, and what holds for all of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.decode import PAR, Decoder, Gated, Greedy, Refine
from parlab.decode.confidence import fitted
from parlab.decode.confidence.fitted import FILE, VERSION
from parlab.decode.confidence.measure import find_measure, measure_names
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.families.weights import hash_model
from parlab.types import Segment
from tests.models import encoded, examples, random_posteriors, tiny_model
from tests.reference import confidence as reference

MODEL = tiny_model(3, sharpness=4.0)
OF_FRAMES = {"mean": ("mean", "min"), "margin": ("max", "min", "mean"), "gibbs": ("mean", "min", "max")}
OF_FRAMES |= {"tsallis": OF_FRAMES["gibbs"], "renyi": OF_FRAMES["gibbs"]}
FEW = ["mean", "gibbs:blanks=true", "tsallis:normalization=exponential", "margin", "decoder", "rank", "product"]


def batch(seed: int, size: int = 1, frames: int = 14) -> Encoded:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(size, frames, 32, generator=generator)
    lengths = torch.randint(max(1, frames // 2), frames + 1, (size,), generator=generator)
    lengths[0] = frames
    return encoded(MODEL, states, lengths, random_posteriors(seed, size, frames, 21))


def confidences(measure: str, given: Encoded) -> list[tuple[float, ...]]:
    return [h.token_confidence for h in Greedy(measure).decode(MODEL, given)]


@settings(max_examples=examples(120), deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6), kind=st.sampled_from(sorted(OF_FRAMES)))
def test_measures_of_frames_equal_the_reference(data: st.DataObject, seed: int, kind: str) -> None:
    options: dict[str, Any] = {"reduce": data.draw(st.sampled_from(OF_FRAMES[kind]))}
    options["temperature"] = data.draw(st.sampled_from([1.0, 0.5, 2.0]))
    if kind != "margin":
        options["blanks"] = data.draw(st.booleans())
    if kind in ("gibbs", "tsallis", "renyi"):
        options["normalization"] = data.draw(st.sampled_from(["linear", "exponential"]))
    if kind in ("tsallis", "renyi"):
        options["alpha"] = data.draw(st.sampled_from([0.25, 0.5, 2.0]))
    text = ",".join(f"{name}={str(value).lower()}" for name, value in options.items())
    given = batch(seed)
    [got] = confidences(f"{kind}:{text}", given)
    want = reference.confidences(kind, given.posteriors[0], **options)
    assert got == pytest.approx(want, abs=2e-5)


def test_the_posterior_with_a_temperature() -> None:
    given = batch(7)
    [got] = confidences("posterior:temperature=2", given)
    assert got == pytest.approx(reference.confidences("posterior", given.posteriors[0], "max", 2.0), abs=1e-5)


@settings(max_examples=examples(20), deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_decoders_measures_equal_the_reference(seed: int) -> None:
    """Each token after the draft tokens before it, by ESPnet's own decoder without a cache."""
    given = batch(seed)
    want = reference.by_decoder(MODEL, given.states[0], given.posteriors[0])
    assert confidences("decoder", given)[0] == pytest.approx([p for p, _ in want], abs=1e-4)
    assert confidences("decoder:power=0.5", given)[0] == pytest.approx([math.sqrt(p) for p, _ in want], abs=1e-4)
    assert confidences("rank", given)[0] == pytest.approx([1 / (1 + n) for _, n in want])
    posterior, decoder = (confidences(m, given)[0] for m in ("posterior", "decoder"))
    both = [math.sqrt(a * b) for a, b in zip(posterior, decoder, strict=True)]
    assert confidences("product", given)[0] == pytest.approx(both, abs=1e-4)
    odds = [0.3 + 0.7 * _log_odds(a) - 0.2 * _log_odds(b) for a, b in zip(posterior, decoder, strict=True)]
    learned = confidences("learned:of=posterior+decoder,weights=0.7+-0.2,bias=0.3", given)[0]
    assert learned == pytest.approx([1 / (1 + math.exp(-x)) for x in odds], abs=1e-4)


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))


@pytest.mark.parametrize("name", measure_names())
def test_from_no_idea_to_certain(name: str) -> None:
    """A one-hot frame has the confidence 1; a uniform one the least that the measure can give."""
    log_probs = torch.full((1, 3, 21), -40.0)
    log_probs[0, [0, 2], 0] = 0.0
    log_probs[0, 1, 5] = 0.0
    given = encoded(MODEL, torch.randn(1, 3, 32), torch.tensor([3]), log_probs.log_softmax(-1))
    if not find_measure(name).reads_decoder:
        assert confidences(name, given) == [pytest.approx((1.0,), abs=1e-4)]
    flat = torch.zeros(1, 3, 21)
    flat[0, :, 5] = 1e-4
    [[least]] = confidences(name, dataclasses.replace(given, ctc_log_probs=flat.log_softmax(-1)))
    assert 0.0 <= least < (1.0 if find_measure(name).reads_decoder else 0.06)


def test_the_default_is_the_drafts_own_confidence() -> None:
    """To the bit, and so are PAR's results; only the passes are counted otherwise where the decoder is asked."""
    given = batch(5, 4, 20)
    assert confidences("posterior:temperature=1.0", given) == confidences("posterior", given)
    default, named = (
        PAR(threshold=0.8, measure=m).decode(MODEL, given) for m in ("posterior", "posterior:temperature=1")
    )
    assert default == named


@pytest.mark.parametrize("measure", FEW)
@pytest.mark.parametrize("policy", ["threshold", "budget:share=0.3+context+gaps:below=0.8"])
def test_neighbours_change_nothing(measure: str, policy: str) -> None:
    """A batch in any order and any ``max_mask_parallel`` gives what each utterance gives alone."""
    options = PAR(threshold=0.7, beam_size=3, measure=measure, policy=policy)
    for seed in range(3):
        given = batch(seed, 4, 16)
        for decoder in (options, Greedy(measure)):
            _same_alone(decoder, given)
        some = dataclasses.replace(options, max_mask_parallel=2)
        assert [h.tokens for h in some.decode(MODEL, given)] == [h.tokens for h in options.decode(MODEL, given)]


def _same_alone(decoder: Decoder, given: Encoded) -> None:
    together = decoder.decode(MODEL, given.select([2, 0, 3, 1]))
    for hypothesis, i in zip(together, [2, 0, 3, 1], strict=True):
        n = int(given.frames[i])
        states, log_probs = given.states[i : i + 1, :n], given.posteriors[i : i + 1, :n]
        [single] = decoder.decode(MODEL, encoded(MODEL, states, given.frames[i : i + 1], log_probs))
        assert hypothesis.tokens == single.tokens
        assert hypothesis.token_confidence == pytest.approx(single.token_confidence, abs=1e-4)
        assert hypothesis.counts == single.counts


def test_the_pass_for_a_measure_is_the_searchs_own() -> None:
    """PAR by the decoder's probability makes one pass per utterance, also where nothing is masked."""
    given = batch(1, 3, 16)
    for threshold in (0.0, 0.5, 1.0):
        found = PAR(threshold=threshold, measure="decoder", beam_size=2).decode(MODEL, given)
        assert [h.counts["decoder_passes"] for h in found] == [1, 1, 1]


def test_without_a_token() -> None:
    """Silence: no measure has anything to say."""
    log_probs = torch.full((2, 5, 21), -9.0)
    log_probs[:, :, 0] = 0.0
    given = encoded(MODEL, torch.randn(2, 5, 32), torch.tensor([5, 3]), log_probs.log_softmax(-1))
    for name in measure_names():
        assert confidences(name, given) == [(), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gibs", "there is no measure 'gibs', expected one of decoder, gibbs, .*; did you mean 'gibbs'"),
        ("gibbs:alpha=1", "the measure 'gibbs' has no option 'alpha=1', expected option=value of"),
        ("tsallis:alpha=1", "alpha of the measure tsallis is 1, expected another number"),
        ("tsallis:alpha=x", "the option alpha of the measure tsallis is 'x', expected a number"),
        ("renyi:alpha=-1", r"alpha of the measure renyi is -1\.0, expected a number above 0"),
        ("mean:reduce=sum", "the option reduce of the measure mean is 'sum', expected one of mean, min, max"),
        ("gibbs:normalization=lin", "normalization of the measure gibbs is 'lin', expected linear or exponential"),
        ("product:of=product", "expected other measures than product"),
        ("learned:of=learned,weights=1", "expected other measures than learned"),
        ("learned:weights=1+2+3", "the measure learned has 3 weights .*, expected one for each of posterior"),
        ("learned:weights=1+x", "the measure learned has the weights '1\\+x' and the bias 0.0, expected numbers"),
        ("posterior:temperature=0", "temperature of the measure posterior is 0"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    for decoder in (PAR, Greedy):
        with pytest.raises(UserError, match=message):
            decoder(measure=text)


def test_what_par_keeps_has_the_measures_confidence() -> None:
    """Calibrated where a temperature is named; a fill has what the search gave it."""
    given, measure = batch(5, 4, 20), "posterior:temperature=2"
    sure = confidences(measure, given)
    threshold = statistics.median(itertools.chain(*sure))
    kept = []
    for h, own in zip(PAR(threshold, measure=measure).decode(MODEL, given), sure, strict=True):
        first = end = 0  # of the tokens after the last fill, in the result and in the draft
        for segment in (*h.segments, Segment(len(own), len(own), (), ())):
            count = segment.start - end
            assert h.token_confidence[first : first + count] == own[end : segment.start]
            kept += own[end : segment.start]
            first, end = first + count + len(segment.fill), segment.end
    assert len(kept) > 5 and min(kept) >= threshold
    assert set(kept).isdisjoint(itertools.chain(*confidences("posterior", given)))


def test_options_that_were_fitted_to_a_model(tmp_path: Path) -> None:
    """A file, named or by its folder, has the options; those that are written besides count more; it is read anew when it changes."""
    options: dict[str, dict[str, str | float]] = {
        "posterior": {"temperature": 2.0},
        "learned": {"of": "posterior+gibbs", "weights": "0.7+-0.2", "bias": 0.3},
    }
    path = tmp_path / FILE
    path.write_text(json.dumps({"version": VERSION, "measures": options}))
    given = batch(9)
    assert confidences(f"posterior:file={tmp_path}", given) == confidences("posterior:temperature=2", given)
    learned = "learned:of=posterior+gibbs,weights=0.7+-0.2,bias="
    assert confidences(f"learned:file={path}", given) == confidences(f"{learned}0.3", given)
    assert find_measure(f"learned:file={path},bias=1.5") == find_measure(f"{learned}1.5")
    path.write_text(json.dumps({"version": VERSION, "measures": {"posterior": {"temperature": 3.0}}}))
    assert find_measure(f"posterior:file={path}") == find_measure("posterior:temperature=3")
    with pytest.raises(UserError, match="has no options of the measure 'learned', expected one of posterior"):
        PAR(measure=f"learned:file={path}")


def write_fitted(path: Path, model: str) -> str:
    """A file with a temperature that was fitted to a model; the measure that reads it."""
    content = {"version": VERSION, "measures": {"posterior": {"temperature": 1.5}}, "fitted_on": {"model": model}}
    path.write_text(json.dumps(content))
    return f"posterior:file={path}"


@pytest.mark.parametrize("decoder", [Greedy, PAR, Gated, Refine])
def test_a_file_of_other_weights_is_refused(decoder: type[Decoder], tmp_path: Path) -> None:
    """By its hash, which is computed anew when the weights change; converted weights are those of no file."""
    model = tiny_model(5)
    own = write_fitted(tmp_path / "own.json", hash_model(model))
    other = write_fitted(tmp_path / "other.json", hash_model(MODEL))
    unknown = write_fitted(tmp_path / "unknown.json", "")
    cpu = torch.device("cpu")
    message = r"other.json was fitted to a model with the hash .{12}, but this model has .{12}, expected the same .* posterior:temperature=1.5"
    for measure in (own, unknown):
        decoder(measure=measure).prepare(model, cpu)  # type: ignore[call-arg]
    with pytest.raises(UserError, match=message):
        decoder(measure=other).prepare(model, cpu)  # type: ignore[call-arg]
    model.load_state_dict(MODEL.state_dict())
    decoder(measure=other).prepare(model, cpu)  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"own\.json was fitted to a model"):
        decoder(measure=own).prepare(model, cpu)  # type: ignore[call-arg]
    decoder(measure=own).prepare(model.to_device(cpu, torch.bfloat16), cpu)  # type: ignore[call-arg]


def test_a_file_is_read_and_weights_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[torch.nn.Module] = []

    def counted(model: torch.nn.Module) -> str:
        hashed.append(model)
        return hash_model(model)

    monkeypatch.setattr(fitted, "hash_model", counted)
    model = tiny_model(5)
    decoder = Greedy(write_fitted(tmp_path / FILE, hash_model(model)))
    read = fitted._read.cache_info().misses
    for seed in range(3):
        decoder.prepare(model, torch.device("cpu"))
        decoder.decode(MODEL, batch(seed))
    assert (len(hashed), fitted._read.cache_info().misses - read) == (1, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read \\(No such file or directory\\), expected the confidence.json that tune writes"),
        ("{", "cannot be read \\(it is none\\)"),
        ("[]", "cannot be read \\(it is none\\)"),
        ('{"version": 1, "measures": {"posterior": 2}}', "cannot be read \\(it is none\\)"),
        ('{"version": 2, "measures": {}}', "is of version 2, expected 1; make it anew with tune"),
        (
            '{"version": 1, "measures": {"posterior": {"heat": 2}}}',
            "has no option 'heat=2', expected option=value of temperature",
        ),
        ('{"version": 1, "measures": {"posterior": {"temperature": 0}}}', "temperature of the measure posterior is 0"),
    ],
)
def test_files_that_are_refused(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        PAR(measure=f"posterior:file={path}")
