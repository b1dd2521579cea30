"""Models by their paths: the one way in and out, whatever toolkit a model comes from.

A toolkit has its files in ``families/``; its folders are recognised by their files (``families/layouts.py``). What no foreign
family recognises is ESPnet's.
"""

from __future__ import annotations

import logging
from pathlib import Path

from parlab.errors import UserError
from parlab.model.checkpoint import read_checkpoint
from parlab.model.families import espnet_folder
from parlab.model.families.blocks.model import BlockModel
from parlab.model.families.layouts import LAYOUTS, layout_of, write_like_origin
from parlab.model.hub import looks_like_hub_id, snapshot
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def read_model(name: str | Path) -> tuple[HybridModel, Tokenizer]:
    """Read a model and its tokenizer, in evaluation mode, on the CPU.

    Args:
        name: an ESPnet-format folder, a zoo or exp folder, a run folder, a Lightning checkpoint, a folder of another family
            (``docs/models.md``), or a hub id.

    Raises:
        UserError: nothing usable is there, or config, token list and weights do not fit together.
    """
    path = Path(name).expanduser()
    if not path.exists() and looks_like_hub_id(str(name)):
        path = snapshot(str(name), local=path.parent.is_dir())
    if not path.exists():
        raise UserError(
            f"no model at {name}: expected an ESPnet-format folder, a run folder, a .ckpt file, another family's folder or a "
            "hub id; check the path"
        )
    if path.is_file() and path.suffix == ".ckpt":
        return read_checkpoint(path)
    for folder in (path, path / "model"):  # the second: of a run folder of ours
        if layout := layout_of(folder):
            logger.info("%s: a %s model", folder, layout.family)
            return layout.open(folder)
    if path.is_dir() and not espnet_folder.is_espnet(path):
        known = " or ".join(layout.looked_for for layout in LAYOUTS)
        raise UserError(
            f"{path} has no config.yaml of ESPnet's (nor has a folder below it), and not {known} either, expected the files of one "
            "family; name the model's own folder"
        )
    return espnet_folder.read_folder(path)


def write_model(model: HybridModel, tokenizer: Tokenizer, directory: str | Path, half: bool = False) -> Path:
    """Write a folder that ESPnet loads too: ``config.yaml``, ``model.pth``, the tokenizer, normalisation statistics.

    A model of another family is written in its own layout, with the text files of the folder that it came from. ``half`` stores
    float16 weights (half the size; they are read into float32).

    Raises:
        UserError: models of this family are not written.
    """
    if isinstance(model, BlockModel):
        write_like_origin(model, Path(directory), half)
        return Path(directory)
    if model.family != "ESPnet":
        raise UserError(
            f"a {model.family} model is not written in ESPnet's format, expected an ESPnet model; copy its folder"
        )
    return espnet_folder.write_folder(model, tokenizer, directory, half)
