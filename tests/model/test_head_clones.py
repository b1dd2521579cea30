"""Heads that read inside the encoder: clones of its top blocks, and several layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parlab.decode import AR
from parlab.errors import UserError
from parlab.model.families.espnet_build import build_model
from parlab.model.folder import read_model
from parlab.model.heads.folder import read_head, write_head
from parlab.model.heads.making import clone_from, make_head
from parlab.model.heads.network import HeadOptions
from parlab.model.heads.reading import Speech, blocks_of, encode_and_read, read_only
from parlab.model.hybrid import HybridModel
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer
from tests.model.test_openai_decoder import config as openai_config
from tests.models import tiny_model
from tests.whisper import write_whisper

CPU = torch.device("cpu")
CHARACTERS = Tokenizer(["<blank>", "<space>", *"abcdefghijklmnopqrstuvwxyz'"], "char")


def options(clones: int = 0, layers: tuple[int, ...] = ()) -> HeadOptions:
    return HeadOptions(width=16, heads=2, kernel=3, blocks=1, clones=clones, layers=layers)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clones") / "w"
    write_whisper(folder, seed=5)
    return folder


def speech(lengths: tuple[int, ...] = (9000, 16000, 3000)) -> Speech:
    generator = torch.Generator().manual_seed(1)
    waves = 0.1 * torch.randn(len(lengths), max(lengths), generator=generator)
    return Speech(waves, torch.tensor(lengths))


def alone(given: Speech, i: int) -> Speech:
    n = int(given.lengths[i])
    return Speech(given.waves[i : i + 1, :n], given.lengths[i : i + 1])


@pytest.mark.parametrize("clones", [1, 2])
def test_clones_start_as_the_encoders_blocks(whisper: Path, clones: int) -> None:
    """On a full window the clones, and the norm after them, give what the encoder gives."""
    model, _ = read_model(whisper)
    head = make_head(options(clones), model, 28).eval()
    with torch.inference_mode():
        states, _, read = encode_and_read(model, speech((16000,)), head.options.reads(2))
        x = read.states
        for clone in head.clones:
            x = clone(x, torch.zeros(1, 50, dtype=torch.bool))
        torch.testing.assert_close(head.enter_norm(x), states, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("clones", "layers"), [(2, ()), (1, (0, 1)), (0, (1, 2)), (0, ())])
def test_a_batch_and_silence_change_nothing(whisper: Path, clones: int, layers: tuple[int, ...]) -> None:
    """The head sees an utterance's own frames alone, the same for any neighbours."""
    model, _ = read_model(whisper)
    head, given = make_head(options(clones, layers), model, 28).eval(), speech()
    layers = head.options.reads(2)
    with torch.inference_mode():
        states, frames, read = encode_and_read(model, given, layers)
        assert read.frames.tolist() == [29, 50, 10]
        assert frames.tolist() == [50, 50, 50]
        assert torch.equal(states, model.encode(given.waves, given.lengths)[0])
        log_probs, counts = head(read.states, read.frames)
        assert counts.tolist() == [15, 25, 5]
        torch.testing.assert_close(read_only(model, given, layers).states, read.states, atol=1e-6, rtol=1e-6)
        for i in range(3):
            _, _, own = encode_and_read(model, alone(given, i), layers)
            assert own.states.size(1) == own.frames[0] == read.frames[i]
            found, _ = head(own.states, own.frames)
            torch.testing.assert_close(log_probs[i, : counts[i]], found[0], atol=1e-5, rtol=1e-5)


def test_the_attention_model_stays_the_same_to_the_bit(whisper: Path, tmp_path: Path) -> None:
    model, _ = read_model(whisper)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    made = make_head(options(2), model, len(CHARACTERS.token_list))
    with torch.no_grad():
        for parameter in made.parameters():  # taught something else
            parameter.add_(0.1 * torch.randn_like(parameter))
    write_head(made, CHARACTERS, model, tmp_path / "h", "A head")
    plain, with_head = Recognizer.read(whisper, CPU), Recognizer.read(whisper, CPU, head=tmp_path / "h")
    given = speech()
    one, other = (r.encode_padded(given.waves, given.lengths) for r in (plain, with_head))
    assert torch.equal(one.states, other.states)
    decoder = AR(beam_size=3, ctc_weight=0.0)
    assert plain.decode(decoder, one) == with_head.decode(decoder, other)
    for recognizer in (plain, with_head):
        state = recognizer.model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in before.items())
    assert other.drafted is not None
    read = encode_and_read(model, given, (0,))[2]
    with torch.inference_mode():
        again = read_head(tmp_path / "h", *read_model(whisper)).draft(read)
    assert torch.equal(again.log_probs, other.drafted.log_probs)


def test_layers_of_an_encoder_of_espnets() -> None:
    """One run of the encoder gives its output and its blocks' outputs, also where lengths are encoded one by one."""
    model = tiny_model(1).eval()
    given = speech((9000, 12000, 9000))
    with torch.inference_mode():
        expected, frames = model.encode(given.waves, given.lengths)
        states, count, read = encode_and_read(model, given, (1, 2))
        assert torch.equal(states, expected)
        assert torch.equal(count, frames)
        assert torch.equal(read.frames, frames)
        # The last block's output is what the encoder's last norm makes its output of.
        normed = model.encoder.after_norm(read.states[..., 32:])
        for i, n in enumerate(frames.tolist()):
            torch.testing.assert_close(normed[i, :n], states[i, :n], atol=1e-5, rtol=1e-5)
        model._batch_invariant = False
        _, _, one_by_one = encode_and_read(model, given, (1, 2))
        for i, n in enumerate(frames.tolist()):
            torch.testing.assert_close(one_by_one.states[i, :n], read.states[i, :n], atol=1e-5, rtol=1e-5)


def espnet() -> HybridModel:
    return tiny_model(1)


def test_what_cannot_be_cloned_or_read(whisper: Path) -> None:
    model, _ = read_model(whisper)
    assert len(blocks_of(model)) == 2
    with pytest.raises(UserError, match="3 clones, but the encoder only 2"):
        make_head(options(3), model, 28)
    with pytest.raises(UserError, match="block 3, but there are 2"):
        make_head(options(0, (1, 3)), model, 28)
    with pytest.raises(UserError, match="cannot be cloned"):
        make_head(options(1), espnet(), 28)
    for layers in ("top", (-1,)):
        with pytest.raises(UserError, match="layers are"):
            options(0, layers)  # type: ignore[arg-type]
    net = espnet()
    net.compile_encoder("eager")
    with pytest.raises(UserError, match="leave --compile out"):
        encode_and_read(net, speech(), (1,))


def hybrid() -> HybridModel:
    """A hybrid with OpenAI's blocks of width 384, four of them."""
    torch.manual_seed(4)
    return build_model(openai_config())


def test_clones_start_as_the_blocks_of_a_hybrid() -> None:
    """As the hybrid's own encoder goes on from what the clones read."""
    model = hybrid().eval()
    wave, count = torch.randn(1, 16000), torch.tensor([16000])
    head = make_head(options(3), model, 28).eval()
    other = make_head(options(3), hybrid().eval(), 28).eval()
    for parameter in [*other.clones.parameters(), *other.enter_norm.parameters()]:
        torch.nn.init.normal_(parameter)
    clone_from(other, model)
    with torch.inference_mode():
        states, _, read = encode_and_read(model, Speech(wave, count), head.options.reads(4))
        for one in (head, other):
            x = read.states
            for clone in one.clones:
                x = clone(x, torch.zeros(x.shape[:2], dtype=torch.bool))
            torch.testing.assert_close(one.enter_norm(x), states, atol=1e-4, rtol=1e-4)


def test_blocks_of_other_sizes_are_refused(whisper: Path) -> None:
    head = make_head(options(1), read_model(whisper)[0], 28)
    with pytest.raises(UserError, match=r"width 384, expected .* width 32 as the head's"):
        clone_from(head, hybrid())
    with pytest.raises(UserError, match="the head has no clones"):
        clone_from(make_head(options(0), read_model(whisper)[0], 28), hybrid())
    with pytest.raises(UserError, match="only 0 blocks that can be cloned"):
        clone_from(head, tiny_model(0, encoder="conformer", encoder_conf={"num_blocks": 0}))
