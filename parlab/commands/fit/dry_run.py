"""``fit --dry_run true``: everything that can be checked without training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from parlab.commands.fit.construct import describe
from parlab.commands.fit.datamodule import ASRData
from parlab.commands.fit.module import ASRModule
from parlab.commands.fit.optim import make_optimizer
from parlab.data.checks import check_headers, refuse_many_broken
from parlab.data.sampling import Order, TrainingSampler

_SHOWN = 10  # broken files that are named


class Alone:
    """The one process of a dry run (``Ranks``)."""

    is_global_zero = True

    def barrier(self, name: str | None = None) -> None:
        """Nobody to wait for."""


def dry_run(module: ASRModule, data: ASRData, devices: int) -> int:
    """Build the network, check every reference and every audio file's header, and print a summary.

    Returns:
        1 where files are broken, else 0.

    Raises:
        UserError: a training with these options would not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        module.build(data, Path(folder) / "tokenizer", Alone())
    net: Any = module.net
    assert net is not None and module.tokenizer is not None
    make_optimizer(net, module.optim)
    data.adapt_to(net, module.tokenizer)
    print(describe(net))
    print(data.describe())
    utterances, weights = data.fitting()
    sampler = TrainingSampler(utterances, data.batch_seconds, data.augmentation, weights, Order(seed=data.seed))
    print(f"batches: {len(sampler) // devices} an epoch on each of {devices} devices")
    failed = [*data.failed]
    for which, found in (("training", utterances), ("development", data.dev_utterances())):
        broken = check_headers(found)
        if broken:
            refuse_many_broken(len(broken), len(found), f"{which} utterances", broken[0].reason)
        failed += broken
    for failure in failed[:_SHOWN]:
        print(f"failed: {failure.id}: {failure.reason}")
    if len(failed) > _SHOWN:
        print(f"failed: {len(failed) - _SHOWN} more")
    print(f"nothing was trained; {len(failed)} broken files")
    return 1 if failed else 0
