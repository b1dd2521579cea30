"""The input of a case: noise of a duration, and posteriors whose drafts have exactly so many masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode import Decoder
from parlab.model.encoded import Encoded
from parlab.recognition.recognizer import Recognizer
from parlab.types import Hypothesis

TOKENS_PER_SECOND = 4.0  # read English in pieces of a vocabulary of 5000


@dataclass(frozen=True)
class Case:
    """A batch of B utterances, on the recognizer's device.

    Attributes:
        seconds: duration of each utterance.
        masks: masked tokens of each draft.
        tokens: tokens of each draft.
        speech: (B, samples).
        lengths: (B,) samples of each utterance.
        encoded: encoder output of the speech, with posteriors that have the masks.
    """

    seconds: float
    masks: int
    tokens: int
    speech: Tensor
    lengths: Tensor
    encoded: Encoded

    def __len__(self) -> int:
        return len(self.speech)


@torch.inference_mode()
def make_case(recognizer: Recognizer, seconds: float, masks: int, batch: int, seed: int = 0) -> Case:
    """Noise, encoded by the model, with posteriors of our own: masks are single and evenly spread.

    A confident token has probability 0.999, a masked one 0.5; each stands on one frame, blanks between.
    """
    # 1. Random numbers come from the CPU: the same on every device.
    generator = torch.Generator().manual_seed(seed)
    speech = (torch.randn(batch, int(16000 * seconds), generator=generator) * 0.1).to(recognizer.device)
    lengths = torch.full((batch,), speech.size(1), device=recognizer.device)
    encoded = recognizer.encode_padded(speech, lengths)
    # 2. Tokens of the drafts; neighbours differ, so that no run merges.
    frames, vocabulary = encoded.states.size(1), recognizer.model.vocab_size
    count = max(int(TOKENS_PER_SECOND * seconds), 2 * masks + 1)
    ids = torch.randint(2, vocabulary - 1, (batch, count), generator=generator)
    for i in range(1, count):
        same = ids[:, i] == ids[:, i - 1]
        ids[:, i] = torch.where(same, (ids[:, i] + 1).clamp(max=vocabulary - 2), ids[:, i])
    # 3. Each token on a frame of its own.
    masked = set(torch.linspace(1, count - 2, masks).long().tolist()) if masks else set()
    probabilities = torch.full((batch, frames, vocabulary), 1e-3 / vocabulary)
    probabilities[..., 0] = 0.999
    rows = torch.arange(batch)
    for i, frame in enumerate(torch.linspace(1, frames - 2, count).long().tolist()):
        sure = 0.5 if i in masked else 0.999
        probabilities[:, frame, 0] = (1 - sure) / 2
        probabilities[rows, frame, ids[:, i]] = sure
    log_probs = torch.log(probabilities / probabilities.sum(-1, keepdim=True)).to(recognizer.device)
    return Case(seconds, masks, count, speech, lengths, replace(encoded, ctc_log_probs=log_probs))


def decode_whole(recognizer: Recognizer, decoder: Decoder, case: Case) -> list[Hypothesis]:
    """Decode a case from its waveforms; the search sees the posteriors of the case, which have the masks.

    The model's own posteriors stay in memory meanwhile, as in a decoding.
    """
    encoded = recognizer.encode_padded(case.speech, case.lengths)
    return recognizer.decode(decoder, replace(encoded, ctc_log_probs=case.encoded.posteriors))
