"""What ``fit`` and ``validate`` work on: a model, or a draft head on a frozen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from parlab.errors import UserError, nearest
from parlab.options.compose import expand

KINDS = ("model", "head")


@dataclass(frozen=True)
class Kind:
    """The classes of a command line.

    Attributes:
        module, data: Lightning's.
        export: the callback that writes the result into the run folder.
        dry_run: checks configuration and data in full: module, data and devices to an exit status.
    """

    module: type
    data: type
    export: type
    dry_run: Callable[[Any, Any, int], int]


def kind_of(argv: Sequence[str]) -> Kind:
    """The kind that the command line, or else the configuration, names.

    Raises:
        UserError: there is no such kind.
    """
    arguments = [part for argument in expand(argv) for part in argument.split("=", 1)]
    name = "model"
    for option, value in pairwise(arguments):
        if option == "--config":
            config = yaml.safe_load(value)
            name = str(config.get("kind", name)) if isinstance(config, dict) else name
    for option, value in pairwise(arguments):
        name = value if option == "--kind" else name
    if name not in KINDS:
        raise UserError(f"the kind is '{name}', expected {' or '.join(KINDS)}{nearest(name, KINDS)}; correct it")
    if name == "model":
        from parlab.commands.fit.callbacks import ExportModel
        from parlab.commands.fit.datamodule import ASRData
        from parlab.commands.fit.dry_run import dry_run
        from parlab.commands.fit.module import ASRModule

        return Kind(ASRModule, ASRData, ExportModel, dry_run)
    from parlab.commands.fit.head.data import HeadData
    from parlab.commands.fit.head.dry_run import dry_run_head
    from parlab.commands.fit.head.export import ExportHead
    from parlab.commands.fit.head.module import HeadModule

    return Kind(HeadModule, HeadData, ExportHead, dry_run_head)
