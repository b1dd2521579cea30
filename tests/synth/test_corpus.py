"""Synthetic corpora: the same seed makes the same files; the manifest tells the truth."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parlab.data.sources import read_data
from parlab.errors import UserError
from parlab.synth.corpus import Amount, Recipe, main, speakers_of, write_corpus
from parlab.synth.effects import augment
from parlab.synth.espeak import VARIANTS


def _digests(manifest: Path) -> dict[str, str]:
    return {u.id: hashlib.sha256(u.audio.read_bytes()).hexdigest() for u in read_data(manifest)}


def test_same_arguments_same_corpus(tmp_path: Path) -> None:
    recipe = Recipe(seed=3, speakers=7)
    one = write_corpus(recipe, tmp_path / "one", Amount(count=9))
    two = write_corpus(recipe, tmp_path / "two", Amount(count=9), workers=2)
    assert one.read_bytes() == two.read_bytes()
    assert _digests(one) == _digests(two)
    assert _digests(one) != _digests(write_corpus(Recipe(seed=4, speakers=7), tmp_path / "three", Amount(count=9)))


def test_manifest_agrees_with_the_files(tmp_path: Path) -> None:
    shares: list[float] = []
    manifest = write_corpus(Recipe("demo", speakers=5), tmp_path, Amount(hours=0.01), progress=shares.append)
    found = read_data(manifest)
    assert sum(u.duration or 0 for u in found) == pytest.approx(36, abs=15)
    assert shares[-1] == 1.0
    assert len({u.speaker for u in found}) > 1
    for u in found:
        info = soundfile.info(u.audio)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.duration == pytest.approx(u.duration, abs=1e-3)
    assert len(list((tmp_path / "audio").rglob("*.flac"))) == len(found)  # nothing made ahead is left


def test_every_variant_speaks_before_one_speaks_twice() -> None:
    speakers = speakers_of(Recipe(speakers=len(VARIANTS)))
    assert {s.voice.variant for s in speakers} == set(VARIANTS)
    assert len({s.name for s in speakers}) == len(VARIANTS)


def test_augment_is_deterministic_and_never_clips() -> None:
    wave = np.sin(np.arange(16000) / 20).astype(np.float32)
    for seed in range(30):
        out = augment(wave, np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert len(out) > len(wave)
        assert 0.09 < np.abs(out).max() <= 0.951
        assert np.array_equal(out, augment(wave, np.random.default_rng(seed)))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--grammar", "demo", "--count", "3", "--out", str(tmp_path), "--plain"]) == 0
    assert "3 utterances" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "manifest.jsonl").read_text().splitlines()[0])["text"]) > 3
    assert main(["--grammar", "an5", "--count", "3", "--out", str(tmp_path)]) == 2
    assert "did you mean 'an4'" in capsys.readouterr().err


def test_neither_hours_nor_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected one of them"):
        write_corpus(Recipe(), tmp_path, Amount())
