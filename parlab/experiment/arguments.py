"""Command-line options shared by the commands, and errors that name the nearest option."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from parlab.decode import DECODERS, Decoder
from parlab.errors import UserError, nearest


class Parser(LightningArgumentParser):
    """Lightning's parser (OmegaConf interpolation that survives overrides) with errors of one sentence."""

    @classmethod
    def of(cls, command: str, description: str) -> Parser:
        """The parser of a command."""
        return cls(prog=f"python -m parlab {command}", description=description, parser_mode="omegaconf+")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not getattr(self, "exit_on_error", True):  # jsonargparse tries parsers inside and catches their errors
            super().error(message, ex)
        raise explain(message, self)

    def read(self, argv: Sequence[str]) -> Any:
        """Parse; decoder names are the lower-case ones of ``DECODERS``."""
        return self.parse_args(name_decoders(list(argv)))


def explain(message: str, parser: Any) -> UserError:
    """A parser's message as one sentence; a misspelt option gets the nearest one."""
    unknown = re.search(r"[Uu]nrecognized arguments: (--[^\s=]+)", message)
    unknown = unknown or re.search(r"[Kk]ey ['\"]?([\w.]+)['\"]? is not expected", message)
    help_hint = f"see {parser.prog} --help"
    if unknown:
        name = unknown.group(1)
        known = [option for action in parser._actions for option in action.option_strings]
        if not name.startswith("--"):
            known = [option.removeprefix("--") for option in known]
        return UserError(f"there is no option {name}{nearest(name, known)} ({help_hint})")
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    return UserError(f"the options are wrong: {' '.join(lines)[:400]}; {help_hint}")


def name_decoders(argv: list[str]) -> list[str]:
    """Map ``--decoder par`` to its class, after checking the name and its options."""
    out: list[str] = []
    chosen: type[Decoder] | None = None
    previous = ""
    for argument in argv:
        if previous == "--decoder" or argument.startswith("--decoder="):
            name = argument.removeprefix("--decoder=")
            if name in DECODERS or not name.endswith((".yaml", ".yml", ".json")) and "." not in name:
                chosen = decoder_class(name)
                argument = argument.removesuffix(name) + f"{chosen.__module__}.{chosen.__name__}"
        elif chosen is not None and argument.startswith("--decoder."):
            check_options(chosen, [argument.removeprefix("--decoder.").split("=")[0]])
        out.append(argument)
        previous = argument
    return out


def decoder_class(name: str) -> type[Decoder]:
    """The decoder called ``name``.

    Raises:
        UserError: there is none.
    """
    if name not in DECODERS:
        raise UserError(
            f"there is no decoder '{name}', expected one of {', '.join(DECODERS)}{nearest(name, DECODERS)}"
        )
    return DECODERS[name]


def check_options(decoder: type[Decoder], names: Sequence[str]) -> None:
    """Refuse options that a decoder does not have."""
    known = [field.name for field in dataclasses.fields(decoder)]  # type: ignore[arg-type]
    for name in names:
        if name not in known:
            raise UserError(
                f"the decoder '{decoder.name}' has no option '{name}'{nearest(name, known)} "
                f"(it has {', '.join(known) or 'none'})"
            )


def decoder_from(parsed: Any) -> Decoder | None:
    """The decoder of a parsed ``decoder`` option (its class path and options), or None where it was not given."""
    if parsed is None:
        return None
    by_class = {cls.__name__: cls for cls in DECODERS.values()}
    options = vars(parsed.init_args) if "init_args" in parsed else {}
    return by_class[parsed.class_path.rsplit(".", 1)[-1]](**options)


def make_decoder(name: str, **options: Any) -> Decoder:
    """A decoder by name with options by keyword, checked."""
    found = decoder_class(name)
    check_options(found, list(options))
    return found(**options)


def quiet_libraries() -> None:
    """Silence chatter that says nothing about the user's run."""
    import logging
    import warnings

    for pattern in (".*isinstance\\(treespec.*", ".*eagerly read CutSet.*", ".*litlogger.*", ".*does not have many workers.*"):
        warnings.filterwarnings("ignore", message=pattern)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
