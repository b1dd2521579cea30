"""Writes ``golden/firered_*.npz``: numbers by FireRedASR's own classes on weights by seed.

    python -m tests.families.make_firered

It needs the packages fireredasr (0.0.2 made the files), kaldi-native-fbank and kaldiio. Nothing of theirs is copied; the tests read the
numbers alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from tests.families.firered_models import GOLDEN, OUTPUTS, SEEDS, arguments, cmvn, speaking, write_cmvn
from tests.families.weights import tokens, waves, weights


def main() -> None:
    """Write one file for each of ``SEEDS``."""
    sys.modules["modelscope"] = MagicMock()  # imported for downloads, which are not made
    from fireredasr.data.asr_feat import CMVN, KaldifeatFbank
    from fireredasr.models.fireredasr_aed import FireRedAsrAed

    with tempfile.TemporaryDirectory() as folder:
        write_cmvn(Path(folder) / "cmvn.ark", cmvn())
        normal = CMVN(str(Path(folder) / "cmvn.ark"))
    bank = KaldifeatFbank(dither=0.0)
    for name, seed in SEEDS.items():
        model = FireRedAsrAed.from_args(arguments(name)).eval()
        own = model.state_dict()
        shapes = {k: list(v.shape) for k, v in own.items() if not k.endswith(".pe")}
        model.load_state_dict({**own, **speaking(weights(shapes, seed))})
        saved: dict[str, Any] = {"shapes": json.dumps(shapes)}
        texts = tokens(OUTPUTS - 5, 3, 7) + 5
        with torch.inference_mode():
            for i, wave in enumerate(waves()):
                features = bank((16000, wave.numpy() * 32768))
                saved[f"features{i}"] = features
                x = torch.from_numpy(normal(features)).float()[None]
                states, _, mask = model.encoder(x, torch.tensor([x.size(1)]))
                decoder = model.decoder
                ids = torch.cat([torch.tensor([[3]]), texts[i : i + 1]], 1)
                y = decoder.tgt_word_emb(ids) * decoder.scale + decoder.positional_encoding(ids)
                own_mask = decoder.ignored_target_position_is_0(ids, decoder.pad_id)
                for layer in decoder.layer_stack:
                    y = layer(y, states, own_mask, mask)
                saved[f"states{i}"] = states[0].numpy()
                saved[f"left{i}"] = decoder.tgt_word_prj(decoder.layer_norm_out(y))[0].numpy()
                saved[f"tokens{i}"] = texts[i].numpy()
                found = model.transcribe(x, torch.tensor([x.size(1)]), beam_size=1)
                saved[f"greedy{i}"] = found[0][0]["yseq"].numpy()
        np.savez_compressed(GOLDEN / f"firered_{name}.npz", **saved)
        print(name, saved["states0"].shape, [saved[f"greedy{i}"].tolist() for i in range(3)])


if __name__ == "__main__":
    main()
