"""Writes ``golden/dolphin_*.npz``: numbers by Dolphin's own classes on weights by seed.

    python -m tests.families.make_dolphin

It needs the package dataoceanai-dolphin (20260513 made the files); stand-ins are imported for what it needs beside torch and numpy. Features
are our own, ESPnet's and Kaldi's, which other tests compare. Nothing of Dolphin's is copied; the tests read the numbers alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from parlab.model.families.fbank import FbankOptions, KaldiFbank
from parlab.model.features import LogMelFrontend, LogMelOptions
from tests.families.dolphin_models import BANDS, CONFIGS, GOLDEN, PROMPT, SEEDS, UNITS, speaking, write_statistics
from tests.families.weights import tokens, waves, weights


def main() -> None:
    """Write one file for each of ``CONFIGS``."""
    sys.modules["dolphin"] = package = ModuleType("dolphin")  # without its __init__, which imports the command line
    package.__path__ = [str(Path(path) / "dolphin") for path in sys.path if (Path(path) / "dolphin").is_dir()]
    for name in ("torch_complex", "torch_complex.tensor", "torchaudio", "torchaudio.functional"):
        sys.modules.setdefault(name, MagicMock())
    from dolphin.model import init_speech_model
    from dolphin.search import attention_beam_search

    for name, config in CONFIGS.items():
        with tempfile.TemporaryDirectory() as folder:
            file = str(write_statistics(Path(folder), name))
            special = {"special_tokens": {"<sos>": PROMPT[0], "<eos>": UNITS.index("<eos>")}}
            model = init_speech_model({**config, "cmvn_conf": {"cmvn_file": file}, "tokenizer_conf": special}).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm) and "layer_norm_eps" in config:
                module.eps = float(config["layer_norm_eps"])
        own = {k: v for k, v in model.state_dict().items() if not k.endswith(".pe") and "cmvn" not in k}
        shapes = {k: list(v.shape) for k, v in own.items()}
        model.load_state_dict({**model.state_dict(), **speaking(weights(shapes, SEEDS[name]))})
        model.predict_lang_region_timestamp = lambda *_, **__: torch.tensor([PROMPT[1:]])
        espnet = LogMelOptions(**config["dataset_conf"].get("frontend_conf", {}))
        front: Any = LogMelFrontend(espnet) if name == "espnet" else KaldiFbank(FbankOptions(BANDS))
        table = SimpleNamespace(tokens2ids=lambda names: [UNITS.index(t) for t in names])
        saved: dict[str, Any] = {"shapes": json.dumps(shapes)}
        texts = tokens(20, 3, 7) + 15
        with torch.inference_mode():
            for i, wave in enumerate(waves()):
                x, count = front(wave[None], torch.tensor([len(wave)]))
                states, mask = model.encoder(x.float(), count, -1, -1)
                ids = torch.cat([torch.tensor([PROMPT]), texts[i : i + 1]], 1)
                saved[f"states{i}"] = states[0].numpy()
                saved[f"ctc{i}"] = torch.log_softmax(model.ctc.ctc_lo(states), -1)[0].numpy()
                scored = mask if not model.decoder.use_sdpa else torch.ones_like(mask)
                saved[f"left{i}"] = model.decoder(states, scored, ids, torch.tensor([ids.size(1)]))[0][0].numpy()
                saved[f"tokens{i}"] = texts[i].numpy()
                asked = {"tokenizer": table, "langs": ["<zh>"], "regions": ["<CN>"]}
                found = attention_beam_search(model, states, mask, 1, infos=asked)[0].tokens
                saved[f"greedy{i}"] = np.array(found[len(PROMPT) - 1 :])
        np.savez_compressed(GOLDEN / f"dolphin_{name}.npz", **saved)
        print(name, saved["states0"].shape, [saved[f"greedy{i}"].tolist() for i in range(3)])


if __name__ == "__main__":
    main()
