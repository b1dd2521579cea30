"""The points of a sweep: a grid, a list or a random sample over a decoder's options."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from parlab.decode import Decoder
from parlab.errors import UserError
from parlab.options.decoder_names import check_options, decoder_class, read_decoder
from parlab.options.decoders import make_decoder, with_usual


@dataclass(frozen=True)
class Point:
    """One setting: the options that the sweep varies, and the decoder with them."""

    name: str
    options: Mapping[str, Any]
    decoder: Decoder


# 6 parameters: the options of the command.
def make_points(
    decoder: str,
    grid: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]] = (),
    sample: int | None = None,
    seed: int = 0,
    drafts: bool = False,
) -> list[Point]:
    """All combinations of ``grid`` (option -> values), or ``points`` as they stand, or a random ``sample`` of either.

    Args:
        decoder: a name, or a configuration file.
        drafts: whether a draft head drafts, with which other options are usual.

    Raises:
        UserError: an unknown decoder or option, a value it refuses, or no point at all.
    """
    values = {name: list(v) if isinstance(v, (list, tuple)) else [v] for name, v in grid.items()}
    in_file = decoder.endswith((".yaml", ".yml"))
    kind = read_decoder(decoder)[0] if in_file else decoder_class(decoder)
    check_options(kind, list(values))
    chosen: list[dict[str, Any]] = [dict(p) for p in points]
    if not chosen:
        chosen = [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
    made = [
        Point(point_name(options), options, make_decoder(decoder, **with_usual(kind, options, drafts and not in_file)))
        for options in chosen
    ]
    if sample is not None and sample < len(made):
        made = random.Random(seed).sample(made, sample)
    if not made:
        raise UserError("the sweep has no points, expected options with values; write --decoder.threshold 0.5,0.9")
    if len({p.name for p in made}) != len(made):
        raise UserError("two points of the sweep have the same options; remove one")
    return made


def point_name(options: Mapping[str, Any]) -> str:
    """A folder name: ``threshold=0.9,beam_size=10``."""
    text = ",".join(f"{name}={value}" for name, value in options.items()) or "default"
    return re.sub(r"[^\w=.,+-]", "_", text)


def split_values(argv: Sequence[str]) -> list[str]:
    """Map ``--decoder.threshold 0.5,0.9`` to ``--grid.threshold [0.5, 0.9]``."""
    out: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument.startswith("--decoder."):
            name, has_value, value = argument.partition("=")
            text = value if has_value else next(arguments, "")
            try:
                parsed = yaml.safe_load(text if text.startswith("[") else f"[{text}]")
            except yaml.YAMLError as error:
                raise UserError(f"{name} is '{text}', expected values with commas between; correct it") from error
            out += [
                f"--grid.{name.removeprefix('--decoder.')}",
                yaml.safe_dump(parsed, default_flow_style=True).strip(),
            ]
        else:
            out.append(argument)
    return out
