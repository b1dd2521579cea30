"""Command-line options shared by the commands, and errors that name the nearest option."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import jsonargparse
import yaml
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
        """Parse; decoder names are the lower-case ones of ``DECODERS``, also in files; ``--data`` takes several."""
        return self.parse_args(name_decoders(*name_decoders_in_files(join_values(argv, "--data"))))


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


def name_decoders_in_files(argv: Sequence[str]) -> tuple[list[str], type[Decoder] | None]:
    """Let ``decoder: par``, or ``class_path: par``, stand in a ``--config`` file; check its options.

    Returns:
        the arguments, and the decoder that the last file named, if any did.
    """
    out = list(argv)
    chosen: type[Decoder] | None = None
    for place, argument in enumerate(out):
        if argument.startswith("--config="):
            value, found = _name_in_file(argument.removeprefix("--config="))
            out[place] = f"--config={value}"
        elif place and out[place - 1] == "--config":
            out[place], found = _name_in_file(argument)
        else:
            continue
        chosen = found or chosen
    return out, chosen


def _name_in_file(file: str) -> tuple[str, type[Decoder] | None]:
    """The file's content as YAML text where its decoder goes by its name, else the file as it is; and its decoder."""
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return file, None  # the parser tells what is wrong
    entry = content.get("decoder") if isinstance(content, dict) else None
    entry = {"class_path": entry} if isinstance(entry, str) and not entry.endswith((".yaml", ".yml")) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get("class_path"), str):
        return file, None
    path = entry["class_path"]
    by_class = {cls.__name__: cls for cls in DECODERS.values()}
    chosen = by_class.get(path.rsplit(".", 1)[-1]) if "." in path else decoder_class(path)
    if chosen is not None:
        for name, value in (entry.get("init_args") or {}).items():
            check_value(chosen, name, value if isinstance(value, str) else json.dumps(value))
    if chosen is None or "." in path:
        return file, chosen
    return json.dumps({**content, "decoder": {**entry, "class_path": _path(chosen)}}), chosen


def _path(decoder: type[Decoder]) -> str:
    return f"{decoder.__module__}.{decoder.__name__}"


def name_decoders(argv: Sequence[str], chosen: type[Decoder] | None = None) -> list[str]:
    """Map ``--decoder par`` to its class, after checking the name, its options and their values.

    Args:
        chosen: the decoder that a file named.
    """
    out: list[str] = []
    option = ""  # the decoder's option whose value comes next
    previous = ""
    for argument in argv:
        if previous == "--decoder" or argument.startswith("--decoder="):
            name = argument.removeprefix("--decoder=")
            if name in DECODERS or not name.endswith((".yaml", ".yml", ".json")) and "." not in name:
                chosen = decoder_class(name)
                argument = argument.removesuffix(name) + _path(chosen)
        elif chosen is not None and option:
            check_value(chosen, option, argument)
            option = ""
        elif chosen is not None and argument.startswith("--decoder."):
            option, equals, value = argument.removeprefix("--decoder.").partition("=")
            if equals:
                check_value(chosen, option, value)
                option = ""
            else:
                check_options(chosen, [option])
        out.append(argument)
        previous = argument
    return out


def check_value(decoder: type[Decoder], name: str, value: str) -> None:
    """Refuse a value, written as on a command line, that is not of its option's type; interpolations pass.

    Raises:
        UserError: the decoder has no such option, or the value is of another type.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    check_options(decoder, [name])
    wanted = get_type_hints(decoder)[name]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=wanted)
    try:
        if not value.startswith("${"):
            parser.parse_args([f"--value={value}"])
    except ArgumentError as error:
        kind = wanted.__name__ if isinstance(wanted, type) else str(wanted).replace("None", "null")
        raise UserError(f"the option decoder.{name} is '{value}', expected {kind}; correct it") from error


def decoder_class(name: str) -> type[Decoder]:
    """The decoder called ``name``.

    Raises:
        UserError: there is none.
    """
    if name not in DECODERS:
        raise UserError(f"there is no decoder '{name}', expected one of {', '.join(DECODERS)}{nearest(name, DECODERS)}")
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
    check_types(found, options)
    return found(**options)


def check_types(decoder: type[Decoder], options: Mapping[str, Any]) -> None:
    """Refuse values of another type than the options have.

    Raises:
        UserError: naming the values.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(decoder)
    try:
        parser.parse_object(dict(options))
    except jsonargparse.ArgumentError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        given = ", ".join(f"{k}={v!r}" for k, v in options.items())
        raise UserError(f"the decoder '{decoder.name}' cannot have {given} ({reason}); correct the value") from error


def quiet_libraries() -> None:
    """Silence chatter that says nothing about the user's run."""
    import logging
    import warnings

    for pattern in (
        ".*isinstance\\(treespec.*",
        ".*eagerly read CutSet.*",
        ".*litlogger.*",
        ".*does not have many workers.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
