"""ESPnet's folders: their files, their configuration, their weights.

An ESPnet folder holds ``config.yaml``, weights (``*.pth``) and a tokenizer. A zoo folder keeps them under ``exp/`` and
names them in ``meta.yaml``. A run folder of ours has such a folder as ``model/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from parlab.errors import UserError
from parlab.model.families.espnet_build import build_model, read_token_list
from parlab.model.families.weights import load_weights, read_weights
from parlab.model.features import GlobalMVN, write_stats
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer

# Names that ESPnet's recipes give to the weights, best first.
PREFERRED = ("valid.acc.ave.pth", "valid.acc.ave_10best.pth", "valid.loss.ave.pth", "valid.acc.best.pth", "model.pth")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model; ``root`` is where relative paths of its config start."""

    config: Path
    weights: Path
    root: Path


def read_folder(path: Path) -> tuple[HybridModel, Tokenizer]:
    """Read a model and its tokenizer from a folder (or a file inside it), in evaluation mode, on the CPU.

    Raises:
        UserError: files are missing, or config, token list and weights do not fit together.
    """
    files = find_files(path)
    config = read_config(files.config)
    model = build_model(config)
    load_weights(model, read_weights(files.weights), files.weights)
    return model.eval(), make_tokenizer(config, files.config.parent, files.root)


def is_espnet(path: Path) -> bool:
    """Whether a folder, or one below it, has a configuration of ESPnet's."""
    return (path / "meta.yaml").is_file() or any(path.glob("**/config.yaml"))


def find_files(path: Path) -> ModelFiles:
    """Find config and weights from a folder (or a file inside it)."""
    folder = path.parent if path.is_file() else path
    if (folder / "model" / "config.yaml").is_file():  # a run folder of ours
        folder = folder / "model"
    meta = folder / "meta.yaml"
    if meta.is_file():
        return _from_meta(meta)
    config = folder / "config.yaml"
    if not config.is_file():
        found = sorted(p for p in folder.glob("**/config.yaml") if list(p.parent.glob("*.pth")))
        found = [p for p in found if not p.parent.name.startswith(("lm_", "asr_stats", "s2t_stats"))]
        if len(found) != 1:
            names = ", ".join(str(p.parent.relative_to(folder)) for p in found) or "none"
            raise UserError(
                f"{folder} has no config.yaml, and {len(found)} folders below it hold a config.yaml with weights "
                f"({names}), expected exactly one; name the model's own folder"
            )
        config = found[0]
    return ModelFiles(config, _pick_weights(config.parent), _root(config.parent))


def _root(folder: Path) -> Path:
    """The folder that relative paths of a config start from: the parent of ``exp/``, else the folder."""
    for parent in folder.parents:
        if parent.name == "exp":
            return parent.parent
    return folder


def _from_meta(meta: Path) -> ModelFiles:
    """Read the layout of ESPnet's model zoo: ``files`` and ``yaml_files`` of ``meta.yaml``."""
    entries = read_mapping(meta, "ESPnet's zoo layout ('files' and 'yaml_files'); fetch the model again")
    files, configs = entries.get("files") or {}, entries.get("yaml_files") or {}
    for key, value in (("files", files), ("yaml_files", configs)):
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in (*value, *value.values())):
            raise UserError(f"{meta}: '{key}' is no mapping of names to paths, expected one; fetch the model again")
    weights = next((files[k] for k in ("asr_model_file", "s2t_model_file", "model_file") if k in files), None)
    config = next((configs[k] for k in ("asr_train_config", "s2t_train_config", "train_config") if k in configs), None)
    if weights is None or config is None:
        raise UserError(
            f"{meta} names no asr_model_file or s2t_model_file with its train config (it has "
            f"{', '.join([*files, *configs]) or 'nothing'}), expected ESPnet's zoo layout; name the folder of config.yaml"
        )
    root = meta.parent
    for file in (weights, config):
        if not (root / file).is_file():
            raise UserError(f"{meta} names {file}, which is not there; fetch the model again")
    return ModelFiles(root / config, root / weights, root)


def _pick_weights(folder: Path) -> Path:
    for name in PREFERRED:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.glob("*.pth") if p.name != "checkpoint.pth")
    averages = [p for p in found if ".ave" in p.name]
    if len(averages) == 1:
        return averages[0]
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UserError(
            f"{folder} holds {len(found)} weight files ({names}), expected one *.pth; keep one, or call it model.pth"
        )
    return found[0]


def read_config(path: Path) -> dict[str, Any]:
    """Read an ESPnet ``config.yaml``; relative files that it names are looked up beside it first.

    Raises:
        UserError: it is no mapping, one of its ``*_conf`` is none, or a file that it needs is not found.
    """
    config = read_mapping(path, "ESPnet's training configuration; name another folder")
    for key, value in config.items():
        if key.endswith("_conf") and not isinstance(value, (dict, type(None))):
            raise UserError(f"{path}: {key} is {str(value)[:60]!r}, expected options with values; correct it")
    tokens = config.get("token_list")
    if isinstance(tokens, str):
        config["token_list"] = str(locate(tokens, (path.parent, _root(path.parent)), "token_list"))
    stats = (config.get("normalize_conf") or {}).get("stats_file")
    if stats is not None:  # the weights hold the same numbers
        named = (path.parent / str(stats), path.parent / Path(str(stats)).name)
        found = next((str(file) for file in named if file.is_file()), None)
        config["normalize_conf"] = {**config["normalize_conf"], "stats_file": found}
    return config


def read_mapping(path: Path, expected: str) -> dict[str, Any]:
    """A YAML file that holds a mapping; ``expected`` ends the error about another one."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError, ValueError) as error:  # ValueError: month 13
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"{path} is no valid YAML ({reason}); write it again, or copy it again") from error
    if not isinstance(entries, dict):
        raise UserError(f"{path} holds no mapping, expected {expected}")
    return {str(key): value for key, value in entries.items()}


def locate(name: str, folders: Sequence[Path], what: str) -> Path:
    """A file that a config names, which may have been moved with the model since.

    The model's own ``folders`` come first, then their parents (where relative paths of ESPnet's recipes start), then
    the folders below; the working folder is last, because another model's files may lie there.
    """
    wanted = Path(name)
    if wanted.is_absolute() and wanted.is_file():
        return wanted
    tried = [folder / part for folder in folders for part in (wanted, wanted.name)]
    above = [parent for folder in folders for parent in (*folder.absolute().parents, *folder.resolve().parents)]
    tried += [parent / wanted for parent in above]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        below = (path for folder in folders for path in sorted(folder.glob(f"**/{wanted.name}")))
        found = next((path for path in (*below, wanted) if path.is_file()), None)
    if found is None:
        raise UserError(f"the config's {what} file {name} is not found from {folders[0]}; put it beside config.yaml")
    return found


def make_tokenizer(config: Mapping[str, Any], *folders: Path) -> Tokenizer:
    """The tokenizer that a config names (``token_type``, ``bpemodel``), found from ``folders``, on its token list."""
    tokens = config["token_list"]
    if isinstance(tokens, str):
        tokens = read_token_list(tokens)
    kind = config.get("token_type") or "bpe"
    model_file = (
        locate(str(config["bpemodel"]), folders, "bpemodel") if kind == "bpe" and config.get("bpemodel") else None
    )
    return Tokenizer(token_list=list(tokens), token_type=kind, model_file=model_file)


def write_folder(model: HybridModel, tokenizer: Tokenizer, directory: str | Path, half: bool = False) -> Path:
    """Write an ESPnet-format folder: ``config.yaml``, ``model.pth``, the tokenizer, normalisation statistics.

    ``half`` stores float16 weights (half the size; ESPnet and parlab read them into float32).
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    config = portable_config(model, tokenizer)
    if isinstance(model.normalize, GlobalMVN):
        write_stats(folder / "feats_stats.npz", model.normalize.mean, model.normalize.std)
    if tokenizer.model_bytes is not None:
        (folder / "bpe.model").write_bytes(tokenizer.model_bytes)
    state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(state, folder / "model.pth")
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder


def portable_config(model: HybridModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """The model's config with inline tokens and files beside it."""
    config = {**model.config, "token_list": list(model.token_list), "token_type": tokenizer.token_type}
    config["bpemodel"] = "bpe.model" if tokenizer.model_bytes is not None else None
    config.pop("init", None)  # the weights are trained: initialising them again would only cost time
    if isinstance(model.normalize, GlobalMVN):
        config["normalize_conf"] = {**(config.get("normalize_conf") or {}), "stats_file": "feats_stats.npz"}
    return config
