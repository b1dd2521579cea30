"""Tiny FireRedASR-AED models, as folders in the layout of the published one."""

from __future__ import annotations

import json
import struct
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.families.weights import weights
from tests.models import S2T_SENTENCES

GOLDEN = Path(__file__).parent / "golden"
BANDS = 80
SEEDS = {"aed": 21, "deep": 22}
PIECES = 34
_LETTERS = ["<blank>", "<unk>", "<pad>", "<sos>", "<eos>", "你", "好", "吗"]
OUTPUTS = len(_LETTERS) + PIECES - 3


def arguments(name: str) -> Namespace:
    """The training's arguments, among others those of the model."""
    return Namespace(
        idim=BANDS,
        odim=OUTPUTS,
        n_layers_enc=3 if name == "deep" else 2,
        n_layers_dec=3 if name == "deep" else 2,
        n_head=4,
        d_model=32,
        residual_dropout=0.1,
        dropout_rate=0.1,
        kernel_size=9,
        pe_maxlen=500,
        sos_id=3,
        eos_id=4,
        pad_id=2,
        lr=0.001,
    )


def cmvn() -> np.ndarray:
    """Kaldi's statistics (2, bands + 1): sums and the count, sums of squares and 0."""
    numbers = np.random.RandomState(8)
    mean, spread, count = numbers.uniform(8, 14, BANDS), numbers.uniform(1, 4, BANDS), 1000.0
    return np.stack([np.append(mean * count, count), np.append((mean**2 + spread**2) * count, 0.0)])


def write_cmvn(file: Path, stats: np.ndarray, double: bool = True) -> None:
    """A binary matrix of Kaldi's."""
    kind, dtype = (b"DM ", "<f8") if double else (b"FM ", "<f4")
    head = b"\0B" + kind + b"\4" + struct.pack("<i", len(stats)) + b"\4" + struct.pack("<i", stats.shape[1])
    file.write_bytes(head + stats.astype(dtype).tobytes())


def speaking(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with sharper attention to the speech, whose symbols are never the best but for the end."""
    state = dict(state)
    for name in state:
        if name.endswith(("cross_attn.w_qs.weight", "cross_attn.w_ks.weight", "mlp.w_2.weight")):
            state[name] = state[name] * 4.0
        if name == "decoder.tgt_word_emb.weight":
            symbols = torch.tensor([0.05] * 4 + [1.0] * (OUTPUTS - 4)).unsqueeze(1)
            state[name] = 2.0 * state[name] * symbols
    if "decoder.tgt_word_prj.weight" in state:
        state["decoder.tgt_word_prj.weight"] = state["decoder.tgt_word_emb.weight"]
    return state


def write_firered(folder: Path, name: str, pieces: bool = True) -> dict[str, Any]:
    """Write the folder of a golden file's model; return the golden numbers."""
    import sentencepiece

    with np.load(GOLDEN / f"firered_{name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "train_bpe1000"
    sentences = iter([text.upper() for text in S2T_SENTENCES])
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences, model_prefix=str(prefix), vocab_size=PIECES, num_threads=1, minloglevel=2
    )
    words = [line.split("\t")[0] for line in prefix.with_suffix(".vocab").read_text(encoding="utf-8").splitlines()][3:]
    prefix.with_suffix(".vocab").unlink()
    if not pieces:
        prefix.with_suffix(".model").unlink()
    tokens = [*_LETTERS, *words]
    (folder / "dict.txt").write_text("".join(f"{t} {i}\n" for i, t in enumerate(tokens)), encoding="utf-8")
    write_cmvn(folder / "cmvn.ark", cmvn(), double=name == "aed")
    state = speaking(weights(json.loads(str(golden["shapes"])), SEEDS[name]))
    torch.save({"args": arguments(name), "model_state_dict": state}, folder / "model.pth.tar")
    return golden
