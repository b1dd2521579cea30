"""Plug-ins by name: a file of a room holds the class whose ``name`` is the file's, with its options as fields.

A plug-in is written ``name`` or ``name:option=value,option=value``, as ``tsallis:alpha=0.5,temperature=1.2``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

import yaml

from parlab.errors import UserError, nearest


class Named(Protocol):
    """What a plug-in has."""

    name: ClassVar[str]


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
P = TypeVar("P", bound=Named)


@cache
def plugins(room: str) -> Mapping[str, type[Any]]:
    """The classes of a package that are called as their files, by name in alphabetic order."""
    found: dict[str, type[Any]] = {}
    for module in pkgutil.iter_modules(importlib.import_module(room).__path__):
        for held in vars(importlib.import_module(f"{room}.{module.name}")).values():
            if isinstance(held, type) and getattr(held, "name", None) == module.name:
                found[module.name] = held
    return dict(sorted(found.items()))


def plugin(room: str, kind: type[P], text: str) -> P:
    """The plug-in of a package that ``text`` names, with its options.

    Args:
        kind: what it is; its ``__name__`` in lower case stands in errors.

    Raises:
        UserError: no plug-in or option has that name, or a value is not of its type.
    """
    what, known = kind.__name__.lower(), plugins(room)
    name, _, given = text.partition(":")
    if name not in known:
        raise UserError(f"there is no {what} '{name}', expected one of {', '.join(known)}{nearest(name, known)}")
    options = {}
    types = get_type_hints(known[name])
    allowed = [field.name for field in fields(known[name])]
    for part in filter(None, given.split(",")):
        option, equals, value = part.partition("=")
        if option not in allowed or not equals:
            raise UserError(
                f"the {what} '{name}' has no option '{part}', expected option=value of {', '.join(allowed) or 'none'}"
                f"{nearest(option, allowed)}"
            )
        options[option] = _typed(f"{what} {name}", option, value, types[option])
    made: P = known[name](**options)
    return made


def _typed(what: str, option: str, text: str, kind: type) -> Any:
    """A value of the option's type."""
    value = text if kind is str else yaml.safe_load(text)
    if kind is float and isinstance(value, str):  # YAML reads 1e-3 as a text
        try:
            value = float(value)
        except ValueError:
            value = text
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"the option {option} of the {what} is '{text}', expected {_KINDS[kind]}; correct it")
    return value
