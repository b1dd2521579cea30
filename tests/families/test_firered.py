"""FireRedASR-AED's folders: the numbers of its own classes, on weights by seed; what decodes without CTC; what is refused."""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.decode import DECODERS
from parlab.errors import UserError
from parlab.model.heads.folder import write_head
from parlab.model.heads.network import DraftHead, HeadOptions
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer
from tests.families.firered_models import SEEDS, cmvn, write_cmvn, write_firered
from tests.families.same import CPU, Code, check_batches, check_features, check_greedy, check_numbers, check_refused
from tests.families.weights import waves

Models = dict[str, tuple[Recognizer, dict[str, Any]]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    found = {}
    for name in SEEDS:
        folder = tmp_path_factory.mktemp("firered") / name
        golden = write_firered(folder, name, pieces=name == "aed")
        found[name] = Recognizer.read(folder, CPU), golden
    return found


@pytest.mark.parametrize("name", SEEDS)
def test_numbers_are_fireredasrs(name: str, models: Models) -> None:
    recognizer, golden = models[name]
    assert recognizer.model.family == "FireRed" and recognizer.model.ctc is None
    check_numbers(recognizer, golden)
    check_greedy(recognizer, golden)


def test_features_are_kaldi_native_fbanks(models: Models) -> None:
    recognizer, golden = models["aed"]
    check_features(recognizer, golden, atol=1e-3, rtol=0.0)


def test_the_decoder_that_needs_no_ctc(models: Models) -> None:
    """In any batch; those that draft say that there is no CTC head."""
    recognizer = models["aed"][0]
    check_batches(recognizer)
    encoded = recognizer.encode(waves())
    for name in ("greedy", "ctc_beam", "rescore", "par", "speculative"):
        with pytest.raises(UserError, match="has no CTC head"):
            recognizer.decode(DECODERS[name](), encoded)
    for beam_size in (2, 5):
        found = recognizer.decode(DECODERS["ar"](beam_size=beam_size, ctc_weight=0.0), encoded)
        assert all(h.tokens for h in found)


def test_a_draft_head_gives_it_drafts(models: Models, tmp_path: Path) -> None:
    """With a head that says something, ``greedy`` and ``par`` decode it too."""
    folder = tmp_path / "m"
    write_firered(folder, "aed")
    model = models["aed"][0].model
    torch.manual_seed(0)
    spelled = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if not models["aed"][0].tokenizer.unspellable(c)]
    letters = Tokenizer(["<blank>", "<space>", *spelled], "char")
    head = DraftHead(HeadOptions(width=16, heads=2, kernel=3, blocks=1), 32, len(letters.token_list)).eval()
    with torch.no_grad():
        head.output.weight.mul_(12.0)
    recognizer = Recognizer.read(folder, CPU, head=write_head(head, letters, model, tmp_path / "h", "A head"))
    encoded = recognizer.encode(waves())
    drafts = recognizer.decode(DECODERS["greedy"](), encoded)
    assert any(h.tokens for h in drafts)
    for h in recognizer.decode(DECODERS["par"](threshold=0.9), encoded):
        assert isinstance(recognizer.tokenizer.decode(h.tokens), str)


def test_text(models: Models) -> None:
    tokenizer = models["aed"][0].tokenizer
    assert tokenizer.decode(tokenizer.encode("the cat 你好 sat")) == "THE CAT你好 SAT"
    with pytest.raises(UserError, match="no sentencepiece model"):
        models["deep"][0].tokenizer.encode("the")
    assert models["deep"][0].tokenizer.decode([5, 6]) == "你好"


def test_too_short(models: Models) -> None:
    recognizer = models["aed"][0]
    assert int(recognizer.encode([0.1 * torch.randn(recognizer.model.min_samples)]).frames[0]) >= 1


def package(**changes: Any) -> Callable[[Path], None]:
    """Change arguments of the training, or entries of the package."""

    def change(folder: Path) -> None:
        file = folder / "model.pth.tar"
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(file, weights_only=True)
        for name, value in changes.items():
            if name in content:
                content[name] = value
            else:
                setattr(content["args"], name, value)
        torch.save(content, file)

    return change


class Spy(Namespace):
    """A Namespace by another name."""


def write_other_class(folder: Path) -> None:
    package(args=Spy())(folder)


REFUSED = {
    "weights with code": (lambda f: (f / "model.pth.tar").write_bytes(pickle.dumps(Code())), "wanted to run code"),
    "code beside the arguments": (package(lr=Code()), "wanted to run code"),
    "arguments of another class": (write_other_class, "wanted to run code"),
    "arguments that are a dict": (package(args={"idim": 80}), "holds no args"),
    "a state of other things": (package(model_state_dict={"a": 3}), "other things than tensors"),
    "a width that is none": (package(d_model="32"), "d_model is '32'"),
    "weights of another size": (package(n_layers_dec=1), "unexpected"),
    "a start that is no token": (package(sos_id=99), "the id 99"),
    "a dictionary of another size": (lambda f: (f / "dict.txt").write_text("a 0\n"), "has 1 tokens, but the model"),
    "no dictionary": (lambda f: (f / "dict.txt").unlink(), "cannot be read, expected a token a line"),
    "statistics that are none": (lambda f: (f / "cmvn.ark").write_bytes(b"\0BCM x"), "no statistics of 80 bands"),
    "statistics cut off": (
        lambda f: (f / "cmvn.ark").write_bytes((f / "cmvn.ark").read_bytes()[:100]),
        "no statistics",
    ),
    "statistics of another size": (lambda f: write_cmvn(f / "cmvn.ark", cmvn()[:, 1:]), "79 sums"),
    "two sentencepiece models": (
        lambda f: (f / "other.model").write_bytes(b"x"),
        "2 files for the sentencepiece model",
    ),
    "a sentencepiece model that is none": (lambda f: (f / "train_bpe1000.model").write_bytes(b"x"), "sentencepiece"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    write_firered(folder, "aed")
    check_refused(folder, *REFUSED[name])
    assert "code ran" not in capsys.readouterr().out
