"""``--decoder``: decoders by their lower-case names, with options that are checked before any work."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from parlab.decode import DECODERS, PAR, Decoder, usual_options
from parlab.errors import UserError
from parlab.options.decoder_names import (
    REFERENCE,
    by_class,
    check_options,
    decoder_class,
    find_tuned,
    read_decoder,
    tuned_or,
)
from parlab.options.resources import resolve_config
from parlab.options.typed import typed_options
from parlab.recognition.recognizer import Recognizer

# ---- by name, with options as Python values -------------------------------------------------------


def make_decoder(name: str, **options: Any) -> Decoder:
    """A decoder by name, or by its configuration file, with options by keyword, checked; ``reference="espnet"`` is
    ``PAR.espnet()``.

    Raises:
        UserError: an unknown decoder or option, or a value that it refuses.
    """
    if name.endswith((".yaml", ".yml")):
        decoder, written = read_decoder(name)
        options = {**written, **options}
    else:
        decoder = decoder_class(name)
    check_options(decoder, list(options))
    reference = options.pop(REFERENCE, None)
    values = typed_options(decoder, options)
    return PAR.espnet(**values) if _wants_espnet(reference) else decoder(**values)


def with_usual(decoder: type[Decoder], options: Mapping[str, Any], drafts: bool) -> dict[str, Any]:
    """Options with those that are usual where a draft head drafts (``drafts``); a reference is itself."""
    return {**({} if REFERENCE in options else usual_options(decoder, drafts)), **options}


def own_decoder(
    recognizer: Recognizer, model: str | Path, head: str | Path | None, transcribes: bool = True
) -> Decoder:
    """The decoder of a model where none is named: what ``tune`` left beside it, or beside its head, else the usual one.

    Args:
        recognizer: of ``model`` with ``head``.
        transcribes: whether plain text of the speech is asked for, for which a decoder is tuned.
    """
    tuned = find_tuned(model, head) if transcribes else None
    return make_decoder(str(tuned)) if tuned is not None else recognizer.default_decoder(transcribes)


def _wants_espnet(reference: Any) -> bool:
    if reference not in {None, "espnet"}:
        raise UserError(f"the option reference is {reference!r}, expected 'espnet' or nothing; correct it")
    return reference == "espnet"


def decoder_from(parsed: Any) -> Decoder | None:
    """The decoder of a parsed ``decoder`` option (its class path and options), or None where it was not given."""
    if parsed is None:
        return None
    options = vars(parsed.init_args) if "init_args" in parsed else {}
    return by_class()[parsed.class_path.rsplit(".", 1)[-1]](**options)


# ---- on the command line and in files -------------------------------------------------------------


def name_decoders(argv: Sequence[str], chosen: type[Decoder] | None = None) -> list[str]:
    """Map ``--decoder par`` to its class, after checking the name, its options and their values.

    Where ``--head`` is given, options that are not have the values that are usual with a draft head.

    Args:
        chosen: the decoder that a file named.

    Raises:
        UserError: an unknown decoder or option, a value of another type, or options that contradict a reference.
    """
    out: list[str] = []
    given: dict[str, str] = {}
    queue = list(argv)
    while queue:
        argument = queue.pop(0)
        name, equals, value = argument.partition("=")
        if name == "--decoder" and (equals or queue):
            value = tuned_or(value if equals else queue.pop(0), _value(argv, "--model"), _value(argv, "--head"))
            from_file = value.endswith((".yaml", ".yml", ".json"))
            if value.endswith((".yaml", ".yml")):
                chosen, written = read_decoder(value)
                queue = [f"--decoder.{option}={_written(held)}" for option, held in written.items()] + queue
                value = _path(chosen)
            elif value in DECODERS or (not value.endswith(".json") and "." not in value):
                chosen = decoder_class(value)
                value = _path(chosen)
            out += [f"{name}={value}"] if equals else [name, value]
            if chosen is not None and not from_file and _value(argv, f"--decoder.{REFERENCE}") is None:
                usual = usual_options(chosen, _value(argv, "--head") is not None)
                out += [f"--decoder.{option}={_written(held)}" for option, held in usual.items()]
        elif chosen is not None and name.startswith("--decoder.") and name != "--decoder.help":
            option = name.removeprefix("--decoder.")
            check_options(chosen, [option])
            if not equals and not queue:
                out.append(argument)
                continue
            value = value if equals else queue.pop(0)
            given[option] = value
            if option != REFERENCE:
                check_value(chosen, option, value)
                out += [argument] if equals else [name, value]
        else:
            out.append(argument)
    if chosen is not None and _wants_espnet(yaml.safe_load(given.pop(REFERENCE, "null"))):
        values = typed_options(chosen, {k: yaml.safe_load(v) for k, v in given.items()})
        wanted = dataclasses.asdict(PAR.espnet(**values))
        out += [f"--decoder.{name}={_written(wanted[name])}" for name in PAR.ESPNET if name not in given]
    return out


def _value(argv: Sequence[str], name: str) -> str | None:
    """The value of an option on a command line, None where it does not stand there."""
    after = dict(pairwise(argv))
    return next((a.removeprefix(f"{name}=") for a in argv if a.startswith(f"{name}=")), after.get(name))


def name_decoders_in_files(argv: Sequence[str]) -> tuple[list[str], type[Decoder] | None]:
    """Let ``decoder: par``, or ``class_path: par``, stand in a ``--config`` file; check its options.

    Returns:
        the arguments, and the decoder that the last file named, if any did.
    """
    out = list(argv)
    chosen: type[Decoder] | None = None
    for index, argument in enumerate(out):
        if argument.startswith("--config="):
            value, found = _name_in_file(argument.removeprefix("--config="))
            out[index] = f"--config={value}"
        elif index and out[index - 1] == "--config":
            out[index], found = _name_in_file(argument)
        else:
            continue
        chosen = found or chosen
    return out, chosen


def _name_in_file(file: str) -> tuple[str, type[Decoder] | None]:
    """The content as YAML text where its decoder goes by its name, else the file as it is; and its decoder.

    Args:
        file: a path, or YAML text.
    """
    file = resolve_config(file)
    try:
        text = file if "\n" in file else Path(file).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return file, None  # the parser says what is wrong
    entry = content.get("decoder") if isinstance(content, dict) else None
    entry = {"class_path": entry} if isinstance(entry, str) and not entry.endswith((".yaml", ".yml")) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get("class_path"), str):
        return file, None
    path = entry["class_path"]
    chosen = by_class().get(path.rsplit(".", 1)[-1]) if "." in path else decoder_class(path)
    if chosen is None:
        return file, None
    options = dict(entry.get("init_args") or {})
    check_options(chosen, list(options))
    reference = options.pop(REFERENCE, None)
    for name, value in options.items():
        check_value(chosen, name, _written(value))
    if _wants_espnet(reference):
        options |= {name: getattr(PAR.espnet(**options), name) for name in PAR.ESPNET}
    if "." in path and reference is None:
        return file, chosen
    return json.dumps({**content, "decoder": {"class_path": _path(chosen), "init_args": options}}), chosen


def check_value(decoder: type[Decoder], name: str, value: str) -> None:
    """Refuse a value, written as on a command line, that is not of its option's type; interpolations pass.

    Raises:
        UserError: the decoder has no such option, or the value is of another type.
    """
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


def _written(value: Any) -> str:
    """A value as it is written on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _path(decoder: type[Decoder]) -> str:
    return f"{decoder.__module__}.{decoder.__name__}"
