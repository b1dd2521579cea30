"""Every file below configs/ and recipes/ is used as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from parlab.commands.fit.command import FitCLI, make_cli
from parlab.commands.predict.options import PredictOptions
from parlab.data.audio import load_audio
from parlab.decode import DECODERS
from parlab.model.families.espnet_build import build_model
from parlab.model.heads.clones import CloneSizes
from parlab.model.heads.network import DraftHead
from parlab.options.compose import expand, read
from parlab.options.decoders import make_decoder

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("recipes/*/*.yaml"))
TOKENS = ["<blank>", "<unk>", *"ABC", "<sos/eos>"]


def files(kind: str) -> list[Path]:
    found = sorted((ROOT / "configs" / kind).glob("*.yaml"))
    assert found
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: Any) -> Any:
    """Parse and instantiate a fit of this repository's files, on the CPU of this machine."""
    monkeypatch.chdir(ROOT)
    here = ["--wandb", "off", "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(tmp_path)]
    return lambda *argv: make_cli(FitCLI, [*argv, *here])


@pytest.mark.parametrize("path", [p for p in files("model") if p.name != "parts.yaml"], ids=name)
def test_models_can_be_built(path: Path, parse: Any) -> None:
    network = parse("--config", str(path)).model.options.network
    model = build_model({**network, "token_list": TOKENS})
    assert model.encoder is not None and model.decoder is not None and model.ctc is not None


@pytest.mark.parametrize("path", [*files("data"), *files("trainer")], ids=name)
def test_data_and_trainers_fit_a_model(path: Path, parse: Any) -> None:
    parse("--config", "configs/model/conformer_s.yaml", "--config", str(path))


@pytest.mark.parametrize("path", files("decoder"), ids=name)
def test_decoders_can_be_made(path: Path) -> None:
    parser = PredictOptions.parser()
    options = parser.read_with_decoder([*expand(["--config", str(path)]), "--model", "m", "--data", "d", "--out", "o"])
    decoder = parser.instantiate_classes(options).decoder
    entry = yaml.safe_load(path.read_text())["decoder"]
    wanted = make_decoder(entry) if isinstance(entry, str) else make_decoder(entry["class_path"], **entry["init_args"])
    assert decoder == wanted


@pytest.mark.parametrize("path", files("decoder"), ids=name)
def test_files_of_decoders_hold_differences_only(path: Path) -> None:
    entry = yaml.safe_load(path.read_text())["decoder"]
    options = {} if isinstance(entry, str) else entry["init_args"]
    default = DECODERS[entry if isinstance(entry, str) else entry["class_path"]]()
    assert [k for k, v in options.items() if k != "reference" and getattr(default, k) == v] == []


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipes_can_be_parsed(path: Path, parse: Any) -> None:
    cli = parse("--config", str(path))
    assert read(path).trainer.default_root_dir.startswith("runs/")
    if read(path).get("kind") == "head":
        sizes = CloneSizes(6, 1536)  # tiny.en's
        head = DraftHead(cli.model.head, 384, 80, sizes)
        assert sum(p.numel() for p in head.parameters()) * 2 < 12e6  # bytes of float16
        return
    if cli.model.options.network and cli.model.options.init is None:  # with init the rest of the network is the model's
        network = build_model({**cli.model.options.network, "token_list": TOKENS})
        assert sum(p.numel() for p in network.parameters()) > 1e6


def test_recipes_for_the_real_speech_find_it(shared_data: Path, parse: Any) -> None:
    for path in RECIPES:
        if read(path).get("kind") == "head":
            continue  # its audio is the user's
        data = parse("--config", str(path)).datamodule
        if isinstance(data.train_sources, dict):  # synthetic speech is made by the recipe's first command
            data.train_sources = {name: w for name, w in data.train_sources.items() if not name.startswith("runs/")}
        if "shared" in str(data.train_sources):
            assert len(data.train_utterances()[0]) >= 690 and len(data.dev_utterances()) >= 40
            first = data.dev_utterances()[0]
            assert len(load_audio(first.audio, 16000)) / 16000 == pytest.approx(first.duration, abs=0.1)
