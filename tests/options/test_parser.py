"""Options: what is wrong is told by its name, with the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlab.commands.predict.options import PredictOptions
from parlab.decode import AR, PAR
from parlab.errors import UserError
from parlab.options.decoders import decoder_from, make_decoder
from parlab.options.parser import join_values

BASE = ["--model", "m", "--data", "d", "--out", "o"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("decoder: par", PAR()),
        ("decoder: {class_path: par, init_args: {threshold: 0.7, max_seq_len: auto}}", PAR(threshold=0.7)),
        ("decoder: {class_path: parlab.decode.AR, init_args: {beam_size: 3}}", AR(beam_size=3)),
        ("batch_size: 3", None),
    ],
)
def test_decoders_in_files(text: str, wanted: object, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    for config in (["--config", str(tmp_path / "c.yaml")], [f"--config={tmp_path / 'c.yaml'}"]):
        assert decoder_from(PredictOptions.parser().read_with_decoder([*BASE, *config]).decoder) == wanted


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "decoder: {class_path: par, init_args: {threshold: 0.7, beam_size: 4}}\nbatch_size: 3\n"
    )
    read = PredictOptions.parser().read_with_decoder(
        [*BASE, "--config", str(tmp_path / "c.yaml"), "--decoder.threshold", "0.2", "--batch_size=5"]
    )
    assert decoder_from(read.decoder) == PAR(threshold=0.2, beam_size=4)
    assert read.batch_size == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder", "par", "--decoder.threshold", "high"], "decoder.threshold is 'high', expected float"),
        (["--decoder", "par", "--decoder.beam_size=2.5"], "decoder.beam_size is '2.5', expected int"),
        (["--decoder", "par", "--decoder.beam_size", "null"], "decoder.beam_size is 'null', expected int"),
        (["--decoder=par", "--decoder.beam_sise", "2"], "did you mean 'beam_size'"),
        (["--batch_size", "many"], "batch_size"),
        (["--trainer.max_tme", "3"], "did you mean '--trainer.max_time'"),
    ],
)
def test_wrong_options(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PredictOptions.parser().read_with_decoder([*BASE, *options])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("decoder: parr", [], "did you mean 'par'"),
        ("decoder: {class_path: par, init_args: {thresold: 1}}", [], "did you mean 'threshold'"),
        ("decoder: {class_path: parlab.decode.PAR, init_args: {thresold: 1}}", [], "did you mean 'threshold'"),
        ("decoder: {class_path: par, init_args: {beam_size: two}}", [], "beam_size is 'two', expected int"),
        ("decoder: par", ["--decoder.thresold", "1"], "did you mean 'threshold'"),
        ("bach_size: 3", [], "did you mean 'batch_size'"),
        ("trainer: {max_tme: 3}", [], "did you mean 'trainer.max_time'"),
    ],
)
def test_wrong_files(text: str, more: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        PredictOptions.parser().read_with_decoder([*BASE, "--config", str(tmp_path / "c.yaml"), *more])


def test_special_values_of_decoders() -> None:
    options = [
        "--decoder",
        "par",
        "--decoder.max_seq_len",
        "7",
        "--decoder.max_mask_parallel",
        "-1",
        "--decoder.lm",
        "null",
    ]
    found = decoder_from(PredictOptions.parser().read_with_decoder([*BASE, *options]).decoder)
    assert found == PAR(max_seq_len=7, max_mask_parallel=-1, lm=None)


def test_several_files_of_audio() -> None:
    assert join_values(["--data", "a", "b c", "--out", "o"], "--data") == ["--data", '["a", "b c"]', "--out", "o"]
    read = PredictOptions.parser().read_with_decoder(["--model", "m", "--data", "a.wav", "b.wav", "--out", "o"])
    assert read.data == ["a.wav", "b.wav"]
    assert PredictOptions.parser().read_with_decoder(BASE).data == "d"


def test_espnets_reference_by_its_name(tmp_path: Path) -> None:
    """On the command line and in a file, with options that do not contradict it; one that does is refused."""
    base = [*BASE, "--decoder", "par", "--decoder.reference", "espnet"]
    parser = PredictOptions.parser()
    assert decoder_from(parser.read_with_decoder(base).decoder) == PAR.espnet()
    more = ["--decoder.beam_size", "3", "--decoder.threshold=0.99"]
    assert decoder_from(parser.read_with_decoder([*base, *more]).decoder) == PAR.espnet(beam_size=3)
    (tmp_path / "c.yaml").write_text("decoder: {class_path: par, init_args: {reference: espnet, beam_size: 4}}\n")
    read = parser.read_with_decoder([*BASE, "--config", str(tmp_path / "c.yaml")])
    assert decoder_from(read.decoder) == PAR.espnet(beam_size=4)
    assert make_decoder("par", reference="espnet", beam_size=5) == PAR.espnet(beam_size=5)
    with pytest.raises(UserError, match=r"the option threshold is 0\.5, but ESPnet's reference has 0\.99"):
        parser.read_with_decoder([*base, "--decoder.threshold", "0.5"])
    with pytest.raises(UserError, match="the option reference is 'espnt'"):
        parser.read_with_decoder([*BASE, "--decoder", "par", "--decoder.reference", "espnt"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("class_path: [", "it is no YAML text"),
        ("threshold: 0.3", "is no configuration of a decoder, expected class_path"),
        ("class_path: parr", "did you mean 'par'"),
        ("class_path: par\ninit_args: {treshold: 0.3}", "did you mean 'threshold'"),
        ("class_path: par\ninit_args: {beam_size: many}", "beam_size"),
    ],
)
def test_wrong_files_of_a_decoder(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "decoder.yaml"
    if text is not None:
        file.write_text(text)
    for read in (
        lambda: make_decoder(str(file)),
        lambda: PredictOptions.parser().read_with_decoder([*BASE, "--decoder", str(file)]),
    ):
        with pytest.raises(UserError, match=message):
            read()


def test_options_that_were_parsed_once_keep_their_types() -> None:
    """1, 1.0 and True are equal keys of the memory of parsed options."""
    assert make_decoder("par", threshold=1) == make_decoder("par", threshold=1.0) == make_decoder("par", threshold="1")
    for _ in range(2):
        with pytest.raises(UserError, match="threshold=True"):
            make_decoder("par", threshold=True)
        with pytest.raises(UserError, match=r"threshold=\[1\]"):
            make_decoder("par", threshold=[1])
