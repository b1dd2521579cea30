"""Writes ``golden/speechbrain_*.npz``: numbers by SpeechBrain's own classes on weights by seed.

    python -m tests.families.make_speechbrain

It needs the package speechbrain (1.1.2 made the files) with hyperpyyaml, and no torchaudio, for which a stand-in is imported. Nothing of
SpeechBrain's is copied; the tests read the numbers alone.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from tests.families.speechbrain_models import (
    ARGUMENTS,
    BANDS,
    GOLDEN,
    HEADS,
    PIECES,
    SEEDS,
    WIDTH,
    speaking,
    statistics,
)
from tests.families.weights import tokens, waves, weights

_SIZES = {"d_model": WIDTH, "nhead": HEADS, "num_encoder_layers": 2, "num_decoder_layers": 2, "d_ffn": 48}


def main() -> None:
    """Write one file for each of ``ARGUMENTS``."""
    for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
        sys.modules[name] = MagicMock()
    sys.modules["torchaudio"].__version__ = "2.11.0"
    from speechbrain.decoders.seq2seq import S2STransformerGreedySearcher
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
    from speechbrain.nnet.linear import Linear

    stats = statistics()
    for name, arguments in ARGUMENTS.items():
        front = ConvolutionFrontEnd(
            input_shape=(8, 10, BANDS),
            num_blocks=2,
            num_layers_per_block=1,
            out_channels=(16, 8),
            kernel_sizes=(3, 3),
            strides=(2, 2),
            residuals=(False, False),
        )
        network = TransformerASR(PIECES, 80, dropout=0.0, activation=torch.nn.GELU, **_SIZES, **arguments)
        output, ctc = (Linear(input_size=WIDTH, n_neurons=PIECES) for _ in range(2))
        model = torch.nn.ModuleList([front, output, network, ctc]).eval()
        shapes = {k: list(v.shape) for k, v in model.state_dict().items() if "positional_encoding" not in k}
        model.load_state_dict({**model.state_dict(), **speaking(weights(shapes, SEEDS[name]))})
        bank = Fbank(sample_rate=16000, n_fft=400, n_mels=BANDS)
        search = S2STransformerGreedySearcher(
            modules=[network, output], bos_index=1, eos_index=2, min_decode_ratio=0.0, max_decode_ratio=1.0
        )
        saved: dict[str, Any] = {"shapes": json.dumps(shapes)}
        texts = tokens(PIECES, 3, 7)
        with torch.inference_mode():
            for i, wave in enumerate(waves()):
                features = bank(wave[None])
                saved[f"features{i}"] = features[0].numpy()
                one = torch.ones(1)
                states = network.encode(front((features - stats["glob_mean"]) / stats["glob_std"]), one)
                ids = torch.cat([torch.tensor([[1]]), texts[i : i + 1]], 1)
                saved[f"states{i}"] = states[0].numpy()
                saved[f"ctc{i}"] = torch.log_softmax(ctc(states), -1)[0].numpy()
                saved[f"left{i}"] = output(network.decode(ids, states)[0])[0].numpy()
                saved[f"greedy{i}"] = np.array(search(states, one)[0][0])
        np.savez_compressed(GOLDEN / f"speechbrain_{name}.npz", **saved)
        print(name, saved["states0"].shape, [saved[f"greedy{i}"].tolist() for i in range(3)])


if __name__ == "__main__":
    main()
