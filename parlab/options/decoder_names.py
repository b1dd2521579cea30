"""Decoders by name: their classes and options, and the file that holds one with its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from parlab.decode import DECODERS, PAR, Decoder
from parlab.errors import UserError, nearest

REFERENCE = "reference"  # not an option of PAR, but a name for several of its options
TUNED, FILE = "tuned", "decoder.yaml"  # the name of the decoder that ``tune`` left beside a model, and its file


def decoder_class(name: str) -> type[Decoder]:
    """The decoder called ``name``.

    Raises:
        UserError: there is none.
    """
    if name not in DECODERS:
        raise UserError(f"there is no decoder '{name}', expected one of {', '.join(DECODERS)}{nearest(name, DECODERS)}")
    return DECODERS[name]


def check_options(decoder: type[Decoder], names: Sequence[str]) -> None:
    """Refuse options that a decoder does not have.

    Raises:
        UserError: naming the nearest one.
    """
    known = [field.name for field in dataclasses.fields(decoder)]  # type: ignore[arg-type]
    for name in names:
        if name not in known and not (name == REFERENCE and decoder is PAR):
            raise UserError(
                f"the decoder '{decoder.name}' has no option '{name}'{nearest(name, known)} "
                f"(it has {', '.join(known) or 'none'})"
            )


def find_tuned(model: str | Path, head: str | Path | None = None) -> Path | None:
    """The configuration that ``tune`` left beside what drafts: the head, or the model (in a run folder, its ``model/``)."""
    folder = Path(head or model).expanduser()
    return next((f for f in (folder / FILE, folder / "model" / FILE) if f.is_file()), None)


def tuned_or(name: str, model: str | Path | None, head: str | Path | None) -> str:
    """A decoder's name, or in place of ``tuned`` the configuration beside the model or its head.

    Raises:
        UserError: there is none.
    """
    if name != TUNED:
        return name
    found = find_tuned(model, head) if model is not None else None
    if found is None:
        where = "no --model was named" if model is None else f"there is no {FILE} in {head or model}"
        raise UserError(
            f"the decoder is '{TUNED}', but {where}, expected the folder of a model or head beside which "
            "tune --beside_model true left one; name another decoder"
        )
    return str(found)


def read_decoder(file: str) -> tuple[type[Decoder], dict[str, Any]]:
    """The decoder of a configuration file, as ``tune`` writes it, and its options (``docs/formats.md``).

    Raises:
        UserError: the file cannot be read, or names no decoder; an option does not exist.
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "it is no YAML text"
        raise UserError(
            f"the decoder's configuration {file} cannot be read ({reason}); name another --decoder"
        ) from error
    path = content.get("class_path") if isinstance(content, dict) else None
    options = (content.get("init_args") or {}) if isinstance(content, dict) else {}
    if not isinstance(path, str) or not isinstance(options, dict):
        raise UserError(
            f"{file} is no configuration of a decoder, expected class_path (as par) and init_args; correct it"
        )
    chosen = by_class().get(path.rsplit(".", 1)[-1]) if "." in path else None
    chosen = chosen or decoder_class(path)
    check_options(chosen, list(options))
    return chosen, options


def by_class() -> dict[str, type[Decoder]]:
    """The decoders by the names of their classes."""
    return {cls.__name__: cls for cls in DECODERS.values()}
