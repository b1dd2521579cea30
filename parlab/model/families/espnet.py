"""The one door to ESPnet: every import of it in parlab happens here.

Only leaf modules are imported, because ``espnet2.tasks`` and ``espnet2.bin`` drag in torchaudio and
take ten seconds. ESPnet's master moved ``espnet.nets`` to ``espnet2.legacy.nets``; both names are tried.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from parlab.errors import UserError, nearest

ENCODERS = {
    "transformer": ("espnet2.asr.encoder.transformer_encoder", "TransformerEncoder"),
    "conformer": ("espnet2.asr.encoder.conformer_encoder", "ConformerEncoder"),
    "branchformer": ("espnet2.asr.encoder.branchformer_encoder", "BranchformerEncoder"),
    "e_branchformer": ("espnet2.asr.encoder.e_branchformer_encoder", "EBranchformerEncoder"),
    "e_branchformer_ctc": ("espnet2.asr.encoder.e_branchformer_ctc_encoder", "EBranchformerCTCEncoder"),
}
DECODERS = {"transformer": ("espnet2.asr.decoder.transformer_decoder", "TransformerDecoder")}
LANGUAGE_MODELS = {
    "transformer": ("espnet2.lm.transformer_lm", "TransformerLM"),
    "seq_rnn": ("espnet2.lm.seq_rnn_lm", "SequentialRNNLM"),
}
# Names that ESPnet's own task builder knows beyond the tables above; they need its full dependencies.
RARER = {
    "encoder": (
        "contextual_block_transformer contextual_block_conformer vgg_rnn rnn wav2vec2 hubert hubert_pretrain "
        "torchaudiohubert longformer whisper avhubert multiconv_conformer beats transformer_multispkr"
    ).split(),
    "decoder": "lightweight_conv lightweight_conv2d dynamic_conv dynamic_conv2d rnn whisper hugging_face_transformers s4".split(),
    "frontend": "sliding_window s3prl espnet_ssl fused whisper huggingface wav2vec_cnn".split(),
}


def load(module: str, name: str) -> Any:
    """Import ``name`` from an ESPnet module, under its old or its new name, without its chatter."""
    warning_filters = warnings.filters[:]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the flash-attention line
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if not module.startswith("espnet.nets") or not str(error.name).startswith("espnet.nets"):
                    raise
                found = importlib.import_module(module.replace("espnet.nets", "espnet2.legacy.nets"))
    except ModuleNotFoundError as error:
        if error.name in {"espnet", "espnet2"}:
            raise UserError(
                "espnet is not installed, expected version 202511; run `pip install --no-deps espnet==202511`"
            ) from error
        raise
    finally:
        warnings.filters[:] = warning_filters  # type: ignore[index] # some ESPnet modules silence every UserWarning on import
    return getattr(found, name)


def known_class(role: str, table: Mapping[str, tuple[str, str]], name: str) -> type | None:
    """Return the class called ``name``, or ``None`` when only ESPnet's task builder knows it.

    Raises:
        UserError: no part of ESPnet has that name.
    """
    if name in table:
        return load(*table[name])
    rarer = RARER.get(role, [])
    if name in rarer:
        return None
    raise UserError(
        f"the config names the {role} '{name}', which does not exist"
        f"{nearest(name, [*table, *rarer])} (known: {', '.join(table)})"
    )


def specaug(**options: Any) -> torch.nn.Module:
    """ESPnet's SpecAugment."""
    return load("espnet2.asr.specaug.specaug", "SpecAug")(**options)


def log_mel(**options: Any) -> torch.nn.Module:
    """ESPnet's log-mel filter bank; holds the buffer ``melmat``."""
    return load("espnet2.layers.log_mel", "LogMel")(**options)


def ctc_head(**options: Any) -> torch.nn.Module:
    """ESPnet's CTC head; holds ``ctc_lo``."""
    return load("espnet2.asr.ctc", "CTC")(**options)


def positional_encoding(size: int) -> torch.nn.Module:
    """ESPnet's sinusoidal encoding of ``size`` channels, without dropout; it scales its input."""
    return load("espnet.nets.pytorch_backend.transformer.embedding", "PositionalEncoding")(size, 0.0)


def label_smoothing_loss(**options: Any) -> torch.nn.Module:
    """ESPnet's cross-entropy with label smoothing."""
    return load("espnet.nets.pytorch_backend.transformer.label_smoothing_loss", "LabelSmoothingLoss")(**options)


def initialize(model: torch.nn.Module, scheme: str) -> None:
    """Initialise all weights with one of ESPnet's named schemes (``xavier_uniform``, ...)."""
    load("espnet2.torch_utils.initialize", "initialize")(model, scheme)


def task_model(config: Mapping[str, Any], kind: str = "asr") -> torch.nn.Module:
    """Build a rarer configuration with ESPnet's own task builder.

    Raises:
        UserError: ESPnet's task modules cannot be imported here (torchaudio and others are missing).
    """
    import argparse

    tasks = {"s2t": ("espnet2.tasks.s2t", "S2TTask"), "s2t_ctc": ("espnet2.tasks.s2t_ctc", "S2TTask")}
    module, name = tasks.get(kind, ("espnet2.tasks.asr", "ASRTask"))
    try:
        task = load(module, name)
    except Exception as error:  # a broken torchaudio raises OSError, a missing one ModuleNotFoundError
        raise UserError(
            f"this configuration needs ESPnet's task builder, which cannot be imported here ({error}); "
            "install torchaudio and ESPnet's full dependencies, or use a transformer, conformer, branchformer or "
            "e_branchformer encoder with the default front end and a transformer decoder"
        ) from error
    parser = task.get_parser()
    defaults = vars(parser.parse_args([])) if not parser.get_default("required") else {}
    logging.getLogger(__name__).info("building a rarer configuration with %s", name)
    return task.build_model(argparse.Namespace(**{**defaults, **config}))


SEARCHES = {
    "beam": ("espnet.nets.batch_beam_search", "BatchBeamSearch"),
    "par_beam": ("espnet.nets.beam_search_partially_AR", "PartiallyARBeamSearch"),
    "ctc_prefix": ("espnet.nets.scorers.ctc", "CTCPrefixScorer"),
    "length_bonus": ("espnet.nets.scorers.length_bonus", "LengthBonus"),
}


def search_class(name: str) -> type:
    """ESPnet's own searches and scorers, which the bench and the tests compare ours with."""
    return load(*SEARCHES[name])


def task_model_class(kind: str) -> type:
    """ESPnet's model class for a kind: ``asr``, ``s2t`` or ``s2t_ctc`` (used by tests and the bench)."""
    table = {
        "asr": ("espnet2.asr.espnet_model", "ESPnetASRModel"),
        "s2t": ("espnet2.s2t.espnet_model", "ESPnetS2TModel"),
        "s2t_ctc": ("espnet2.s2t.espnet_ctc_model", "ESPnetS2TCTCModel"),
    }
    return load(*table[kind])
