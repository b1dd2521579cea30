"""Tiny SpeechBrain models: hyperparameters as its LibriSpeech recipe has them, and folders as it writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.families.weights import weights
from tests.models import S2T_SENTENCES

GOLDEN = Path(__file__).parent / "golden"
BANDS, PIECES, WIDTH, HEADS = 40, 40, 32, 4
SEEDS = {"conformer": 3, "transformer": 8, "postnorm": 5}
_TRANSFORMER = {"encoder_module": "transformer", "attention_type": "regularMHA"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "conformer": {"encoder_module": "conformer", "attention_type": "RelPosMHAXL", "kernel_size": 7},
    "transformer": {**_TRANSFORMER, "normalize_before": True},
    "postnorm": {**_TRANSFORMER, "normalize_before": False},
}
for _arguments in ARGUMENTS.values():
    _arguments |= {"causal": False, "normalize_before": _arguments.get("normalize_before", True)}

HYPERPARAMS = """\
# As the LibriSpeech recipe writes them for inference.
sample_rate: 16000
n_fft: 400
n_mels: 40
d_model: 32
nhead: 4
num_encoder_layers: 2
num_decoder_layers: 2
d_ffn: 48
transformer_dropout: 0.0
activation: !name:torch.nn.GELU
output_neurons: 40
blank_index: 0
pad_index: 0
bos_index: 1
eos_index: 2
unk_index: 0
__set_seed: !apply:torch.manual_seed [1234]

CNN: !new:speechbrain.lobes.models.convolution.ConvolutionFrontEnd
    input_shape: (8, 10, 40)
    num_blocks: 2
    num_layers_per_block: 1
    out_channels: (16, 8)
    kernel_sizes: (3, 3)
    strides: (2, 2)
    residuals: (False, False)

Transformer: !new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR # yamllint disable-line rule:line-length
    input_size: 80
    tgt_vocab: !ref <output_neurons>
    d_model: !ref <d_model>
    nhead: !ref <nhead>
    num_encoder_layers: !ref <num_encoder_layers>
    num_decoder_layers: !ref <num_decoder_layers>
    d_ffn: !ref <d_ffn>
    dropout: !ref <transformer_dropout>
    activation: !ref <activation>
{arguments}

ctc_lin: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <d_model>
    n_neurons: !ref <output_neurons>

seq_lin: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <d_model>
    n_neurons: !ref <output_neurons>

asr_model: !new:torch.nn.ModuleList
    - [!ref <CNN>, !ref <seq_lin>, !ref <Transformer>, !ref <ctc_lin>]

tokenizer: !new:sentencepiece.SentencePieceProcessor

normalize: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    update_until_epoch: 4

compute_features: !new:speechbrain.lobes.features.Fbank
    sample_rate: !ref <sample_rate>
    n_fft: !ref <n_fft>
    n_mels: !ref <n_mels>

decoder: !new:speechbrain.decoders.S2STransformerBeamSearcher
    modules: [!ref <Transformer>, !ref <seq_lin>]
    bos_index: !ref <bos_index>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        normalizer: !ref <normalize>
        asr: !ref <asr_model>
"""


def statistics() -> dict[str, Any]:
    """What ``InputNormalization`` saves."""
    numbers = np.random.RandomState(6)
    mean, std = numbers.uniform(-20, 10, BANDS), numbers.uniform(8, 14, BANDS)
    return {
        "count": 1000,
        "glob_mean": torch.tensor(mean, dtype=torch.float32),
        "glob_std": torch.tensor(std, dtype=torch.float32),
    }


def speaking(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with a decoder (``seq_lin``, part 1) that writes no blank and no start, and whose text depends on the speech."""
    state = dict(state)
    state["1.w.bias"] = state["1.w.bias"] - 30.0 * (torch.arange(PIECES) < 2)
    for name in state:
        if name == "1.w.weight" or "custom_tgt_module" in name or name.endswith("multihead_attn.att.in_proj_weight"):
            state[name] = state[name] * 3.0
    return state


def write_speechbrain(folder: Path, name: str) -> dict[str, Any]:
    """Write the folder of a golden file's model; return the golden numbers."""
    import sentencepiece

    with np.load(GOLDEN / f"speechbrain_{name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    folder.mkdir(parents=True, exist_ok=True)
    arguments = "\n".join(f"    {k}: {v}" for k, v in ARGUMENTS[name].items())
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS.replace("{arguments}", arguments))
    torch.save(speaking(weights(json.loads(str(golden["shapes"])), SEEDS[name])), folder / "asr.ckpt")
    torch.save(statistics(), folder / "normalizer.ckpt")
    prefix = folder / "pieces"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(S2T_SENTENCES), model_prefix=str(prefix), vocab_size=PIECES, num_threads=1, minloglevel=2
    )
    prefix.with_suffix(".model").rename(folder / "tokenizer.ckpt")
    prefix.with_suffix(".vocab").unlink()
    return golden
