"""SpeechBrain's ``hyperparams.yaml`` as plain nodes: tags name what an entry is, and nothing is made, called or looked up in a module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parlab.errors import UserError

_REFERENCE = re.compile(r"<([A-Za-z_]\w*)>")
_TUPLE = re.compile(r"[(\[]\s*([\w.+-]+(\s*,\s*[\w.+-]+)*)\s*,?\s*[)\]]")
# What entries of a model's file are made of; an entry with code of another package is refused, though nothing is run.
_KNOWN = ("speechbrain.", "torch.", "sentencepiece.", "hyperpyyaml.", "numpy.random.seed", "random.")
_KEPT = ("new", "name", "apply", "module")  # tags that name a class or a function
_DEPTH = 20  # of references


@dataclass(frozen=True)
class Named:
    """An entry with a tag: ``!new:speechbrain.nnet.linear.Linear`` has ``tag`` ``new``, ``target`` the rest, ``value`` its arguments."""

    tag: str
    target: str
    value: Any


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, for which SpeechBrain's tags are data."""


def _named(loader: _Loader, suffix: str, node: yaml.Node) -> Named:
    tag, _, target = suffix.partition(":")
    if tag in _KEPT and not (target + ".").startswith(_KNOWN) and not target.startswith(_KNOWN):
        raise yaml.YAMLError(f"!{suffix} is no part of SpeechBrain")
    if tag not in (*_KEPT, "ref", "copy", "tuple", "placeholder", "applyref"):
        raise yaml.YAMLError(f"the tag !{suffix} is not known")
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # type: ignore[arg-type]
    return Named(tag, target, value)


_Loader.add_multi_constructor("!", _named)  # type: ignore[no-untyped-call]


class Hyperparams:
    """The entries of a file, references followed.

    Raises:
        UserError: it is no YAML, holds no mapping, or names code of another package.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            entries = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a safe loader
        except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UserError(
                f"{path} cannot be read ({reason}), expected SpeechBrain's hyperparameters; take files from people you trust"
            ) from error
        if not isinstance(entries, dict):
            raise UserError(f"{path} holds no mapping, expected SpeechBrain's hyperparameters; copy it again")
        self.entries: Mapping[Any, Any] = entries

    def follow(self, value: Any, depth: int = 0) -> Any:
        """A value, with a reference to another entry followed and a tuple read; arithmetic stays as it is."""
        if depth > _DEPTH:
            raise UserError(f"{self.path} has references in a circle, expected ones that end; copy it again")
        if isinstance(value, Named) and value.tag in {"ref", "copy"}:
            found = _REFERENCE.fullmatch(str(value.value).strip())
            return self.follow(self.entries.get(found[1]), depth + 1) if found else value
        if isinstance(value, Named) and value.tag == "tuple":
            return self.follow(value.value, depth + 1)
        if isinstance(value, str) and (found := _TUPLE.fullmatch(value.strip())):
            return [yaml.safe_load(part) for part in found[1].split(",")]
        return value

    def get(self, name: str) -> Any:
        """An entry, or None."""
        return self.follow(self.entries.get(name))

    def part(self, name: str, target: str) -> dict[str, Any]:
        """The arguments of an entry ``!new:...target``, references followed.

        Raises:
            UserError: there is none, or it is another class.
        """
        entry = self.get(name)
        if not (isinstance(entry, Named) and entry.tag == "new" and entry.target.rpartition(".")[2] == target):
            found = f"is {entry.target}" if isinstance(entry, Named) else "is missing"
            raise UserError(f"{self.path}: {name} {found}, expected SpeechBrain's {target}; name another model")
        values = entry.value if isinstance(entry.value, dict) else {}
        return {str(key): self.follow(value) for key, value in values.items()}

    def references(self, name: str) -> list[str]:
        """The names that the list of an entry ``!new:torch.nn.ModuleList`` refers to, in order; none where it is no such entry."""
        entry = self.get(name)
        if not (isinstance(entry, Named) and entry.target.endswith("ModuleList") and isinstance(entry.value, list)):
            return []
        members = entry.value[0] if len(entry.value) == 1 and isinstance(entry.value[0], list) else entry.value
        found = [_REFERENCE.fullmatch(str(m.value).strip()) for m in members if isinstance(m, Named) and m.tag == "ref"]
        return [match[1] for match in found if match]
