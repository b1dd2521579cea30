"""Batches: content, lengths, limits, determinism, and that prediction has each utterance exactly once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.data.audio import load_audio
from parlab.data.examples import AudioCache, Item, TrainingSet
from parlab.data.plan import prediction_batches
from parlab.data.sampling import Augmentation, Order, TrainingSampler
from parlab.data.utterance import Utterance
from parlab.text.tokenizer import Tokenizer

LETTERS = Tokenizer(["<blank>", "<unk>", "<space>", *"ABC", "<sos/eos>"], "char")


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """Three tones of 0.5, 1 and 1.5 s."""
    made = []
    for i, text in enumerate(["A", "B C", "CAB"]):
        seconds = 0.5 * (i + 1)
        time = np.arange(round(16000 * seconds)) / 16000
        soundfile.write(tmp_path / f"{i}.wav", 0.3 * np.sin(2 * np.pi * 200 * (i + 1) * time), 16000)
        made.append(Utterance(f"u{i}", tmp_path / f"{i}.wav", text, seconds))
    return made


def of_seconds(*seconds: float | None) -> list[Utterance]:
    return [Utterance(f"u{i:03}", Path(f"{i}.wav"), "A", s) for i, s in enumerate(seconds)]


def many(count: int = 200) -> list[Utterance]:
    return of_seconds(*np.random.default_rng(0).uniform(0.5, 12.0, count).round(2).tolist())


def plain(*indices: int, speed: float = 1.0, gain: float = 1.0) -> Item:
    return Item(indices, speed, gain, 1.0)


def test_collate(utterances: list[Utterance]) -> None:
    batch = TrainingSet(utterances, LETTERS, 16000)[[plain(0), plain(2), plain(1)]]
    assert batch.speech.dtype == torch.float32 and batch.speech.shape == (3, 24000)
    assert batch.speech_lengths.tolist() == [8000, 24000, 16000]
    assert torch.equal(batch.speech[0, :8000], load_audio(utterances[0].audio, 16000))
    assert not batch.speech[0, 8000:].any()
    assert batch.targets.text.tolist() == [[3, -1, -1], [5, 3, 4], [4, 2, 5]]
    assert batch.targets.text_lengths.tolist() == [1, 3, 3]
    assert batch.ids == ["u0", "u2", "u1"] and batch.references == ["A", "CAB", "B C"]
    assert batch.seconds == 3.0


def test_joined_speed_and_gain(utterances: list[Utterance]) -> None:
    data = TrainingSet(utterances, LETTERS, 16000)
    joined = data[[plain(0, 1)]]
    assert joined.references == ["A B C"] and joined.ids == ["u0+u1"] and joined.speech_lengths.tolist() == [24000]
    fast, loud = data[[plain(1, speed=1.25)]], data[[plain(1, gain=2.0)]]
    assert fast.speech_lengths.tolist() == [12800]
    assert torch.allclose(loud.speech[0], 2 * data[[plain(1)]].speech[0])
    # 25 % faster: 400 Hz is heard as 500 Hz.
    spectrum = torch.fft.rfft(fast.speech[0]).abs()
    assert float(spectrum.argmax()) * 16000 / 12800 == pytest.approx(500.0, abs=2.0)


def test_the_cache_reads_once_and_changes_nothing(utterances: list[Utterance], tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-1.1, 1.1, 9000)  # beyond full scale, and between 16-bit steps
    soundfile.write(tmp_path / "n.wav", noise, 11025, subtype="FLOAT")
    utterance = Utterance("n", tmp_path / "n.wav", "A", 9000 / 11025)
    cache, none = AudioCache(16000), AudioCache(16000, max_bytes=10)
    first = cache.load(utterance)
    assert np.abs(first - load_audio(utterance.audio, 16000).clamp(-1, 1).numpy()).max() <= 1 / 32768
    utterance.audio.rename(tmp_path / "away.wav")
    assert np.array_equal(cache.load(utterance), first)
    (tmp_path / "away.wav").rename(utterance.audio)
    for _ in range(2):  # without a cache the values are the same, so that a resumed run sees what an unbroken run sees
        assert np.array_equal(none.load(utterance), first)
    assert cache.stored_bytes == 2 * len(first) and none.stored_bytes == 0 and not none.store


def test_truncated_training_audio(utterances: list[Utterance]) -> None:
    samples, _ = soundfile.read(utterances[2].audio)
    soundfile.write(utterances[2].audio, samples[:8000], 16000)
    data = TrainingSet(utterances, LETTERS, 16000)
    alone, beside, joined = data[[plain(2)]], data[[plain(2), plain(0)]], data[[plain(0, 2), plain(1)]]
    assert [batch.ids for batch in (alone, beside, joined)] == [[], ["u0"], ["u1"]]
    assert alone.speech.shape == (0, 0) and alone.targets.text.shape[0] == len(alone.references) == 0
    for batch in (alone, beside, joined):
        assert [f.id for f in batch.failed] == ["u2"] and "truncated" in batch.failed[0].reason


@pytest.mark.parametrize("count", [3, 30, 200])
def test_an_epoch_has_everything_once_within_the_limit(count: int) -> None:
    utterances = many(count)
    batches = list(TrainingSampler(utterances, 40.0))
    assert sorted(i for batch in batches for item in batch for i in item.parts) == list(range(count))
    for batch in batches:
        assert sum(item.seconds for item in batch) <= 40.0
        assert all(item.seconds == utterances[item.parts[0]].duration for item in batch)


def test_buckets_waste_little_padding() -> None:
    def waste(batches: list[list[Item]]) -> float:
        padded = sum(len(b) * max(i.seconds for i in b) for b in batches)
        return 1 - sum(i.seconds for b in batches for i in b) / padded

    in_buckets = list(TrainingSampler(many(400), 60.0))
    unsorted = list(TrainingSampler(many(400), 60.0, order=Order(buckets=1)))
    assert waste(in_buckets) < 0.15 < waste(unsorted)


def test_a_longer_utterance_than_the_limit_is_kept() -> None:
    batches = list(TrainingSampler(of_seconds(2.0, 50.0, 2.0), 10.0))
    assert sorted(i for b in batches for item in b for i in item.parts) == [0, 1, 2]


def test_seed_and_epoch_decide_everything() -> None:
    augmentation = Augmentation((0.9, 1.0, 1.1), 0.5, 8.0, 6.0)
    one, same, other = (TrainingSampler(many(), 60.0, augmentation, order=Order(seed=seed)) for seed in (1, 1, 2))
    first = list(one)
    assert first == list(same) != list(other)
    assert list(one) == first  # a second time in the same epoch
    one.set_epoch(3)
    later = list(one)
    assert later != first
    same.set_epoch(3)  # as after a resume
    assert list(same) == later and len(same) == len(later)


def test_augmentation() -> None:
    utterances = many()
    augmentation = Augmentation((0.9, 1.1), 0.5, 8.0, 6.0)
    items = [item for batch in TrainingSampler(utterances, 60.0, augmentation) for item in batch]
    assert sorted(i for item in items for i in item.parts) == list(range(200))
    assert {item.speed for item in items} == {0.9, 1.1}
    assert all(10 ** (-0.3) <= item.gain <= 10**0.3 for item in items) and len({item.gain for item in items}) > 100
    joined = [item for item in items if len(item.parts) > 1]
    assert len(joined) > 10
    for item in items:
        whole = sum(utterances[i].duration or 0 for i in item.parts)
        assert item.seconds == pytest.approx(whole / item.speed)
        assert len(item.parts) == 1 or whole <= 8.0


def test_weights_are_occurrences_in_an_epoch() -> None:
    sampler = TrainingSampler(many(100), 60.0, weights=[2.0] * 20 + [0.5] * 80)
    halves = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        parts = [item.parts[0] for item in sampler.items()]
        assert all(parts.count(i) == 2 for i in range(20))
        halves.append(len(parts) - 40)
    assert 36 < np.mean(halves) < 44 and len(set(halves)) > 1


def test_without_shuffling_the_order_is_the_datas() -> None:
    sampler = TrainingSampler(of_seconds(1.0, 2.0, 3.0), 60.0, order=Order(shuffle=False))
    assert [item.parts for item in sampler.items()] == [(0,), (1,), (2,)]


durations = st.lists(st.one_of(st.none(), st.floats(0.1, 60.0)), max_size=40)


@given(durations, st.integers(1, 7), st.floats(1.0, 300.0), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_prediction_has_each_once(seconds: list[float | None], size: int, limit: float, world: int) -> None:
    utterances = of_seconds(*seconds)
    shares = [prediction_batches(utterances, size, limit, rank, world) for rank in range(world)]
    dealt = [u.id for share in shares for batch in share for u in batch]
    assert sorted(dealt) == [u.id for u in utterances]
    for batch in (batch for share in shares for batch in share):
        assert 0 < len(batch) <= size
        longest = max(u.duration or 10.0 for u in batch)
        assert len(batch) == 1 or longest * len(batch) <= limit
    # Batches are the same for any number of devices, so that results cannot depend on it.
    alone = {tuple(u.id for u in batch) for batch in prediction_batches(utterances, size, limit)}
    assert {tuple(u.id for u in batch) for share in shares for batch in share} == alone


@given(st.randoms(use_true_random=False), durations)
@settings(max_examples=50, deadline=None)
def test_prediction_does_not_depend_on_the_order(rng: object, seconds: list[float | None]) -> None:
    utterances = of_seconds(*seconds)
    mixed = list(utterances)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert prediction_batches(utterances, 4, 60.0, 1, 2) == prediction_batches(mixed, 4, 60.0, 1, 2)


def test_ranks_get_as_much_audio() -> None:
    shares = [prediction_batches(many(300), 8, 120.0, rank, 4) for rank in range(4)]
    audio = [sum(u.duration or 0 for batch in share for u in batch) for share in shares]
    assert max(audio) / min(audio) < 1.1


def test_more_ranks_than_utterances() -> None:
    shares = [prediction_batches(of_seconds(1.0, 2.0), 1, 60.0, rank, 5) for rank in range(5)]
    assert sorted(map(len, shares)) == [0, 0, 0, 1, 1]


def test_real_speech(shared_data: Path) -> None:
    from parlab.data.sources import read_data

    utterances = read_data(shared_data / "an4" / "dev.jsonl")
    tokenizer = Tokenizer(["<blank>", "<unk>", "<space>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'", "<sos/eos>"], "char")
    sampler = TrainingSampler(utterances, 60.0, Augmentation((0.9, 1.0, 1.1)))
    data = TrainingSet(utterances, tokenizer, 16000)
    total = 0.0
    for items in sampler:
        batch = data[items]
        assert torch.isfinite(batch.speech).all() and (batch.targets.text_lengths > 0).all()
        assert batch.speech_lengths.tolist() == pytest.approx([i.seconds * 16000 for i in items], abs=200)
        total += batch.seconds
    assert total == pytest.approx(0.09 * 3600, rel=0.2)
