"""ESPnet's ``decoder: whisper`` with a vocabulary of its own: equal to ESPnet's and transformers', stepped in rows, trained, taken over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from parlab.decode import PAR
from parlab.errors import UserError
from parlab.model.caches import RowLayout
from parlab.model.families.espnet_build import build_model
from parlab.model.families.openai.decoder import WhisperDecoder
from parlab.model.families.openai.taken_over import embeddings_of, take_over_decoder
from parlab.model.folder import read_model, write_model
from parlab.model.hybrid import HybridModel
from parlab.text.byte_bpe import ByteBPE
from parlab.text.targets import Targets
from parlab.text.tokenizer import Tokenizer
from tests.model.test_openai_encoder import whisper_config
from tests.models import decoded_as_alone, encoded
from tests.whisper import whisper_tokenizer

FRAMES = torch.tensor([40, 25, 8])


def config(**decoder_conf: Any) -> dict[str, Any]:
    return {**whisper_config(), "decoder": "whisper", "decoder_conf": {"whisper_model": "tiny.en", **decoder_conf}}


@pytest.fixture(scope="module")
def model() -> HybridModel:
    torch.manual_seed(0)
    return build_model(config()).eval()


@pytest.fixture(scope="module")
def vocabulary() -> ByteBPE:
    spec = whisper_tokenizer(multilingual=False)
    return ByteBPE(json.dumps(spec).encode(), 1 + max(token["id"] for token in spec["added_tokens"]))


def batch(vocab_size: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 40, 384, generator=generator), torch.randint(3, vocab_size, (3, 9), generator=generator)


def transformers_decoder(vocab_size: int) -> Any:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperDecoder as Original

    torch.manual_seed(2)
    sizes = {"d_model": 384, "decoder_layers": 4, "decoder_attention_heads": 6, "decoder_ffn_dim": 1536}
    original = Original(WhisperConfig(**sizes, vocab_size=vocab_size, pad_token_id=0)).eval()
    for parameter in original.parameters():  # transformers makes norms and biases of ones and zeros
        torch.nn.init.normal_(parameter, std=0.05)
    return original


def symbol(vocabulary: ByteBPE, name: str) -> int:
    return vocabulary.index[f"<|{name}|>"]


# ---- equal to others -----------------------------------------------------------------------------------


@torch.no_grad()
def test_equal_to_transformers(vocabulary: ByteBPE) -> None:
    """Every token of the new vocabulary is one of Whisper's here, so that the same scores must come."""
    plain = [i for i in range(len(vocabulary.raw)) if i not in vocabulary.special]
    known = [i for i in plain if vocabulary.ids_of(vocabulary.token_list[i].replace("\u2581", " ")) == [i]]
    tokens = ["<blank>", *(vocabulary.token_list[i] for i in known), "<sos/eos>"]
    source = transformers_decoder(len(vocabulary.raw))
    ours = WhisperDecoder(len(tokens), 384, whisper_model="tiny").eval()
    take_over_decoder(ours, source, tokens, vocabulary)
    states, text = batch(len(known))
    theirs = torch.tensor(known)[text - 1]
    hidden = source(input_ids=theirs, encoder_hidden_states=states).last_hidden_state
    expected = hidden @ source.embed_tokens.weight[known].T
    got, _ = ours(states, torch.full((3,), 40), text, torch.full((3,), 9))
    assert len(known) > 50
    torch.testing.assert_close(got[..., 1:-1], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_equal_to_espnet(model: HybridModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = pytest.importorskip("whisper", reason="openai-whisper is not installed, which ESPnet's decoder needs")
    sizes = whisper.model.ModelDimensions(80, 1500, 384, 6, 4, 51864, 448, 384, 6, 4)
    monkeypatch.setattr(whisper, "load_model", lambda *_, **__: whisper.model.Whisper(sizes))
    from espnet2.asr.decoder.whisper_decoder import OpenAIWhisperDecoder

    assert model.decoder is not None
    original = OpenAIWhisperDecoder(model.vocab_size, 384, whisper_model="tiny.en").eval()
    original.load_state_dict(model.decoder.state_dict())  # the same keys
    states, text = batch()
    for i, frames in enumerate(FRAMES.tolist()):
        arguments = (states[i : i + 1, :frames], FRAMES[i : i + 1], text[i : i + 1], torch.tensor([9]))
        torch.testing.assert_close(model.decoder(*arguments)[0], original(*arguments)[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_pass_and_steps_in_rows(model: HybridModel) -> None:
    assert model.decoder is not None
    states, text = batch()
    want, _ = model.decoder(states, FRAMES, text, torch.full((3,), 9))
    rows = model.rows
    cross = rows.cross_cache(states, FRAMES)
    hidden, prefix = rows.prefill(text, cross)
    torch.testing.assert_close(rows.logits(hidden), want, atol=1e-4, rtol=1e-4)
    owner, starts = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 4, 2, 3])
    layout, suffix = RowLayout.of(owner, starts, 3), None
    for step in range(4):
        got, suffix = rows.step(text[owner, starts + step], layout, cross, prefix, suffix)
        torch.testing.assert_close(got, hidden[owner, starts + step], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_an_utterance_is_decoded_the_same_in_any_batch(model: HybridModel) -> None:
    assert model.decoder is not None
    states, text = batch()
    together, _ = model.decoder(states, FRAMES, text, torch.full((3,), 9))
    for i, frames in enumerate(FRAMES.tolist()):
        alone, _ = model.decoder(states[i : i + 1, :frames], FRAMES[i : i + 1], text[i : i + 1], torch.tensor([9]))
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-4)


# ---- used ----------------------------------------------------------------------------------------------


def test_it_trains() -> None:
    network = build_model(config(dropout_rate=0.1)).train()
    targets = Targets(torch.tensor([[3, 4, 5], [6, 7, 8]]), torch.tensor([3, 2]))
    network.loss(torch.randn(2, 16000), torch.tensor([16000, 12000]), targets).total.backward()
    unused = {"decoder.decoders.positional_embedding"}  # beyond the fourth position
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(bool(p.grad.any()) for n, p in network.named_parameters() if p.grad is not None and n not in unused)


def test_read_back_from_its_folder_and_decoded(model: HybridModel, tmp_path: Path) -> None:
    write_model(model, Tokenizer(model.token_list, "char"), tmp_path)
    again, _ = read_model(tmp_path)
    assert isinstance(again.decoder, WhisperDecoder)
    states, _ = batch()
    given = encoded(model, states, FRAMES)
    options = PAR(threshold=1.0, beam_size=3)
    alone = decoded_as_alone(options, model, given, [2, 0, 1])
    assert [x.tokens for x in alone] == [options.decode(again, given)[i].tokens for i in (2, 0, 1)]


# ---- taken over ----------------------------------------------------------------------------------------


def test_embeddings_are_the_mean_of_those_that_spell_a_token(vocabulary: ByteBPE) -> None:
    known = torch.randn(len(vocabulary.raw), 8)
    tokens = ["<blank>", "\u2581THE", "XQ", "\u2581", "<sos/eos>"]
    rows = embeddings_of(tokens, known, vocabulary)
    the, letters = vocabulary.ids_of(" the"), vocabulary.ids_of("xq")
    assert len(the) >= 1 and len(letters) == 2
    torch.testing.assert_close(rows[1], known[the].mean(0))
    torch.testing.assert_close(rows[2], known[letters].mean(0))
    torch.testing.assert_close(rows[0], known.mean(0))
    ends = known[[symbol(vocabulary, "startoftranscript"), symbol(vocabulary, "endoftext")]]
    torch.testing.assert_close(rows[4], ends.mean(0))
    [blank] = embeddings_of(["<space>"], known, vocabulary)  # of characters
    torch.testing.assert_close(blank, known[vocabulary.ids_of(" ")].mean(0))
    mixed = embeddings_of([*tokens, "a"], known, vocabulary)  # of two cases: spelled as they stand
    torch.testing.assert_close(mixed[1], known[vocabulary.ids_of(" THE")].mean(0))


def test_bad_input_is_told(vocabulary: ByteBPE) -> None:
    with pytest.raises(UserError, match="of width 512, expected that of the encoder, whose width is 384"):
        build_model(config(whisper_model="base"))
    with pytest.raises(UserError, match="expected one of"):
        build_model(config(whisper_model="tinny"))
    with pytest.raises(UserError, match="load_origin_token_embedding, expected false"):
        build_model(config(load_origin_token_embedding=True))
    decoder = WhisperDecoder(20, 384, whisper_model="tiny")
    with pytest.raises(UserError, match="a text has 449 tokens, expected at most 448"):
        decoder(torch.zeros(1, 5, 384), torch.tensor([5]), torch.ones(1, 449, dtype=torch.long), torch.tensor([449]))
    with pytest.raises(UserError, match="another size than decoder_conf"):
        take_over_decoder(
            WhisperDecoder(20, 512, whisper_model="base"),
            transformers_decoder(len(vocabulary.raw)),
            ["a"] * 20,
            vocabulary,
        )
