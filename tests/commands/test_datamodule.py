"""Data for fit: sources and weights, epochs of one length, shares of ranks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parlab.commands.fit.batches import EpochSampler
from parlab.commands.fit.datamodule import ASRData
from parlab.data.sampling import Augmentation, TrainingSampler
from parlab.errors import UserError
from parlab.text.tokenizer import Tokenizer


def trainer(rank: int = 0, world: int = 1, done: int = 0) -> Any:
    progress = SimpleNamespace(current=SimpleNamespace(ready=done))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(global_rank=rank, world_size=world, fit_loop=loop)


def letters() -> Tokenizer:
    return Tokenizer(["<blank>", "<unk>", "<space>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "<sos/eos>"], "char")


def make(corpus: tuple[Path, Path], **options: Any) -> ASRData:
    data = ASRData(**{"train": str(corpus[0]), "dev": str(corpus[1]), "batch_seconds": 10.0, **options})
    data.tokenizer = letters()
    return data


def test_sources_with_weights(noise_corpus: tuple[Path, Path]) -> None:
    data = make(noise_corpus, train={str(noise_corpus[0]): 1.0, str(noise_corpus[1]): 2.0})
    utterances, weights = data.train_utterances()
    assert len(utterances) == 50 and weights == [1.0] * 44 + [2.0] * 6
    loader = data.train_dataloader()
    seen = [name for batch in loader for name in batch.ids]
    assert len(loader) == len(list(loader.sampler))
    assert {seen.count(u.id) for u in utterances[44:]} == {2} and {seen.count(u.id) for u in utterances[:44]} == {1}


def test_durations_and_normalisation(noise_corpus: tuple[Path, Path]) -> None:
    data = make(noise_corpus, min_seconds=1.0, max_seconds=1.2, normalize="lower")
    utterances, _ = data.train_utterances()
    assert 0 < len(utterances) < 44 and all(1.0 <= (u.duration or 0) <= 1.2 for u in utterances)
    assert all(u.text == (u.text or "").lower() for u in utterances)
    assert len(data.dev_utterances()) == 6


def test_epochs_differ_but_have_one_length(noise_corpus: tuple[Path, Path]) -> None:
    utterances, _ = make(noise_corpus).train_utterances()
    augmentation = Augmentation(speeds=(0.8, 1.0, 1.2))
    sampler = EpochSampler(TrainingSampler(utterances, 10.0, augmentation), trainer())
    epochs = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert {len(batches) for batches in epochs} == {len(sampler)}
    assert epochs[0] != epochs[1]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]


def test_a_resumed_epoch_leaves_out_what_is_done(noise_corpus: tuple[Path, Path]) -> None:
    utterances, _ = make(noise_corpus).train_utterances()
    whole, rest = (EpochSampler(TrainingSampler(utterances, 10.0), trainer(done=done)) for done in (0, 3))
    batches = iter(rest)  # Lightning makes the iterator before it sets the epoch
    for sampler in (whole, rest):
        sampler.set_epoch(2)
    assert list(batches) == list(whole)[3:]


def test_ranks_share_the_training_and_development_data(noise_corpus: tuple[Path, Path]) -> None:
    training: list[list[str]] = []
    development: list[list[str]] = []
    for rank in range(2):
        data = make(noise_corpus)
        data.trainer = trainer(rank, 2)
        training.append([name for batch in data.train_dataloader() for name in batch.ids])
        development.append([name for batch in data.val_dataloader() for name in batch.ids])
    assert not set(training[0]) & set(training[1])
    assert sorted(development[0] + development[1]) == sorted(u.id for u in data.dev_utterances())
    assert all(development)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_every_rank_gets_as_many_batches_and_none_twice(noise_corpus: tuple[Path, Path], world: int) -> None:
    utterances, _ = make(noise_corpus).train_utterances()
    shares = [list(EpochSampler(TrainingSampler(utterances, 10.0), trainer(rank, world))) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1 and shares[0]
    dealt = [item.parts for share in shares for batch in share for item in batch]
    assert len(dealt) == len(set(dealt))


def test_too_few_development_utterances_for_the_devices(noise_corpus: tuple[Path, Path]) -> None:
    data = make(noise_corpus)
    data.trainer = trainer(0, 7)
    with pytest.raises(UserError, match="6 development utterances for 7 devices"):
        data.val_dataloader()


@pytest.mark.parametrize("which", ["train", "dev"])
def test_no_data(which: str) -> None:
    with pytest.raises(UserError, match=f"expected data.{which}"):
        ASRData().train_utterances() if which == "train" else ASRData().dev_utterances()


def test_a_reference_that_cannot_be_spelt(noise_corpus: tuple[Path, Path], tmp_path: Path) -> None:
    entry = json.loads(noise_corpus[0].read_text().splitlines()[0])
    entry |= {"audio_filepath": str(noise_corpus[0].parent / "0.wav"), "text": "ÉTÉ"}
    (tmp_path / "d.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot spell 'É'"):
        make((tmp_path / "d.jsonl", noise_corpus[1])).train_dataloader()
