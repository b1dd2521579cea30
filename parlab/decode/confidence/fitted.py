"""Options of measures that were fitted to a model, in a file beside it: its temperature, and a learned combination.

``tune`` writes the file; ``posterior:file=DIR`` and ``learned:file=DIR`` read their options from it.
"""

from __future__ import annotations

import json
from pathlib import Path

from parlab.errors import UserError

FILE, VERSION = "confidence.json", 1
_OPTION = "file="


def with_fitted(text: str) -> str:
    """A measure's name and options, with the options that a file has for it in place of ``file=PATH``.

    Args:
        text: as ``learned:file=exp/model``; PATH is the file, or the folder that it lies in.

    Raises:
        UserError: there is no such file, or it has nothing for this measure.
    """
    name, _, given = text.partition(":")
    options = given.split(",")
    named = [option for option in options if option.startswith(_OPTION)]
    if not named:
        return text
    fitted = read_fitted(Path(named[-1].removeprefix(_OPTION)))
    if name not in fitted:
        known = ", ".join(sorted(fitted)) or "none"
        raise UserError(
            f"{named[-1].removeprefix(_OPTION)} has no options of the measure '{name}', expected one of {known}; leave {named[-1]} out"
        )
    own = [f"{option}={value}" for option, value in fitted[name].items()]
    return f"{name}:{','.join([*own, *(option for option in options if option not in named)])}"


def read_fitted(path: Path) -> dict[str, dict[str, str | float]]:
    """The options of each measure that a file has any for.

    Args:
        path: the file, or the folder that it lies in.

    Raises:
        UserError: it cannot be read, or another version of parlab wrote it.
    """
    path = path / FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, measures = content["version"], content["measures"]
        found = {str(name): dict(options) for name, options in measures.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is none"
        raise UserError(
            f"{path} cannot be read ({reason}), expected the {FILE} that tune writes; make one with --out or name another"
        ) from error
    if version != VERSION:
        raise UserError(f"{path} is of version {version}, expected {VERSION}; make it anew with tune")
    return found
