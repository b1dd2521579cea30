"""Starting and ending W&B runs: which mode, and what happens where W&B does not answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parlab.errors import UserError, nearest

MODES = ("auto", "online", "offline", "off")
# What WANDB_MODE may say, and the mode that it stands for.
_PRESETS = {"online": "online", "run": "online", "shared": "online", "offline": "offline", "dryrun": "offline"}
_INIT_SECONDS = 30.0  # W&B itself waits 90 s for a server that does not answer


@dataclass(frozen=True)
class RunOptions:
    """Where a run goes: the mode (one of ``MODES``), the W&B project, and the directory that offline runs lie in."""

    mode: str
    project: str
    directory: Path


def resolve_mode(mode: str) -> str:
    """Decide what ``auto`` means: what ``WANDB_MODE`` says, else online where a key is set, else offline.

    Raises:
        UserError: an unknown mode, or an unknown ``WANDB_MODE``.
    """
    if mode not in MODES:
        raise UserError(f"the W&B mode is '{mode}', expected one of {', '.join(MODES)}{nearest(mode, MODES)}")
    preset = os.environ.get("WANDB_MODE", "")
    if preset == "disabled" or mode == "off":  # it would not override an explicit "offline"
        return "off"
    if preset and preset not in _PRESETS:  # W&B would refuse it, whatever the option says
        known = ("online", "offline", "disabled")
        raise UserError(
            f"the environment variable WANDB_MODE is '{preset}', expected one of {', '.join(known)}"
            f"{nearest(preset, known)}; correct or unset it"
        )
    if mode != "auto":
        return mode
    if preset:  # the mode that wandb.init is given would override it
        return _PRESETS[preset]
    import netrc

    try:
        known_hosts = netrc.netrc().hosts  # what `wandb login` writes
        key = any("wandb" in host or "coreweave" in host for host in known_hosts)
    except (OSError, netrc.NetrcParseError):
        key = False
    return "online" if key or os.environ.get("WANDB_API_KEY") else "offline"


def start_run(options: RunOptions, **settings: Any) -> Any | None:
    """Start a W&B run with the ``settings`` of ``wandb.init``; None where W&B is switched off or does not start.

    A server that does not answer, or a key that it does not take, costs a warning, and the run is an offline one.

    Raises:
        UserError: an unknown mode.
    """
    mode = resolve_mode(options.mode)
    if mode == "off":
        return None
    for attempt in ("online", "offline") if mode == "online" else ("offline",):
        try:
            return _init(options, attempt, settings)
        except Exception as error:
            if attempt == "online":
                warn(error, f"the run stays offline in {options.directory}/wandb, from where `wandb sync` uploads it")
            else:
                warn(error, "the run is not logged there, only in files")
    return None


def _init(options: RunOptions, mode: str, settings: dict[str, Any]) -> Any:
    import wandb

    waits: dict[str, Any] = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": _INIT_SECONDS}
    return wandb.init(
        project=options.project,
        mode="online" if mode == "online" else "offline",
        dir=str(options.directory),
        settings=wandb.Settings(silent=True, console="off", **waits),
        **settings,
    )


def finish_run(run: Any) -> None:
    """End a run and wait until all of it is on the disk.

    W&B's service writes on its own: after ``finish`` an offline run's file may still be empty for a moment.
    """
    import wandb

    run.finish()
    if wandb.run is None:  # stopping the service would end a run that the caller has open
        wandb.teardown()


@contextmanager
def never_fatal(remark: str) -> Iterator[None]:
    """Turn what W&B raises in the block into a warning that ends with ``remark``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        warn(error, remark)


def warn(error: Exception, remark: str) -> None:
    """A line on stderr about an error of W&B."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    print(f"warning: W&B does not answer ({reason[:160]}); {remark}", file=sys.stderr, flush=True)
