"""``doctor``: what is installed here, on which devices parlab can run, and whether it decodes as it should.

The self-test decodes made-up posteriors with the shipped model: the text means nothing, but PAR's identities must hold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from rich.console import Console

from parlab.decode import AR, PAR, Greedy
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.options.devices import device_for, set_tf32
from parlab.options.libraries import quiet_libraries
from parlab.options.parser import Parser
from parlab.options.resources import shipped_model
from parlab.predictions.provenance import versions
from parlab.recognition.recognizer import Recognizer

OPTIONAL = {
    "transformers": "Whisper models; pip install 'parlab[whisper]'",
    "peft": "LoRA in fit; pip install 'parlab[lora]'",
    "wandb_workspaces": "the saved W&B dashboards; pip install 'parlab[workspace]'",
    "kenlm": "KenLM's binary files as lm; pip install 'parlab[kenlm]'",
    "faster_whisper": "a peer in bench --whisper; pip install faster-whisper",
}


@dataclass(frozen=True)
class DoctorOptions:
    """Where the self-test runs.

    Attributes:
        device: cpu, cuda, cuda:1, ...; the best by default
    """

    device: str | None = None


@dataclass(frozen=True)
class Check:
    """A statement that was tested, whether it held, and the seconds that it took."""

    name: str
    passed: bool
    seconds: float


def main(argv: Sequence[str]) -> int:
    """Print the state of the installation; 0 when the self-test passed, 1 when not."""
    quiet_libraries()
    parser = Parser.of("doctor", "Versions, devices, optional packages, and a self-test of seconds.")
    parser.add_class_arguments(DoctorOptions)
    device = device_for(parser.read(argv).device)
    console = Console(soft_wrap=True, highlight=False)
    for name, found in versions().items():
        console.print(f"{name:<14} {found or '-'}", markup=False)
    for line in devices():
        console.print(line, markup=False)
    for package, gives in OPTIONAL.items():
        state = "installed" if find_spec(package) is not None else "missing"
        console.print(f"{package:<16} {state:<10} {gives}", markup=False)
    set_tf32(False)
    passed = True
    for check in self_test(device):
        passed &= check.passed
        console.print(f"{'ok' if check.passed else 'FAILED':<6} {check.name} ({check.seconds:.1f} s)", markup=False)
    return 0 if passed else 1


def devices() -> list[str]:
    """A line per device that torch sees here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [f"cpu            {cores} cores, {torch.get_num_threads()} threads of torch"]
    for i in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(i)
        lines.append(f"cuda:{i:<9} {card.name}, {card.total_memory / 2**30:.0f} GiB")
    return lines


@torch.inference_mode()
def self_test(device: torch.device) -> Iterator[Check]:
    """Encode noise with the shipped model on a device, decode made-up posteriors, and check what must hold for any of them."""
    start = time.monotonic()
    recognizer = Recognizer.read(shipped_model(), device)
    same = _encodes_alike(recognizer)
    yield Check(
        f"the shipped model encodes an utterance on {device} in a batch as alone", same, time.monotonic() - start
    )
    batch = _made_up(recognizer.model).to(device)
    statements = {
        "par with nothing masked is greedy CTC": _nothing_masked,
        "par with everything masked is attention-only beam search": _everything_masked,
        "par decodes an utterance in a batch as alone": _decodes_alike,
    }
    for name, holds in statements.items():
        start = time.monotonic()
        yield Check(name, holds(recognizer.model, batch), time.monotonic() - start)


def _encodes_alike(recognizer: Recognizer) -> bool:
    generator = torch.Generator().manual_seed(0)
    waves = [torch.randn(n, generator=generator) * 0.1 for n in (32000, 16000, 24000)]
    batch = recognizer.encode(waves)
    for i, wave in enumerate(waves):
        alone = recognizer.encode([wave]).states[0]
        if not torch.allclose(alone, batch.states[i, : len(alone)], atol=1e-3):
            return False
    return True


def _made_up(model: HybridModel) -> Encoded:
    """Three utterances of random states and posteriors, whose drafts are some ten tokens long."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 40, model.encoder.output_size(), generator=generator)
    posteriors = torch.randn(3, 40, model.vocab_size, generator=generator) * 3.0
    posteriors[..., model.special.blank] += 6.0
    for symbol in set(model.special.never) - {model.special.blank}:
        posteriors[..., symbol] = -20.0
    return Encoded(states, torch.tensor([40, 25, 33]), posteriors.log_softmax(-1), (model.prompt,) * 3)


def _nothing_masked(model: HybridModel, batch: Encoded) -> bool:
    pairs = zip(PAR(threshold=0.0).decode(model, batch), Greedy().decode(model, batch), strict=True)
    return all(a.tokens == b.tokens and a.tokens for a, b in pairs)


def _everything_masked(model: HybridModel, batch: Encoded) -> bool:
    """At the limit of tokens both take the best hypothesis that is left, so it holds there too."""
    limit = 30
    everything = PAR(threshold=1.0 + 1e-6, ctc_weight=0.0, max_seq_len=limit, beam_size=4, allow_unk=True)
    beam = AR(ctc_weight=0.0, beam_size=4, maxlenratio=-limit)
    pairs = zip(everything.decode(model, batch), beam.decode(model, batch), strict=True)
    return all(a.tokens == b.tokens for a, b in pairs)


def _decodes_alike(model: HybridModel, batch: Encoded) -> bool:
    together = PAR().decode(model, batch)
    return all(PAR().decode(model, batch.select([i]))[0].tokens == h.tokens for i, h in enumerate(together))
