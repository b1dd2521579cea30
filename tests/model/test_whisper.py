"""Whisper folders: the same encoder, decoder and searches as transformers' own classes, on tiny random models."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import parlab
from parlab.decode import DECODERS
from parlab.errors import UserError
from parlab.model.caches import RowLayout
from parlab.model.folder import read_model, write_model
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from tests.whisper import features, generated, whisper_tokenizer, write_whisper

CPU = torch.device("cpu")
VARIANTS = [(True, 80), (False, 80), (True, 128), (False, 128)]
GENERATED = ["ar", "greedy", "ctc_beam", "rescore", "par", "speculative"]


def waves(count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    sizes = [16000, 9000, 4000, 12000, 7777, 3333][:count]
    return [0.1 * torch.randn(n, generator=generator) * torch.linspace(0, 1, n) for n in sizes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual model of 80 bands that ends some of its texts."""
    path = tmp_path_factory.mktemp("whisper") / "m"
    write_whisper(path, seed=5)
    return path


@pytest.fixture(scope="module")
def asr(folder: Path) -> Recognizer:
    return Recognizer.read(folder, CPU)


def ar(beam_size: int = 1, **options: Any) -> Any:
    return DECODERS["ar"](beam_size=beam_size, ctc_weight=0.0, **options)


@pytest.mark.parametrize(("multilingual", "bands"), VARIANTS)
def test_encoder_and_decoder_are_transformers_own(multilingual: bool, bands: int, tmp_path: Path) -> None:
    theirs = write_whisper(tmp_path, multilingual, bands)
    ours, _ = read_model(tmp_path)
    audio = waves()
    lengths = torch.tensor([len(w) for w in audio])
    with torch.inference_mode():
        want = theirs.model.encoder(features(tmp_path, audio)).last_hidden_state
        states, frames = ours.encode(torch.nn.utils.rnn.pad_sequence(audio, batch_first=True), lengths)
        torch.testing.assert_close(states, want, atol=1e-4, rtol=1e-4)
        assert frames.tolist() == [50] * 4
        tokens = torch.randint(0, ours.vocab_size, (4, 9), generator=torch.Generator().manual_seed(0))
        logits = theirs(encoder_outputs=(want,), decoder_input_ids=tokens).logits
        cross = ours.rows.cross_cache(want, frames)
        hidden, prefix = ours.rows.prefill(tokens[:, :5], cross)
        torch.testing.assert_close(ours.rows.logits(hidden), logits[:, :5], atol=1e-4, rtol=1e-4)
        layout, suffix = RowLayout.of(torch.arange(4), torch.full((4,), 5), 4), None
        for i in range(5, 9):  # the rest, a step at a time
            hidden, suffix = ours.rows.step(tokens[:, i], layout, cross, prefix, suffix)
            torch.testing.assert_close(ours.rows.logits(hidden), logits[:, i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(
    ("multilingual", "bands", "seed"), [(True, 80, 1), (False, 80, 2), (True, 128, 3), (False, 128, 1)]
)
def test_searches_are_transformers_own(timed: bool, multilingual: bool, bands: int, seed: int, tmp_path: Path) -> None:
    """Greedy and beam search, token for token, in a batch, with suppressed tokens and the rules of times."""
    theirs = write_whisper(tmp_path, multilingual, bands, seed)
    recognizer = Recognizer.read(tmp_path, CPU)
    options = PromptOptions(language="fr" if multilingual else None, timestamps=timed)
    encoded = recognizer.asked(options).encode(waves())
    x = features(tmp_path, waves())
    lengths = set()
    for beam_size in (1, 2, 5):
        found = recognizer.decode(ar(beam_size), encoded)
        want = [generated(theirs, x[i : i + 1], encoded.prompts[i], beam_size, timed) for i in range(4)]
        assert [list(h.tokens) for h in found] == want
        lengths |= {len(tokens) for tokens in want}
    assert len(lengths) > 1  # some texts ended by themselves, some at the limit


def test_generate_as_users_call_it(tmp_path: Path) -> None:
    """The whole of transformers' ``generate``: detected language, task, prompt."""
    times = list(range(301, 352))  # generate would cut a text at them
    theirs = write_whisper(tmp_path, seed=5, suppress_tokens=times, no_speech_threshold=None)
    recognizer = Recognizer.read(tmp_path, CPU)
    x = features(tmp_path, waves())
    tokenizer = recognizer.tokenizer
    asked = [
        (PromptOptions(), {"task": "transcribe"}),
        (PromptOptions(language="auto", task="translate"), {"task": "translate"}),
        (PromptOptions(language="German"), {"language": "german"}),
        (PromptOptions(language="<|de|>", task="st_eng"), {"language": "de", "task": "translate"}),
        (
            PromptOptions(language="en", text_prompt="the cat "),
            {
                "language": "en",
                "prompt_ids": torch.tensor([tokenizer.index["<|startofprev|>"], *tokenizer.encode("the cat")]),
            },
        ),
    ]
    for options, named in asked:
        encoded = recognizer.asked(options).encode(waves())
        for beam_size in (1, 3):
            found = recognizer.decode(ar(beam_size), encoded)
            for i, hypothesis in enumerate(found):
                want = theirs.generate(x[i : i + 1], num_beams=beam_size, **named)[0].tolist()
                if "prompt_ids" in named and want[: len(named["prompt_ids"])] == named["prompt_ids"].tolist():
                    want = want[len(named["prompt_ids"]) :]
                assert list(hypothesis.tokens) == want, (options, beam_size, i)


def test_a_batch_changes_nothing(asr: Recognizer) -> None:
    audio = waves(6)
    together = asr.encode(audio)
    for beam_size in (1, 4):
        found = asr.decode(ar(beam_size), together)
        back = asr.decode(ar(beam_size), asr.encode(audio[::-1]))[::-1]
        alone = [asr.decode(ar(beam_size), asr.encode([wave]))[0] for wave in audio]
        assert [h.tokens for h in found] == [h.tokens for h in alone] == [h.tokens for h in back]
        assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-3)


def test_mixed_prompts_in_a_batch(asr: Recognizer) -> None:
    """Utterances of other languages, and prompts of other lengths, side by side."""
    from dataclasses import replace

    encoded = asr.encode(waves())
    symbols = asr.model.s2t
    assert symbols is not None
    prompts = [symbols.prompt("en"), symbols.prompt("de", timestamps=True), symbols.prompt("fr", previous=(40, 41, 42))]
    prompts.append(symbols.prompt("en", timestamps=True))
    together = asr.decode(ar(3), replace(encoded, prompts=tuple(prompts)))
    alone = [asr.decode(ar(3), replace(encoded.select([i]), prompts=(p,)))[0] for i, p in enumerate(prompts)]
    assert [h.tokens for h in together] == [h.tokens for h in alone]


def test_the_language_is_the_decoders(folder: Path, asr: Recognizer, tmp_path: Path) -> None:
    theirs = write_whisper(tmp_path, seed=5)
    want = theirs.detect_language(features(folder, waves()))
    for language in (None, "auto"):
        encoded = asr.asked(PromptOptions(language=language)).encode(waves())
        assert [prompt[1] for prompt in encoded.prompts] == want.tolist()
    told = Recognizer.read(tmp_path, CPU).asked(PromptOptions(language="de")).encode(waves())
    assert {prompt[1] for prompt in told.prompts} == {asr.tokenizer.index["<|de|>"]}


def test_a_language_of_the_folder_is_the_default(tmp_path: Path) -> None:
    """Fine-tuned models name theirs in ``generation_config.json``, in one way or another."""
    write_whisper(tmp_path)
    german = read_model(tmp_path)[1].index["<|de|>"]
    options = json.loads((tmp_path / "generation_config.json").read_text())
    for more in ({"language": "german"}, {"language": "<|de|>"}, {"forced_decoder_ids": [[1, german], [2, 297]]}):
        (tmp_path / "generation_config.json").write_text(json.dumps(options | more))
        assert Recognizer.read(tmp_path, CPU).encode(waves(1)).prompts[0][1] == german
    (tmp_path / "generation_config.json").write_text(
        json.dumps(options | {"forced_decoder_ids": [[1, None], [2, 297]]})
    )
    model, _ = read_model(tmp_path)
    assert model.s2t is not None
    assert model.s2t.detects


def test_an_english_only_prompt(tmp_path: Path) -> None:
    write_whisper(tmp_path, multilingual=False)
    recognizer = Recognizer.read(tmp_path, CPU)
    index = recognizer.tokenizer.index
    assert recognizer.encode(waves(1)).prompts == ((index["<|startoftranscript|>"], index["<|notimestamps|>"]),)
    for options, message in (
        (PromptOptions(language="en"), "no language 'en'"),
        (PromptOptions(language="auto"), "no language symbols"),
        (PromptOptions(task="translate"), "no task 'translate'"),
    ):
        with pytest.raises(UserError, match=message):
            recognizer.asked(options).encode(waves(1))


def test_a_long_text_prompt_keeps_its_end(asr: Recognizer) -> None:
    encoded = asr.asked(PromptOptions(language="en", text_prompt="the cat sat on the mat " * 9)).encode(waves(1))
    before = encoded.prompts[0][: encoded.prompts[0].index(asr.model.special.sos)]
    assert len(before) == 20  # <|startofprev|> and half of the 40 positions less one
    assert before[1:] == tuple(asr.tokenizer.encode("the cat sat on the mat " * 9))[-19:]
    [hypothesis] = asr.decode(ar(2), encoded)
    assert len(hypothesis.tokens) <= 40 - len(encoded.prompts[0])


def test_times_are_read_in_pairs(folder: Path) -> None:
    recognizer = Recognizer.read(folder, CPU).asked(PromptOptions(language="en", timestamps=True))
    found = recognizer.decode(ar(), recognizer.encode(waves(6)))
    named = [recognizer.named(h, str(i)) for i, h in enumerate(found)]
    assert all(h.tokens[0] >= 301 for h in named)
    assert all("<|" not in h.text for h in named)
    assert any(h.times for h in named)
    assert all(0.0 <= start <= end <= 1.0 for h in named for start, end, _ in h.times)


@pytest.mark.parametrize("name", [n for n in GENERATED if n != "ar"])
def test_decoders_that_need_ctc_say_so(name: str, asr: Recognizer) -> None:
    with pytest.raises(UserError, match=r"no CTC head.*decode it with ar and ctc_weight 0"):
        asr.decode(DECODERS[name](), asr.encode(waves(1)))
    with pytest.raises(UserError, match="no CTC head"):
        asr.decode(DECODERS["ar"](), asr.encode(waves(1)))


def test_python_without_a_decoders_name(folder: Path) -> None:
    model = parlab.load(folder, device="cpu")
    audio = [wave.numpy() for wave in waves()]
    plain = model.transcribe(audio, language="en")
    assert [h.tokens for h in plain] == [
        h.tokens for h in model.transcribe(audio, decoder="ar", ctc_weight=0.0, language="en")
    ]
    assert len(model.transcribe(audio, language="en", nbest=3, beam_size=3)[0].nbest) == 3
    with pytest.raises(UserError, match=r"1 s of this model's window; use transcribe_long"):
        model.transcribe(np.zeros(16000 * 2, dtype=np.float32) + 0.01)
    pieces = model.transcribe_long((np.concatenate(audio), 16000), language="en")
    assert len(pieces) > 2


def test_float16_files_are_read_into_float32(tmp_path: Path) -> None:
    theirs = write_whisper(tmp_path, half=True, seed=5)
    recognizer = Recognizer.read(tmp_path, CPU)
    assert {p.dtype for p in recognizer.model.parameters()} == {torch.float32}
    encoded = recognizer.asked(PromptOptions(language="en")).encode(waves(2))
    want = generated(theirs, features(tmp_path, waves(2))[:1], encoded.prompts[0], 2, False)
    assert list(recognizer.decode(ar(2), encoded)[0].tokens) == want


def test_every_layout_of_files_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    """torch's format, shards, an untied output, and the older tokenizer files."""
    from safetensors.torch import load_file, save_file

    theirs = write_whisper(tmp_path / "m", seed=5)
    want, tokenizer = read_model(folder)
    state = load_file(tmp_path / "m" / "model.safetensors")
    first = dict(list(state.items())[::2])
    layouts = {
        "torch": lambda p: torch.save(theirs.state_dict(), p / "pytorch_model.bin"),
        "shards": lambda p: (
            save_file(first, p / "a.safetensors"),
            save_file({k: v for k, v in state.items() if k not in first}, p / "b.safetensors"),
            (p / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {k: "a.safetensors" if k in first else "b.safetensors" for k in state}})
            ),
        ),
    }
    spec = whisper_tokenizer()
    added = {t["content"]: t["id"] for t in spec["added_tokens"]}
    for name, write in layouts.items():
        other = tmp_path / name
        other.mkdir()
        for file in ("config.json", "generation_config.json", "preprocessor_config.json"):
            (other / file).write_bytes((folder / file).read_bytes())
        (other / "vocab.json").write_text(json.dumps(spec["model"]["vocab"]))
        merges = [" ".join(m) if isinstance(m, list) else m for m in spec["model"]["merges"]]
        (other / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
        (other / "added_tokens.json").write_text(json.dumps(added))
        write(other)
        got, spelled = read_model(other)
        assert all(
            torch.equal(a, b) for a, b in zip(want.state_dict().values(), got.state_dict().values(), strict=True)
        )
        assert spelled.token_list == tokenizer.token_list
        assert spelled.encode("the cat, é 猫") == tokenizer.encode("the cat, é 猫")
        assert got.special == want.special
        assert got.s2t == want.s2t


def test_a_processor_config_of_transformers_5(tmp_path: Path) -> None:
    write_whisper(tmp_path, bands=128)
    entries = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": entries}))
    assert read_model(tmp_path)[0].encode(waves(1)[0][None], torch.tensor([16000]))[0].shape == (1, 50, 32)


def test_a_folder_without_generation_config(tmp_path: Path) -> None:
    """Its suppressed tokens stand in ``config.json``; without any, symbols are never written."""
    write_whisper(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"suppress_tokens": [5], "begin_suppress_tokens": [6]}))
    model, _ = read_model(tmp_path)
    assert model.s2t is not None
    assert model.s2t.rules is not None
    assert (model.s2t.rules.suppressed, model.s2t.rules.begin_suppressed) == ((5,), (6,))
    assert model.s2t.languages == {}  # OpenAI's rule: such a small vocabulary is English alone
    (tmp_path / "config.json").write_text(json.dumps(config | {"suppress_tokens": None}))
    model, tokenizer = read_model(tmp_path)
    names = {tokenizer.token_list[i] for i in model.special.never}
    assert {"<|startoftranscript|>", "<|en|>", "<|notimestamps|>"} <= names
    assert not {"<|endoftext|>", "<|0.00|>"} & names


def test_nothing_is_trained_or_written(asr: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not written in ESPnet's format"):
        write_model(asr.model, asr.tokenizer, tmp_path / "x")
    with pytest.raises(UserError, match="not trained here"):
        asr.model.loss(torch.zeros(1, 16000), torch.tensor([16000]), None)  # type: ignore[arg-type]


def test_the_tokenizer_spells_everything(asr: Recognizer) -> None:
    tokenizer = pickle.loads(pickle.dumps(asr.tokenizer))
    for text in ("the cat sat", "naïve, 猫 и 🙂", "a  b"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.unspellable(text) == set()
    assert tokenizer.encode("the") == tokenizer.encode(" the ")
    assert tokenizer.pieces("the cat")[0].startswith("\u2581")
    assert tokenizer.decode([*tokenizer.encode("cat"), tokenizer.index["<|0.00|>"], tokenizer.index["<|en|>"]]) == "cat"
    assert tokenizer.decode(tokenizer.encode("猫")[:-1]).endswith("\ufffd")
    assert len(tokenizer.token_list) == asr.model.vocab_size


def test_an_output_that_is_not_tied(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import WhisperForConditionalGeneration

    write_whisper(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    own = torch.randn(state["model.decoder.embed_tokens.weight"].shape, generator=torch.Generator().manual_seed(0))
    save_file({**state, "proj_out.weight": own}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours, _ = read_model(tmp_path)
    states, tokens = torch.randn(2, 50, 32), torch.randint(0, 300, (2, 6))
    with torch.inference_mode():
        hidden, _ = ours.rows.prefill(tokens, ours.rows.cross_cache(states, torch.tensor([50, 50])))
        want = theirs(encoder_outputs=(states,), decoder_input_ids=tokens).logits
        torch.testing.assert_close(ours.rows.logits(hidden), want, atol=1e-4, rtol=1e-4)
    assert torch.equal(ours.rows.output.weight, own)


def test_bfloat16(folder: Path) -> None:
    recognizer = Recognizer.read(folder, CPU, torch.bfloat16)
    encoded = recognizer.asked(PromptOptions(language="en")).encode(waves(2))
    assert encoded.states.dtype == torch.bfloat16
    for timed in (False, True):
        asked = recognizer.asked(PromptOptions(language="en", timestamps=timed)).encode(waves(2))
        assert all(h.tokens and -1e4 < h.score < 0 for h in recognizer.decode(ar(3), asked))
