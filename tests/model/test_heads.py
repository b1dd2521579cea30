"""Draft heads: the network, the folder, and the draft in the decoder's tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

import parlab
from parlab.cli import main
from parlab.decode import AR, PAR, Greedy
from parlab.decode.default import WITH_A_HEAD
from parlab.decode.draft import greedy_draft
from parlab.errors import UserError
from parlab.model.folder import read_model, write_model
from parlab.model.heads.folder import read_head, write_head
from parlab.model.heads.network import DraftHead, HeadOptions
from parlab.model.heads.reading import Reading
from parlab.recognition.recognizer import Recognizer
from parlab.text.spelling import Spelling
from parlab.text.tokenizer import Tokenizer
from tests.helpers import lines
from tests.models import LETTERS, s2t_tokenizer, tiny_model
from tests.whisper import write_whisper

CPU = torch.device("cpu")
SMALL = HeadOptions(width=16, heads=2, kernel=3, blocks=2)
CHARACTERS = Tokenizer(["<blank>", "<space>", *"abcdefghijklmnopqrstuvwxyz'"], "char")


def small_head(seed: int = 0, size: int = 32, options: HeadOptions = SMALL) -> DraftHead:
    torch.manual_seed(seed)
    head = DraftHead(options, size, len(CHARACTERS.token_list)).eval()
    with torch.no_grad():
        head.output.weight.mul_(12.0)  # says something
    return head


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper model ``w`` and its head ``h``."""
    folder = tmp_path_factory.mktemp("heads")
    write_whisper(folder / "w", seed=5)
    model, _ = read_model(folder / "w")
    write_head(small_head(), CHARACTERS, model, folder / "h", "# A head for tests\n\nIt was taught nothing.")
    return folder


def waves(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(9000 + 2000 * i, generator=generator) for i in range(count)]


@pytest.mark.parametrize("stack", [1, 2, 3])
def test_a_batch_changes_nothing(stack: int) -> None:
    head = small_head(options=HeadOptions(width=16, heads=2, kernel=5, stack=stack))
    states, frames = torch.randn(4, 31, 32), torch.tensor([31, 17, 1, 8])
    with torch.inference_mode():
        together, counts = head(states, frames)
        assert counts.tolist() == [-(-n // stack) for n in frames.tolist()]
        for i, n in enumerate(frames.tolist()):
            alone, count = head(states[i : i + 1, :n], frames[i : i + 1])
            torch.testing.assert_close(together[i, : counts[i]], alone[0], atol=1e-5, rtol=1e-5)
            assert count.tolist() == [counts[i]]


def test_a_folder_holds_the_head(work: Path) -> None:
    model, tokenizer = read_model(work / "w")
    head = read_head(work / "h", model, tokenizer)
    states, frames = torch.randn(2, 50, 32), torch.tensor([50, 50])
    with torch.inference_mode():
        rounded = small_head().half().float()  # the folder holds float16
        assert torch.equal(head.draft(Reading(states, frames)).log_probs, rounded(states, frames)[0])
    assert head.tokenizer.token_list == CHARACTERS.token_list
    assert {path.name for path in (work / "h").iterdir()} == {
        "head.yaml",
        "head.safetensors",
        "tokens.txt",
        "README.md",
    }


def test_the_model_stays_the_same_to_the_bit(work: Path) -> None:
    plain, with_head = Recognizer.read(work / "w", CPU), Recognizer.read(work / "w", CPU, head=work / "h")
    one, other = plain.encode(waves()), with_head.encode(waves())
    assert one.drafted is None
    assert other.drafted is not None
    assert torch.equal(one.states, other.states)
    decoder = AR(beam_size=3, ctc_weight=0.0)
    assert plain.decode(decoder, one) == with_head.decode(decoder, other)
    assert plain.model.state_dict().keys() == with_head.model.state_dict().keys()


def test_greedy_writes_the_draft_in_the_models_tokens(work: Path) -> None:
    recognizer = Recognizer.read(work / "w", CPU, head=work / "h")
    encoded = recognizer.encode(waves())
    drafted = encoded.drafted
    assert drafted is not None
    found = [recognizer.named(h, str(i)) for i, h in enumerate(recognizer.decode(Greedy(), encoded))]
    draft = greedy_draft(drafted.log_probs, drafted.frames, 0)
    for i, hypothesis in enumerate(found):
        n = int(draft.lengths[i])
        text = CHARACTERS.decode(draft.tokens[i, :n].tolist())
        assert hypothesis.text == " ".join(text.split())
        assert hypothesis.text == recognizer.tokenizer.decode(hypothesis.tokens)
        assert len(hypothesis.tokens) == len(hypothesis.token_confidence) == len(hypothesis.token_frames) > 0
        assert (
            min(hypothesis.token_confidence) == pytest.approx(min(draft.confidence[i, :n].tolist()), abs=1e-6)
            or " " in text
        )
        assert all(0 <= a <= b < 50 for a, b in hypothesis.token_frames)
        assert [a for a, _ in hypothesis.token_frames] == sorted(a for a, _ in hypothesis.token_frames)
        assert hypothesis.token_times[0][0] == pytest.approx(hypothesis.token_frames[0][0] * 0.02)
    alone = [recognizer.decode(Greedy(), encoded.select([i]))[0] for i in range(3)]
    assert [h.tokens for h in alone] == [h.tokens for h in found]


def test_words_in_other_tokens(work: Path, tmp_path: Path) -> None:
    """Characters and pieces, spelled as whole sentences are."""
    bytes_of = read_model(work / "w")[1]
    pieces = s2t_tokenizer(tmp_path)
    letters = Tokenizer(["<blank>", "<unk>", "<space>", *"abcdefghijklmnopqrstuvwxyz", "<sos/eos>"], "char")
    text = "the cat sat on the mat"
    for source in (CHARACTERS, pieces):
        for target in (bytes_of, pieces):
            words = Spelling(source, target).words(source.encode(text))
            assert [w.text for w in words] == text.split()
            assert [i for w in words for i in w.tokens] == target.encode(text)
            assert target.decode([i for w in words for i in w.tokens]) == text
    words = Spelling(pieces, letters).words(pieces.encode("a cat"))
    assert letters.decode([i for w in words for i in w.tokens]) == "a cat"
    space = CHARACTERS.index["<space>"]
    assert Spelling(CHARACTERS, bytes_of).words([space, space]) == []
    spans = [(w.start, w.end) for w in Spelling(CHARACTERS, bytes_of).words([space, 3, 4, space, 5])]
    assert spans == [(1, 3), (4, 5)]


def test_a_head_on_a_model_of_espnets(tmp_path: Path) -> None:
    """The head writes the draft of ``greedy`` in place of the model's CTC head."""
    net = tiny_model(4, sharpness=8.0)
    write_model(net, Tokenizer(net.token_list, "char"), tmp_path / "m")
    model, _ = read_model(tmp_path / "m")
    letters = Tokenizer(["<blank>", "<space>", *LETTERS], "char")
    torch.manual_seed(0)
    write_head(DraftHead(SMALL, 32, len(letters.token_list)), letters, model, tmp_path / "h", "A head")
    asr = parlab.load(tmp_path / "m", device="cpu", head=tmp_path / "h")
    audio = [wave.numpy() for wave in waves()]
    plain = parlab.load(tmp_path / "m", device="cpu")
    assert asr.transcribe(audio, decoder="ar") == plain.transcribe(audio, decoder="ar")
    assert asr.transcribe(audio, decoder="greedy")[0].tokens != plain.transcribe(audio, decoder="greedy")[0].tokens


def test_predict_with_a_head(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "d").mkdir()
    for i in range(3):
        soundfile.write(tmp_path / "d" / f"u{i}.wav", 0.2 * rng.standard_normal(8000 + 2000 * i), 16000)
    out = tmp_path / "p"
    asked = ["--model", str(work / "w"), "--head", str(work / "h"), "--data", str(tmp_path / "d"), "--wandb", "off"]
    asked += ["--progress", "false", "--decoder", "greedy", "--subtitles", "[srt]"]
    assert main(["predict", *asked, "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["config"]["head"]) == 64
    assert "-->" in (out / "transcripts" / "u0.srt").read_text()
    assert main(["rerun", str(out)]) == 0
    assert "text of all 3 utterances is the same" in capsys.readouterr().out
    asr = parlab.load(work / "w", device="cpu", head=work / "h")
    texts = [h.text for h in asr.transcribe([tmp_path / "d" / f"u{i}.wav" for i in range(3)], decoder="greedy")]
    assert [r["text"] for r in lines(out)] == texts


def test_sweep_and_transcribe_with_a_head(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "d").mkdir()
    for i in range(3):
        soundfile.write(tmp_path / "d" / f"u{i}.wav", 0.2 * rng.standard_normal(8000 + 2000 * i), 16000)
    files = [str(tmp_path / "d" / f"u{i}.wav") for i in range(3)]
    asr = parlab.load(work / "w", device="cpu", head=work / "h")
    texts = [h.text for h in asr.transcribe(files, decoder="greedy")]
    with_head = ["--model", str(work / "w"), "--head", str(work / "h"), "--decoder", "greedy"]
    out = tmp_path / "s"
    asked = ["--data", str(tmp_path / "d"), "--out", str(out), "--wandb", "off", "--timed_utterances", "0"]
    assert main(["sweep", *with_head, *asked]) == 0
    [point] = (out / "points").iterdir()
    assert [r["text"] for r in lines(point)] == texts
    assert len(json.loads((point / "metrics.json").read_text())["config"]["head"]) == 64
    capsys.readouterr()
    assert main(["transcribe", files[0], *with_head]) == 0
    assert capsys.readouterr().out.strip() == texts[0]


def test_par_by_its_name_has_what_is_usual_with_a_head(work: Path, tmp_path: Path) -> None:
    """In ``predict``, ``sweep`` and Python alike; options that are given count, and a reference is itself."""
    rng = np.random.default_rng(0)
    (tmp_path / "d").mkdir()
    soundfile.write(tmp_path / "d" / "u.wav", 0.2 * rng.standard_normal(9000), 16000)
    asked = ["--model", str(work / "w"), "--data", str(tmp_path / "d"), "--wandb", "off", "--decoder", "par"]
    head = ["--head", str(work / "h")]

    def options(name: str, *more: str) -> dict[str, Any]:
        assert main(["predict", *asked, "--progress", "false", "--out", str(tmp_path / name), *more]) == 0
        found: dict[str, Any] = json.loads((tmp_path / name / "metrics.json").read_text())["decoder"]["options"]
        return found

    usual = asdict(WITH_A_HEAD)
    assert options("p", *head) == usual
    assert options("q", *head, "--decoder.threshold", "0.9") == {**usual, "threshold": 0.9}
    assert options("r", *head, "--decoder.reference", "espnet") == asdict(PAR.espnet())
    timed = ["--timed_utterances", "0", "--out", str(tmp_path / "s")]
    assert main(["sweep", *asked, *head, *timed, "--decoder.beam_size", "2"]) == 0
    [point] = (tmp_path / "s" / "points").iterdir()
    assert json.loads((point / "metrics.json").read_text())["decoder"]["options"] == {**usual, "beam_size": 2}
    asr = parlab.load(work / "w", device="cpu", head=work / "h")
    audio = [tmp_path / "d" / "u.wav"]
    by_name, by_default = asr.transcribe(audio, decoder="par"), asr.transcribe(audio)
    assert by_name == by_default
    assert by_name[0].text == lines(tmp_path / "p")[0]["text"]


def test_the_weights_are_hashed_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a head computes the hash that a prediction records."""
    wanted = Recognizer.read(work / "w", CPU).model_hash()
    monkeypatch.setattr("parlab.recognition.recognizer.hash_model", None)
    assert Recognizer.read(work / "w", CPU, head=work / "h").model_hash() == wanted


def test_an_empty_draft_has_no_words(work: Path) -> None:
    assert Spelling(CHARACTERS, read_model(work / "w")[1]).words([]) == []


def _yaml(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = yaml.safe_load((folder / "head.yaml").read_text())
        (folder / "head.yaml").write_text(yaml.safe_dump({**config, **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "head.yaml").unlink(), "no draft head at"),
        (lambda f: (f / "head.yaml").write_text("[1]"), "holds no mapping"),
        (lambda f: (f / "tokens.txt").unlink(), "vocabulary .* cannot be read"),
        (lambda f: (f / "tokens.txt").write_text("a\nb\n"), "begins with 'a'"),
        (lambda f: (f / "tokens.txt").write_text("<blank>\na\n"), "do not fit"),
        (lambda f: (f / "head.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "head.safetensors").write_bytes(b"x"), "cannot be read"),
        (_yaml(model_hash="0" * 64), "belongs to another model"),
        (_yaml(states_size="wide"), "states_size is 'wide'"),
        (_yaml(network=3), "network is 3"),
        (_yaml(network={"widht": 16}), "did you mean 'width'"),
        (_yaml(network={"width": 15}), "that the heads divide"),
        (_yaml(network={"kernel": "big"}), "kernel is 'big'"),
        (_yaml(network={"width": 32, "heads": 2}), "do not fit"),
    ],
)
def test_a_broken_head(change: Callable[[Path], Any], message: str, work: Path, tmp_path: Path) -> None:
    model, tokenizer = read_model(work / "w")
    write_head(small_head(), CHARACTERS, model, tmp_path / "h", "A head")
    change(tmp_path / "h")
    with pytest.raises(UserError, match=message):
        read_head(tmp_path / "h", model, tokenizer)
