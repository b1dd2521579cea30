"""A sweep, and the loss with its gradients, on the CPU and on the make-believe device."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.fake_device.device import DEVICE, pretend_device  # isort: skip  (before parlab: torch.inference_mode)

import torch

from parlab.commands.sweep.accuracy import decode_points
from parlab.commands.sweep.grid import make_points
from parlab.commands.sweep.options import SweepOptions
from parlab.commands.sweep.speed import time_points
from parlab.commands.sweep.study import Study
from parlab.model.folder import write_model
from parlab.model.hybrid import HybridModel
from parlab.options.signals import StopRequest
from parlab.text.targets import Targets
from parlab.text.tokenizer import Tokenizer
from tests.helpers import SENTENCES, manifest, noise
from tests.models import s2t_model, s2t_tokenizer, tiny_model, tiny_network

CPU = torch.device("cpu")
GRID = {"threshold": [0.9, 0.999], "beam_size": [2]}


# ---- a sweep ------------------------------------------------------------------------------------


def sweep(folder: Path) -> dict[str, Any]:
    """All points of a sweep: hypotheses of both devices by point, and mixed devices."""
    model = tiny_model(4, sharpness=8.0)
    written = write_model(model, Tokenizer(model.token_list, "char"), folder / "model")
    entries = []
    for i, text in enumerate(SENTENCES[:5]):
        noise(folder / f"u{i}.wav", 0.4 + 0.25 * i, seed=i)
        entries.append({"id": f"u{i}", "audio_filepath": f"u{i}.wav", "duration": 0.4 + 0.25 * i, "text": text})
    data = manifest(folder, entries)
    wanted = swept(written, data, folder / "cpu", CPU)
    with pretend_device() as mode:
        found = swept(written, data, folder / "device", DEVICE)
    return {"cpu": wanted, "device": found, "mixed": dict(mode.counts.mixed)}


def swept(model: Path, data: Path, out: Path, device: torch.device) -> dict[str, Any]:
    """The lines of each point's hypotheses, its scores apart, and its WER; every point was timed too."""
    options = SweepOptions(str(model), str(data), str(out), batch_size=3, timed_utterances=2, repeats=1, wandb="off")
    study = Study.of(options, device)
    points = make_points("par", GRID)
    decode_points(study, points, StopRequest())
    time_points(study, points, StopRequest())
    return {point.name: _read(study.folder(point)) for point in points}


def _read(folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "hypotheses.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["speed"]["timed_utterances"] == 2
    return {
        "lines": [{"id": x["id"], "tokens": x["tokens"], "text": x["text"]} for x in lines],
        "scores": [x["score"] for x in lines],
        "wer": metrics["wer"],
        "masked": metrics["par"]["masked_tokens"],
    }


# ---- the loss -----------------------------------------------------------------------------------


def losses(folder: Path) -> dict[str, Any]:
    """The loss of each kind of model on both devices, with its gradients."""
    generator = torch.Generator().manual_seed(3)

    def ids(*lengths: int) -> torch.Tensor:
        rows = [torch.randint(12, 15, (n,), generator=generator) for n in lengths]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)

    text = ids(5, 3, 1)
    lengths = (text >= 0).sum(1)
    plain = Targets(text, lengths)
    previous, heard = ids(0, 4, 2), ids(4, 0, 1)
    letters = {"token_list": ["<blank>", "<unk>", "<space>", *"abcdefghijklmnopq", "<sos/eos>"], "token_type": "char"}
    tasks: dict[str, tuple[HybridModel, Targets]] = {
        "asr": (tiny_model(1), plain),
        "intermediate ctc": (tiny_model(1, model_conf=INTER, encoder_conf={"interctc_layer_idx": [1]}), plain),
        "ctc only": (tiny_model(1, model_conf={"ctc_weight": 1.0}), plain),
        "branchformer": (tiny_model(1, encoder="e_branchformer"), plain),
        "specaug and global mean": (tiny_model(1, **letters, **tiny_network()), plain),
        "s2t": (s2t_model(s2t_tokenizer(folder)), Targets(text, lengths, previous, heard)),
    }
    return {name: compared(model, targets) for name, (model, targets) in tasks.items()}


INTER = {"ctc_weight": 0.3, "lsm_weight": 0.1, "interctc_weight": 0.4}


def compared(model: HybridModel, targets: Targets) -> dict[str, Any]:
    """The loss in training mode on both devices, seeded alike."""
    other = copy.deepcopy(model)
    wanted = trained(model, targets, CPU)
    with pretend_device() as mode:
        found = trained(other, targets, DEVICE)
    return {"cpu": wanted, "device": found, "mixed": dict(mode.counts.mixed)}


def trained(model: HybridModel, targets: Targets, device: torch.device) -> dict[str, Any]:
    """A training step without the optimiser: the losses, the norm of each parameter's gradient, and the host's waits."""
    generator = torch.Generator().manual_seed(0)
    speech = 0.1 * torch.randn(3, 16000, generator=generator)
    lengths = torch.tensor([16000, 12345, 9000])
    model = model.to_device(device).train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    torch.manual_seed(5)
    found = model.loss(speech.to(device), lengths.to(device), targets.to(device))
    found.total.backward()
    values = {"total": found.total, "ctc": found.ctc, "attention": found.attention, "accuracy": found.accuracy}
    norms = {n: p.grad.norm() for n, p in model.named_parameters() if p.grad is not None}
    assert norms
    return {
        "values": {name: float(value) for name, value in values.items() if value is not None},
        "gradients": {name: float(value) for name, value in norms.items()},
    }
