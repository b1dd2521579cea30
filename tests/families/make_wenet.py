"""Writes ``golden/wenet_*.npz``: numbers by WeNet's own classes on weights by seed.

    python -m tests.families.make_wenet WENET KALDI

WENET is a checkout of WeNet's repository, KALDI the file ``torchaudio/compliance/kaldi.py`` of a torchaudio wheel (WeNet's features; the
package itself needs the torch that it was built for). Nothing of theirs is copied; the tests read the numbers alone.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union
from unittest.mock import MagicMock

import numpy as np
import torch

from tests.families.weights import tokens, waves, weights
from tests.families.wenet_models import BANDS, CONFIGS, GREEDY_STEPS, UNITS, cmvn_json, speaking

GOLDEN = Path(__file__).parent / "golden"


def import_kaldi(file: str) -> Any:
    """torchaudio's Kaldi features without torchaudio."""
    spec = importlib.util.spec_from_file_location("kaldi", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lengths_of(mask: torch.Tensor) -> torch.Tensor:
    """Frames (B,) of a mask (B, 1, T)."""
    return mask.squeeze(1).sum(1)


def original(config: Mapping[str, Any]) -> Any:
    """WeNet's model of a configuration, as its ``init_model`` makes it."""
    from wenet.models.transformer.asr_model import ASRModel
    from wenet.models.transformer.cmvn import GlobalCMVN
    from wenet.models.transformer.ctc import CTC
    from wenet.models.transformer.decoder import BiTransformerDecoder, TransformerDecoder
    from wenet.models.transformer.encoder import ConformerEncoder, TransformerEncoder
    from wenet.utils.cmvn import load_cmvn

    with tempfile.NamedTemporaryFile("w") as file:
        json.dump(cmvn_json(), file)
        file.flush()
        mean, istd = (torch.from_numpy(x).float() for x in load_cmvn(file.name, True))
    encoders = {"conformer": ConformerEncoder, "transformer": TransformerEncoder}
    decoders = {"bitransformer": BiTransformerDecoder, "transformer": TransformerDecoder}
    cmvn = GlobalCMVN(mean, istd)
    encoder = encoders[config["encoder"]](BANDS, global_cmvn=cmvn, **config["encoder_conf"])
    decoder = decoders[config["decoder"]](len(UNITS), encoder.output_size(), **config["decoder_conf"])
    ctc = CTC(len(UNITS), encoder.output_size())
    return ASRModel(len(UNITS), encoder, decoder, ctc, **config["model_conf"]).eval()


def main(wenet: str, kaldi: str) -> None:
    """Write one file for each of ``CONFIGS``."""
    package = types.ModuleType("wenet")  # without its __init__, which imports the command line
    package.__path__ = [f"{wenet}/wenet"]
    sys.modules["wenet"] = package
    for name in ("whisper", "whisper.tokenizer", "torchaudio", "torchaudio.functional"):  # imported, and not used here
        sys.modules[name] = MagicMock()
    sys.modules["whisper.tokenizer"].LANGUAGES = {}  # type: ignore[attr-defined]
    torch.nn.modules.conv.Union, torch.nn.modules.conv.Optional = Union, Optional  # type: ignore[attr-defined] # of older torch
    from wenet.models.transformer.search import (
        attention_beam_search,
        attention_rescoring,
        ctc_prefix_beam_search,
    )

    bank = import_kaldi(kaldi)
    for name, config in CONFIGS.items():
        model = original(config)
        own = {k: v for k, v in model.state_dict().items() if not k.endswith((".pe", "num_batches_tracked"))}
        shapes = {k: list(v.shape) for k, v in own.items() if "global_cmvn" not in k}
        state = {**model.state_dict(), **weights(shapes, CONFIGS[name]["seed"])}
        model.load_state_dict(speaking(state))
        with torch.inference_mode():
            features = [
                bank.fbank(w[None] * 32768, num_mel_bins=BANDS, dither=0.0, energy_floor=0.0, window_type="povey")
                for w in waves()
            ]
            lengths = torch.tensor([len(x) for x in features])
            padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
            # each alone: WeNet's convolutions see a batch's padding
            alone = [model.encoder(x[None], n[None], -1, -1) for x, n in zip(features, lengths, strict=True)]
            saved: dict[str, Any] = {"features": padded.numpy(), "shapes": json.dumps(shapes)}
            texts = tokens(len(UNITS), 3, 7)
            start = torch.full((3, 1), len(UNITS) - 1)
            for i, (states, mask) in enumerate(alone):
                saved[f"states{i}"] = states[0].numpy()
                saved[f"ctc{i}"] = model.ctc.log_softmax(states)[0].numpy()
                ids = torch.cat([start, texts], 1)[i : i + 1]
                size = torch.tensor([8])
                left, right, _ = model.decoder(states, mask, ids, size, ids, 0.3)
                saved[f"left{i}"] = left[0].numpy()
                if right.dim():
                    saved[f"right{i}"] = right[0].numpy()
                lists = ctc_prefix_beam_search(model.ctc.log_softmax(states), lengths_of(mask), 10)
                weights_of = {"ctc_weight": 0.0, "reverse_weight": 0.3 if right.dim() else 0.0}
                best = attention_rescoring(model, lists, states, lengths_of(mask), **weights_of)[0]
                saved[f"rescored{i}"], saved[f"rescored_score{i}"] = np.array(best.tokens), np.array(best.score)
                greedy = attention_beam_search(model, states, mask, 1)[0].tokens
                saved[f"greedy{i}"] = np.array(greedy[:GREEDY_STEPS])
        np.savez_compressed(GOLDEN / f"wenet_{name}.npz", **saved)
        print(name, {k: getattr(v, "shape", None) for k, v in saved.items()}, [saved[f"greedy{i}"] for i in range(3)])


if __name__ == "__main__":
    main(*sys.argv[1:])
