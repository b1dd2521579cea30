"""What every family's test asks: numbers of the original, all decoders, batches, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parlab.decode import DECODERS
from parlab.errors import UserError
from parlab.model.caches import RowLayout
from parlab.model.folder import read_model
from parlab.recognition.recognizer import Recognizer
from tests.families.weights import tokens, waves

CPU = torch.device("cpu")
CLOSE = 1e-4


class Code:
    """A pickle of this runs code when it is read."""

    def __reduce__(self) -> Any:
        return print, ("code ran",)


def greedy(recognizer: Recognizer, audio: list[torch.Tensor]) -> list[tuple[int, ...]]:
    """AR greedy by the decoder alone."""
    return [h.tokens for h in recognizer.decode(DECODERS["ar"](beam_size=1, ctc_weight=0.0), recognizer.encode(audio))]


@torch.inference_mode()
def check_numbers(recognizer: Recognizer, golden: dict[str, Any], decoder: str = "left") -> dict[str, float]:
    """Encoder, CTC and decoder, in a batch, against the original's utterance by utterance; the largest differences.

    The decoder is asked in one pass and step by step.
    """
    model, encoded = recognizer.model, recognizer.encode(waves())
    largest = {"encoder": 0.0, "ctc": 0.0, "decoder": 0.0}

    def compare(name: str, ours: torch.Tensor, theirs: Any) -> None:
        assert ours.shape == theirs.shape
        difference = (ours - torch.from_numpy(theirs)).abs().max()
        largest[name] = max(largest[name], float(difference))

    start = torch.tensor([encoded.prompts[i] for i in range(3)])
    own = "tokens0" in golden  # where some ids are not to be asked
    texts = torch.tensor(np.stack([golden[f"tokens{i}"] for i in range(3)])) if own else tokens(model.vocab_size, 3, 7)
    ids = torch.cat([start, texts], 1)
    cross = model.rows.cross_cache(encoded.states, encoded.frames)
    hidden, _ = model.rows.prefill(ids, cross)
    half = ids.size(1) // 2
    _, prefix = model.rows.prefill(ids[:, :half], cross)
    layout, suffix, steps = RowLayout.of(torch.arange(3), torch.full((3,), half), 3), None, []
    for i in range(half, ids.size(1)):
        state, suffix = model.rows.step(ids[:, i], layout, cross, prefix, suffix)
        steps.append(state)
    for i in range(3):
        frames = int(encoded.frames[i])
        compare("encoder", encoded.states[i, :frames], golden[f"states{i}"])
        if f"ctc{i}" in golden:
            compare("ctc", encoded.posteriors[i, :frames], golden[f"ctc{i}"])
        compare("decoder", model.rows.logits(hidden[i]), golden[f"{decoder}{i}"])
        compare("decoder", model.rows.logits(torch.stack(steps, 1)[i]), golden[f"{decoder}{i}"][half:])
    assert max(largest.values()) < CLOSE, largest
    return largest


def check_features(recognizer: Recognizer, golden: dict[str, Any], atol: float, rtol: float) -> None:
    """The features of a batch, against the original's utterance by utterance."""
    audio = waves()
    assert recognizer.model.frontend is not None
    x, frames = recognizer.model.frontend(
        torch.nn.utils.rnn.pad_sequence(audio, batch_first=True), torch.tensor([len(w) for w in audio])
    )
    for i, count in enumerate(frames.tolist()):
        torch.testing.assert_close(x[i, :count], torch.from_numpy(golden[f"features{i}"]), atol=atol, rtol=rtol)


def check_greedy(recognizer: Recognizer, golden: dict[str, Any]) -> None:
    """The tokens of the original's own search, beam 1."""
    assert greedy(recognizer, waves()) == [tuple(golden[f"greedy{i}"].tolist()) for i in range(3)]


def check_batches(recognizer: Recognizer) -> None:
    """Every decoder gives an utterance alone what it gives it in a batch, in any order."""
    audio = waves()
    names = [n for n in DECODERS if recognizer.model.ctc is not None or n == "ar"]
    for name in names:
        options = {} if recognizer.model.ctc is not None else {"ctc_weight": 0.0}
        decoder = DECODERS[name](**options)
        together = recognizer.decode(decoder, recognizer.encode(audio))
        back = recognizer.decode(decoder, recognizer.encode(audio[::-1]))[::-1]
        alone = [recognizer.decode(decoder, recognizer.encode([wave]))[0] for wave in audio]
        assert [h.tokens for h in together] == [h.tokens for h in back] == [h.tokens for h in alone], name
        assert [h.score for h in together] == pytest.approx([h.score for h in alone], abs=1e-3)
        assert all(isinstance(recognizer.tokenizer.decode(h.tokens), str) for h in together)


def check_refused(folder: Path, change: Callable[[Path], Any], message: str) -> None:
    """A folder that was changed is refused with one sentence that says this."""
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        read_model(folder)
    text = str(caught.value)
    assert "\n" not in text and len(re.findall(r"[.!] [A-Z]", text)) == 0
