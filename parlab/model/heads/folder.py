"""The folder of a draft head: ``head.yaml``, ``head.safetensors``, its vocabulary, and a card.

``head.yaml`` names the model that the head belongs to by a hash of its weights, because another encoder's states mean nothing to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from parlab.errors import UserError, nearest
from parlab.model.families.espnet_folder import read_mapping
from parlab.model.families.weights import hash_model, read_safetensors
from parlab.model.heads.clones import CloneSizes
from parlab.model.heads.drafted import Drafted
from parlab.model.heads.network import DraftHead, HeadOptions
from parlab.model.heads.reading import Reading, blocks_of, check_layers
from parlab.model.hybrid import HybridModel
from parlab.text.spelling import Spelling
from parlab.text.tokenizer import Tokenizer

CONFIG, WEIGHTS, TOKENS, PIECES, CARD = "head.yaml", "head.safetensors", "tokens.txt", "bpe.model", "README.md"


@dataclass(frozen=True)
class Head:
    """A draft head of a model.

    Attributes:
        tokenizer: of the head.
        spelling: from its tokens to the model's.
        layers: what it reads (``encode_and_read``).
        model_hash: of the model's weights.
    """

    network: DraftHead
    tokenizer: Tokenizer
    spelling: Spelling
    layers: tuple[int, ...] = ()
    model_hash: str = ""

    def on(self, device: torch.device) -> Head:
        """The head on a device."""
        return replace(self, network=self.network.to(device))

    def draft(self, read: Reading) -> Drafted:
        """What the head says of a batch."""
        states = read.states
        with torch.autocast(states.device.type, enabled=False):
            log_probs, count = self.network(states.to(next(self.network.parameters()).dtype), read.frames)
        return Drafted(log_probs, count, self.network.options.stack, self.spelling)


def write_head(network: DraftHead, tokenizer: Tokenizer, model: HybridModel, directory: str | Path, about: str) -> Path:
    """Write a head of ``model`` into a folder, its weights in float16.

    Args:
        tokenizer: of the head, ``char`` or ``bpe``.
        about: text of the card: how and on what the head was taught.
    """
    from safetensors.torch import save

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_hash": hash_model(model),
        "states_size": network.states_size,
        "token_type": tokenizer.token_type,
        "network": dataclasses.asdict(network.options),
        "clone_sizes": None if network.sizes is None else dataclasses.asdict(network.sizes),
    }
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / TOKENS).write_text("\n".join(tokenizer.token_list) + "\n", encoding="utf-8")
    if tokenizer.model_bytes is not None:
        (folder / PIECES).write_bytes(tokenizer.model_bytes)
    state = {k: v.detach().cpu().half().contiguous() for k, v in network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(state))
    (folder / CARD).write_text(about.rstrip() + "\n", encoding="utf-8")
    return folder


def read_head(directory: str | Path, model: HybridModel, tokenizer: Tokenizer) -> Head:
    """Read a head for a model and its tokenizer, in evaluation mode, on the CPU.

    Raises:
        UserError: nothing usable is there, or it is the head of another model.
    """
    folder = Path(directory).expanduser()
    if not (folder / CONFIG).is_file():
        raise UserError(f"there is no draft head at {directory}, expected a folder with {CONFIG}; check the path")
    config = read_mapping(folder / CONFIG, "the options of a draft head; copy the folder again")
    own, wanted = hash_model(model), str(config.get("model_hash"))
    if wanted != own:
        raise UserError(
            f"the head {directory} belongs to another model (whose weights have the hash {wanted[:12]}, this model's have "
            f"{own[:12]}), expected a head of this model; name another head"
        )
    spelled = _tokenizer(folder, str(config.get("token_type", "char")))
    states_size = config.get("states_size")
    if type(states_size) is not int or states_size < 1:
        raise UserError(
            f"{folder / CONFIG}: states_size is {states_size!r}, expected a whole number above 0; copy it again"
        )
    options = _options(folder, config)
    layers = options.reads(len(blocks_of(model)))
    check_layers(model, layers)
    network = DraftHead(options, states_size, len(spelled.token_list), _clone_sizes(folder, config, options))
    state = read_safetensors(folder / WEIGHTS)
    if problem := _misfit(network.state_dict(), state):
        raise UserError(
            f"the weights {folder / WEIGHTS} do not fit {CONFIG} and {TOKENS}: {problem}; copy the whole folder again"
        )
    network.load_state_dict(state)
    spelling = Spelling(spelled, tokenizer)
    spelling.check(f"the head {directory}")
    return Head(network.eval().requires_grad_(False), spelled, spelling, layers, own)


def _misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """What is missing, unexpected or of another shape in a state dict."""
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        return (
            f"{len(missing)} keys missing ({', '.join(missing[:3])}), {len(extra)} unexpected ({', '.join(extra[:3])})"
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            return f"{name} has shape {tuple(value.shape)}, expected {tuple(own[name].shape)}"
    return None


def _clone_sizes(folder: Path, config: dict[str, Any], options: HeadOptions) -> CloneSizes | None:
    if not options.clones:
        return None
    given = config.get("clone_sizes")
    values: list[Any] = [given.get(f.name) for f in fields(CloneSizes)] if isinstance(given, dict) else []
    if not values or not all(type(value) is int and value > 0 for value in values):
        raise UserError(
            f"{folder / CONFIG}: clone_sizes is {given!r}, expected heads and inner, whole numbers above 0; copy it again"
        )
    return CloneSizes(*values)


def _options(folder: Path, config: dict[str, Any]) -> HeadOptions:
    given = config.get("network")
    known = [f.name for f in fields(HeadOptions)]
    if not isinstance(given, dict):
        raise UserError(f"{folder / CONFIG}: network is {given!r}, expected sizes; copy it again")
    if unknown := [str(name) for name in given if name not in known]:
        raise UserError(f"{folder / CONFIG}: a head has no '{unknown[0]}'{nearest(unknown[0], known)}; correct it")
    return HeadOptions(**given)


def _tokenizer(folder: Path, kind: str) -> Tokenizer:
    """The head's vocabulary, whose first entry is the blank."""
    try:
        tokens = (folder / TOKENS).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the head's vocabulary {folder / TOKENS} cannot be read; copy the folder again") from error
    if tokens[0] != "<blank>":
        raise UserError(f"{folder / TOKENS} begins with {tokens[0]!r}, expected <blank>; copy the folder again")
    return Tokenizer(tokens, kind, folder / PIECES if kind == "bpe" else None)
