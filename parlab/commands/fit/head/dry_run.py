"""``fit --kind head --dry_run true``: what can be checked without encoding the data."""

from __future__ import annotations

from parlab.commands.fit.head.data import HeadData
from parlab.commands.fit.head.module import HeadModule
from parlab.data.sampling import Augmentation, Order, TrainingSampler


def dry_run_head(module: HeadModule, data: HeadData, devices: int) -> int:
    """Read model, data and labels, make the vocabulary, and print a summary.

    Returns:
        1 where files are broken, else 0.

    Raises:
        UserError: a training with these options would not start.
    """
    tokens = len(data.vocabulary().token_list)
    print(data.describe())
    sampler = TrainingSampler(
        data.train_utterances(), data.batch_seconds, Augmentation(speeds=data.speeds), None, Order(seed=data.seed)
    )
    print(f"{tokens} characters; batches: {len(sampler) // devices} an epoch on each of {devices} devices")
    for failure in data.failed[:10]:
        print(f"failed: {failure.id}: {failure.reason}")
    print(f"nothing was trained; {len(data.failed)} broken files")
    return 1 if data.failed else 0
