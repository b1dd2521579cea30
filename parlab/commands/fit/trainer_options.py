"""Options of Lightning's Trainer that ``fit`` cannot honour are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from parlab.errors import UserError

# Words of other libraries' ValueErrors: an interval longer than the epoch, a callback's option that no file can hold.
_ABOUT_OPTIONS = ("val_check_interval", "cannot represent an object")


def check_trainer(options: Any, command: str = "fit") -> None:
    """Refuse options that would be ignored, or would break the training.

    Raises:
        UserError: naming the first.
    """
    if options.overfit_batches:
        raise UserError(
            f"trainer.overfit_batches is {options.overfit_batches}, but batches are drawn anew in each epoch, expected 0; "
            "use --data.limit N, with the same data as data.train and data.dev"
        )
    if options.use_distributed_sampler:
        raise UserError(
            "trainer.use_distributed_sampler is true, but the batches are shared out among the devices already, expected "
            "false; leave it out"
        )
    if options.reload_dataloaders_every_n_epochs:
        raise UserError(
            f"trainer.reload_dataloaders_every_n_epochs is {options.reload_dataloaders_every_n_epochs}, but each epoch has "
            "new batches already, expected 0; leave it out"
        )
    for name in ("enable_checkpointing", "barebones"):
        value, wanted = getattr(options, name), name == "enable_checkpointing"
        if command == "fit" and value is not None and value is not wanted:
            raise UserError(
                f"trainer.{name} is {str(value).lower()}, but the model is made of checkpoints, expected "
                f"{str(wanted).lower()}; leave it out (--checkpoint.save_top_k 0 keeps only the last one)"
            )


@contextmanager
def explained(*more: type[Exception]) -> Iterator[None]:
    """Turn Lightning's complaints about its options into one sentence.

    Args:
        more: other exceptions that mean the same in the block.

    Raises:
        UserError: Lightning complained.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError) as error:
        # A ValueError of a training may be anything; these are about options.
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        about = [line for line in lines if any(word in line for word in _ABOUT_OPTIONS)]
        if not about and not isinstance(error, (MisconfigurationException, *more)):
            raise
        reason = (about or lines)[0]
        raise UserError(f"the trainer's options do not fit ({reason[:200]}); correct them") from error
