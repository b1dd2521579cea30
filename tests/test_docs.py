"""The code of the documentation runs and does what its page says; the interfaces it lists exist."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import pkgutil
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from parlab.decode import AR, DECODERS, PAR, Greedy
from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.draft import greedy_draft
from parlab.decode.masking import mask_below
from parlab.decode.prefill import Prefill
from parlab.decode.segments import find_segments
from tests.models import encoded, random_posteriors, tiny_model

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


# ---- docs/new_decoder.md ------------------------------------------------------------------------


@pytest.fixture
def page() -> Iterator[dict[str, Any]]:
    """The names that ``new_decoder.md`` defines; ``DECODERS`` is as before afterwards."""
    known = dict(DECODERS)
    module = types.ModuleType("docs")  # dataclasses look their module up
    sys.modules["docs"] = module
    decoder, scorer = blocks("new_decoder.md")
    exec(compile(decoder + scorer, "new_decoder.md", "exec"), module.__dict__)
    yield module.__dict__
    DECODERS.clear()
    DECODERS.update(known)
    del sys.modules["docs"]


def test_the_decoder_of_the_page(page: dict[str, Any]) -> None:
    model = tiny_model(1, sharpness=6.0)
    states, frames = torch.randn(3, 20, 32), torch.tensor([20, 13, 4])
    batch = encoded(model, states, frames, random_posteriors(1, 3, 20, 21))
    greedy = DECODERS["greedy"]().decode(model, batch)
    same = DECODERS["agreement"](margin=2.0).decode(model, batch)
    assert [h.tokens for h in same] == [h.tokens for h in greedy]
    eager = DECODERS["agreement"](margin=-1.0).decode(model, batch)
    assert sum(h.counts["changed_tokens"] for h in eager) > 0
    for i, (h, draft) in enumerate(zip(eager, greedy, strict=True)):
        tokens = torch.tensor([[20, *draft.tokens]])
        size = torch.tensor([tokens.size(1)])
        logits, _ = model.decoder(states[i : i + 1, : frames[i]], frames[i : i + 1], tokens, size)
        for position, token in enumerate(h.tokens):
            logits[0, position, list(set(model.special.never) - {20})] = -1e9
            best = int(logits[0, position].argmax())
            assert token == (best if best != 20 else draft.tokens[position])


def test_the_scorer_of_the_page(page: dict[str, Any]) -> None:
    """A heavy penalty leaves no repeated token in the result."""
    model = tiny_model(3, sharpness=1.0)
    prefill = Prefill.of(model.rows, encoded(model, torch.randn(1, 20, 32), torch.tensor([20])))
    attention = prefill.scorer(torch.tensor([0]), prefill.prompt_lengths, 1.0)
    groups = Groups(torch.tensor([20]), torch.tensor([15]))
    options = BeamOptions(4, banned=(0, 20), force_all=True)
    found = beam_search([attention, page["Repetition"](1000.0)], groups, options)
    tokens = found.tokens[0, 0, : int(found.lengths[0, 0])].tolist()
    assert all(a != b for a, b in itertools.pairwise(tokens))


# ---- docs/par.md --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example() -> tuple[dict[str, Any], list[str]]:
    """The names that the example of ``par.md`` defines, and what its two blocks print."""
    names: dict[str, Any] = {}
    printed = []
    with contextlib.chdir(ROOT):
        for block in blocks("par.md"):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block, "par.md", "exec"), names)
            printed.append(out.getvalue())
    return names, printed


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_the_example_prints_what_the_page_says(example: tuple[dict[str, Any], list[str]]) -> None:
    """Words and whole numbers exactly; decimals within one unit of the last digit."""
    for got, want in zip(example[1], blocks("par.md", "text"), strict=True):
        assert re.sub(r" *-?\d+\.\d+", " #", got) == re.sub(r" *-?\d+\.\d+", " #", want)
        assert numbers(got) == pytest.approx(numbers(want), abs=0.0101)


def test_what_the_page_says_of_its_example(example: tuple[dict[str, Any], list[str]]) -> None:
    names, _ = example
    asr, batch = names["asr"], names["batch"]
    text = (DOCS / "par.md").read_text(encoding="utf-8")
    greedy, ar, ctc = (asr.decode(d, batch)[0] for d in (Greedy(), AR(), PAR(ctc_weight=1.0)))
    assert f"Greedy CTC has `{asr.named(greedy, 'x').text}`" in text
    assert asr.named(ar, "x").text == asr.named(names["found"], "x").text
    assert f"in {ar.counts['decoder_steps']} decoder steps" in text
    assert ctc.tokens == greedy.tokens  # CTC alone keeps its own tokens
    assert [s.fill == s.draft for s in names["found"].segments] == [True, False, False]


def test_the_picture_shows_the_example(example: tuple[dict[str, Any], list[str]]) -> None:
    """Every token, score and window that is printed is drawn."""
    tree = ElementTree.parse(DOCS / "par.svg")
    drawn = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    draft, scores = (block.splitlines() for block in blocks("par.md", "text"))
    for line in draft:
        token, confidence = line.split()[:2]
        assert token in drawn
        assert confidence in drawn or not line.endswith("masked")
    for number in numbers("\n".join(scores)):
        assert f"{number:.2f}".replace("-", "\u2212") in drawn
    for first, last in re.findall(r"^frames (\d+)-(\d+)", "\n".join(scores), re.MULTILINE):
        assert f"{first}\u2013{last}" in drawn


def test_windows_and_stops_of_hand_written_posteriors() -> None:
    """The algorithm's words, on five tokens: a b C D e, the capital ones unsure, a blank on every odd frame."""
    a, b, c, d, e, blank, eos = 1, 2, 3, 4, 5, 0, 6
    path = [(a, 0.99), (blank, 0.99), (b, 0.97), (b, 0.99), (blank, 0.99), (c, 0.6), (d, 0.8), (blank, 0.99), (e, 0.95)]
    log_probs = torch.full((1, len(path), 7), 1e-3)
    for t, (label, probability) in enumerate(path):
        log_probs[0, t, label] = probability
    draft = greedy_draft(log_probs.log(), torch.tensor([len(path)]), blank)
    assert draft.tokens.tolist() == [[a, b, c, d, e]]
    assert draft.confidence[0].tolist() == pytest.approx([0.99, 0.99, 0.6, 0.8, 0.95])  # the highest of each run
    segments = find_segments(draft, mask_below(draft, 0.9))
    assert (segments.start.tolist(), segments.end.tolist()) == ([2], [4])  # adjacent masks form one segment
    assert segments.stops(eos).tolist() == [e]
    assert (segments.first.tolist(), segments.last.tolist()) == ([4], [7])  # from run to run
    last = find_segments(draft, mask_below(draft, 0.96))
    assert last.stops(eos).tolist() == [eos]  # <eos> after the last token
    assert (last.start.tolist(), last.end.tolist(), last.last.tolist()) == ([2], [5], [8])


# ---- docs/architecture.md -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", [line for line in blocks("architecture.md")[0].splitlines() if line.startswith("parlab")]
)
def test_interfaces_exist(line: str) -> None:
    """``module.name(parameters) -> result`` with the parameters' names, or ``module.name``."""
    path, bracket, parameters = line.split(" #")[0].split(" ->")[0].strip().rstrip(")").partition("(")
    found = pkgutil.resolve_name(path)
    if bracket:
        own = [name for name in inspect.signature(found).parameters if name != "self"]
        assert [name.strip() for name in parameters.split(",")] == own


# ---- docs/dashboards.md -------------------------------------------------------------------------


def test_columns_of_dashboards() -> None:
    """The table of utterances and the summary of ``predict`` have the columns and keys that the page names."""
    code = (ROOT / "parlab" / "tracking" / "runs.py").read_text(encoding="utf-8")
    page = (DOCS / "dashboards.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| `predict`"))
    summary, _, table = row.partition("table `utterances`: ")
    columns = re.search(r'columns=\[("id".*?)\]', code)
    assert columns is not None
    named = [name for name in re.findall(r"`([^`]+)`", table) if "->" not in name]
    assert named == re.findall(r'"(\w+)"', columns.group(1))
    for key in re.findall(r"`(\w+)(?:/\*)?`", summary.split("summary: ")[1]):
        assert f'"{key}"' in code


# ---- docs/new_family.md -------------------------------------------------------------------------


def test_the_family_of_the_page(tmp_path: Path) -> None:
    """Its folder is recognised, every decoder decodes it, in any batch, and broken weights are refused."""
    import json

    import parlab
    from parlab.errors import UserError
    from parlab.model.families.layouts import LAYOUTS
    from tests.families.same import check_batches

    known = list(LAYOUTS)
    names: dict[str, Any] = {"__name__": "docs"}
    [code] = blocks("new_family.md")
    try:
        exec(compile(code, "new_family.md", "exec"), names)
        config = {"width": 16, "layers": 2, "bands": 20, "tokens": ["<blank>", "<unk>", *"abcdefg", "<sos/eos>"]}
        (tmp_path / "toy.json").write_text(json.dumps(config))
        torch.save({}, tmp_path / "toy.pt")
        with pytest.raises(UserError, match="keys missing") as caught:
            parlab.load(tmp_path)
        assert "toy.pt" in str(caught.value)
        torch.manual_seed(0)
        torch.save(toy_weights(names), tmp_path / "toy.pt")
        asr = parlab.load(tmp_path)
        assert asr.recognizer.model.family == "Toy"
        check_batches(asr.recognizer)
        config["width"] = "wide"
        (tmp_path / "toy.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match="sizes that are no whole numbers"):
            parlab.load(tmp_path)
    finally:
        LAYOUTS[:] = known


def toy_weights(names: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights under toy's names, of the sizes in ``test_the_family_of_the_page``."""
    options = names["AttentionOptions"](16, heads=4, positions=names["BY_DISTANCE"])
    speech = names["EncoderOptions"](options, 32, 2, names["ConvolutionOptions"](kernel=7))
    front = names["Conv2dSubsampling"](20, 16, 16, ((3, 2), (3, 2)))
    decoder = names["DecoderOptions"](10, names["AttentionOptions"](16, heads=4), 32, 2)
    encoder = names["Encoder"](front, speech).state_dict()
    found = {f"speech.{k}": v for k, v in encoder.items() if not k.startswith("embed.")}
    found |= {f"front.{k.removeprefix('embed.').removeprefix('conv.')}": v for k, v in encoder.items() if "embed" in k}
    found |= {f"text.{k}": v for k, v in names["Decoder"](decoder).state_dict().items()}
    ctc = names["CTCHead"](16, 10).state_dict()
    return found | {k.replace("ctc_lo", "ctc"): v for k, v in ctc.items()}
