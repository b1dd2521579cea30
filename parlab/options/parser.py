"""The parser of every command: jsonargparse's, with errors of one sentence that name the nearest option."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from parlab.errors import UserError, nearest
from parlab.options.compose import expand


class Parser(ArgumentParser):
    """A parser (OmegaConf interpolation that survives overrides) with errors of one sentence."""

    @classmethod
    def of(cls, command: str, description: str) -> Parser:
        """The parser of a command, with ``--config``."""
        parser = cls(prog=f"python -m parlab {command}", description=description, parser_mode="omegaconf+")
        parser.add_argument("--config", action="config", help="read options from a YAML file; it may include others")
        return parser

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not getattr(self, "exit_on_error", True):  # jsonargparse tries parsers inside and catches their errors
            super().error(message, ex)
        raise explain(message, self)

    def read(self, argv: Sequence[str]) -> Any:
        """Parse, files and what they include first."""
        return self.parse_args(expand(argv, free=()))

    def read_with_decoder(self, argv: Sequence[str]) -> Any:
        """Parse; decoder names are the lower-case ones of ``DECODERS``, also in files; ``--data`` takes several."""
        from parlab.options.decoders import name_decoders, name_decoders_in_files  # they import torch

        named, chosen = name_decoders_in_files(expand(join_values(argv, "--data"), free=()))
        return self.parse_args(name_decoders(named, chosen))


def explain(message: str, parser: Any) -> UserError:
    """A parser's message as one sentence; a misspelt option gets the nearest one."""
    unknown = re.search(r"[Uu]nrecognized arguments: (--[^\s=]+)", message)
    unknown = unknown or re.search(r"[Kk]ey ['\"]?([\w.]+)['\"]? is not expected", message)
    unknown = unknown or re.search(r"^Option '([\w.]+)' is not accepted", message.strip())
    inside = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
    help_hint = f"see {parser.prog} --help"
    if unknown or inside:
        name = unknown.group(1) if unknown else ".".join(inside.groups())  # type: ignore[union-attr]
        known = [option for action in parser._actions for option in action.option_strings]
        if not name.startswith("--"):
            known = [option.removeprefix("--") for option in known]
        return UserError(f"there is no option {name}{nearest(name, known)} ({help_hint})")
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    return UserError(f"the options are wrong: {' '.join(lines)[:400]}; {help_hint}")


def join_values(argv: Sequence[str], option: str) -> list[str]:
    """``--data a b c``, as a shell's ``*.wav`` gives it, as one list."""
    out: list[str] = []
    rest = list(argv)
    while rest:
        out.append(rest.pop(0))
        if out[-1] != option:
            continue
        values: list[str] = []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        out += [json.dumps(values)] if len(values) > 1 else values
    return out
