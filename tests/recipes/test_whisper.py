"""The real Whisper tiny.en against transformers' ``generate``, where the weights are beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import AR
from parlab.metrics.wer import corpus_errors
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from parlab.text.normalizer import normalizer
from tests.whisper import features, generated


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["librispeech5", "an4"])
def test_tokens_are_those_of_generate(corpus: str, whisper_folder: Path, shared_data: Path) -> None:
    """Greedy, beam search, and both with times, in one batch, against one utterance at a time."""
    from transformers import WhisperForConditionalGeneration

    theirs = WhisperForConditionalGeneration.from_pretrained(whisper_folder, dtype=torch.float32).eval()
    options = theirs.generation_config
    options.no_timestamps_token_id, options.max_length = 50362, 448
    recognizer = Recognizer.read(whisper_folder, torch.device("cpu"))
    audio = [load_audio(u.audio, 16000) for u in read_data(shared_data / corpus / "dev.jsonl", 2)]
    x = features(whisper_folder, audio)
    for timed in (False, True):
        encoded = recognizer.asked(PromptOptions(timestamps=timed)).encode(audio)
        for beam_size in (1, 3):
            found = recognizer.decode(AR(beam_size=beam_size, ctc_weight=0.0), encoded)
            for i, hypothesis in enumerate(found):
                want = generated(theirs, x[i : i + 1], encoded.prompts[i], beam_size, timed, longest=448)
                assert list(hypothesis.tokens) == want


@pytest.mark.slow
def test_the_word_error_rate(whisper_folder: Path, shared_data: Path) -> None:
    recognizer = Recognizer.read(whisper_folder, torch.device("cpu"))
    utterances = read_data(shared_data / "librispeech5" / "dev.jsonl", 8)
    english = normalizer("whisper_english")
    encoded = recognizer.encode([load_audio(u.audio, 16000) for u in utterances])
    texts = [recognizer.named(h, "").text for h in recognizer.decode(AR(beam_size=1, ctc_weight=0.0), encoded)]
    errors = corpus_errors([english(u.text or "") for u in utterances], map(english, texts))
    assert errors["wer"].rate < 0.08
