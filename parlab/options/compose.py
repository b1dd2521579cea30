"""Configurations made of parts: ``include`` in a YAML file, and overrides deep inside the network's description.

jsonargparse merges typed options, but takes a free dictionary such as ``model.network`` as a whole. OmegaConf merges
here, before jsonargparse sees the result; interpolations are left in place and resolved after all overrides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from parlab.errors import UserError
from parlab.options.resources import find_config

# Free dictionaries: ``--model.network.encoder_conf.num_blocks 4`` changes one entry and keeps the others.
FREE = ("model.network", "model.tokenizer")


def expand(argv: Sequence[str], free: Sequence[str] = FREE) -> list[str]:
    """Merge the ``--config`` files of ``argv``, with their includes and the overrides below ``free``, into one.

    Returns:
        Arguments whose only ``--config``, if any, is YAML text.

    Raises:
        UserError: a file cannot be read, is no mapping, or includes itself.
    """
    from omegaconf import OmegaConf

    files, inside, rest = _sort(argv, free)
    if not files and not inside:
        return list(argv)
    merged: Any = OmegaConf.create({})
    for file in files:
        content = OmegaConf.create(yaml.safe_load(file)) if "\n" in file else read(find_config(file))
        merged = OmegaConf.merge(merged, content)
    if merged.get("wandb") is False:  # YAML reads a bare off as a truth value
        merged.wandb = "off"
    for name, value in inside:
        OmegaConf.update(merged, name, _value(name, value), force_add=True)
    return ["--config", OmegaConf.to_yaml(merged, resolve=False), *rest]


def read(file: str | Path, seen: tuple[Path, ...] = ()) -> Any:
    """A YAML file, over those that its ``include`` names: paths relative to the file, or shipped configurations.

    Later files win.

    Raises:
        UserError: a file cannot be read, is no mapping, or includes itself.
    """
    from omegaconf import OmegaConf

    path = Path(file).expanduser()
    if path.resolve() in seen:
        raise UserError(f"the config {path} includes itself, expected a tree of files; take it out of its include")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the config {path} cannot be read ({type(error).__name__}); check the path") from error
    except yaml.YAMLError as error:
        raise UserError(
            f"the config {path} is no valid YAML ({' '.join(str(error).split())[:200]}); correct it"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"the config {path} holds no mapping, expected 'option: value' lines; correct it")
    parts = content.pop("include", [])
    merged: Any = OmegaConf.create({})
    for part in [parts] if isinstance(parts, str) else parts:
        merged = OmegaConf.merge(merged, read(find_config(part, path.parent), (*seen, path.resolve())))
    return OmegaConf.merge(merged, OmegaConf.create(content))


def _sort(argv: Sequence[str], free: Sequence[str]) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Config files, overrides (name, value) below ``free``, and all other arguments."""
    files: list[str] = []
    inside: list[tuple[str, str]] = []
    rest: list[str] = []
    queue = list(argv)
    while queue:
        argument = queue.pop(0)
        name, equals, value = argument.partition("=")
        below = any(name.startswith(f"--{prefix}.") for prefix in free) and not name.endswith("+")
        if name != "--config" and not below:
            rest.append(argument)
            continue
        if not equals:
            if not queue:
                raise UserError(f"the option {name} has no value, expected one after it; give it")
            value = queue.pop(0)
        if below:
            inside.append((name.removeprefix("--"), value))
        else:
            files.append(value)
    return files, inside, rest


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"the value {text!r} of --{name} is no valid YAML; quote it") from error
