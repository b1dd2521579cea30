"""What PAR makes of a sample of the development data with the head as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from parlab.data.audio import load_audio
from parlab.data.plan import prediction_batches
from parlab.data.utterance import Utterance
from parlab.decode import Decoder, default_decoder
from parlab.metrics.wer import word_errors
from parlab.model.encoded import Encoded
from parlab.model.heads.folder import Head
from parlab.model.heads.reading import Reading
from parlab.recognition.padded import PaddedWaves
from parlab.recognition.recognizer import Recognizer

_BATCH_SIZE, _BATCH_SECONDS = 8, 240.0


@dataclass(frozen=True)
class EncodedSample:
    """Utterances that the frozen encoder saw once; each validation then costs the head and the search.

    There are none for a decoder that PAR cannot fill with.

    Attributes:
        batches: the utterances of each batch, the encoder's output, and what the head reads.
    """

    recognizer: Recognizer
    decoder: Decoder
    batches: list[tuple[list[Utterance], Encoded, Reading]]

    @staticmethod
    def of(recognizer: Recognizer, layers: Sequence[int], utterances: Sequence[Utterance]) -> EncodedSample:
        """Encode utterances, each of which is known to load.

        Args:
            layers: what the head reads.
        """
        model = recognizer.model
        decoder = default_decoder(model, drafts=True)
        found = []
        for batch in prediction_batches(utterances if decoder.name == "par" else [], _BATCH_SIZE, _BATCH_SECONDS):
            waves = [load_audio(u.audio, model.sample_rate, u.start, u.duration, model.min_samples) for u in batch]
            speech, lengths = PaddedWaves.of(waves).on(recognizer.device)
            found.append((list(batch), *recognizer.encode_and_read(speech, lengths, layers)))
        return EncodedSample(recognizer, decoder, found)

    @torch.inference_mode()
    def errors(self, head: Head, normalize: Callable[[str], str]) -> tuple[float, float]:
        """Wrong words and words of the default decoder's texts, references and texts normalised."""
        wrong = total = 0
        for utterances, encoded, read in self.batches:
            drafted = replace(encoded, drafted=head.draft(read))
            for u, hypothesis in zip(utterances, self.recognizer.decode(self.decoder, drafted), strict=True):
                text = self.recognizer.tokenizer.decode(hypothesis.tokens)
                counted = word_errors(normalize(u.text or ""), normalize(text))
                wrong += counted.errors
                total += counted.total
        return float(wrong), float(total)
