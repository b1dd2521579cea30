"""A long recording of real speech: what is heard in one file is what is heard in its parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import PAR, Greedy
from tests.helpers import predict

MODEL = Path(__file__).parents[2] / "recipes" / "an4" / "model"
PIECE_SECONDS = 8.0  # its decoder was trained on utterances of at most 6.3 s: in pieces of 12 s it errs by itself, away from the seams


@pytest.mark.parametrize("decoder", [Greedy(), PAR()], ids=lambda d: d.name)
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_nothing_is_lost_or_doubled_at_the_seams(decoder, gap: float, shared_data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """AN4's dev as one file of five minutes, with and without pauses between: WER within 1 % absolute of the parts alone."""
    data = shared_data / "an4" / "dev.jsonl"
    parts = predict(str(MODEL), str(data), decoder, tmp_path / "parts")
    utterances = read_data(data)
    silence = np.zeros(round(gap * 16000), dtype=np.float32)
    waves = [wave for u in utterances for wave in (load_audio(u.audio, 16000).numpy(), silence)]
    soundfile.write(tmp_path / "long.flac", np.concatenate(waves), 16000)
    entry = {"id": "long", "audio_filepath": "long.flac", "text": " ".join(u.text or "" for u in utterances)}
    (tmp_path / "long.jsonl").write_text(json.dumps(entry) + "\n")
    pieces = {"long_audio": True, "piece_seconds": PIECE_SECONDS}
    long = predict(MODEL, tmp_path / "long.jsonl", decoder, tmp_path / "long", **pieces)
    assert parts is not None and long is not None
    assert long.wer is not None and parts.wer is not None
    assert long.wer.total == parts.wer.total
    assert abs(long.wer.rate - parts.wer.rate) <= 0.01
