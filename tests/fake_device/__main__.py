"""``python -m tests.fake_device``: launches and host syncs of each decoder; ``--check FILE`` writes the tests' cases as JSON,
``--wholes FILE`` a sweep and losses; ``--estimate`` prints what an H100 would need by the counts."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fake_device.device import DEVICE, Pretend, pretend_device  # isort: skip  (before parlab: torch.inference_mode)

import torch

from parlab.commands.bench.cases import make_case
from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.sizes import random_recognizer
from parlab.commands.bench.whisper import whisper_recognizer
from parlab.decode import AR, PAR, CTCBeam, Decoder, Greedy, Rescore, Speculative
from parlab.decode.default import WITH_A_HEAD
from parlab.model.encoded import Encoded
from parlab.recognition.recognizer import Recognizer
from parlab.types import Hypothesis
from tests.fake_device.cases import Case, cases, prepare
from tests.fake_device.counts import Counts
from tests.fake_device.estimate import Prices, Work, estimates, print_estimates, rows
from tests.fake_device.wholes import losses, sweep

CPU = torch.device("cpu")
TABLE: dict[str, Decoder] = {
    "greedy": Greedy(),
    "par, attention only, 5 tokens": PAR.espnet(),
    "par": PAR(length_normalize=True),  # without it random weights beat no draft, and the search ends at once
    "ar, attention only, 40 tokens": AR(ctc_weight=0.0, maxlenratio=-40),
    "ar, 40 tokens": AR(maxlenratio=-40),
    "rescore": Rescore(),
    "ctc_beam": CTCBeam(),
    "speculative, 40 tokens": Speculative(maxlenratio=-40),
}
# On Whisper's tiny shape with a planned draft of 25 words in characters, 5 of them masked.
WITH_A_DRAFT_HEAD: dict[str, Decoder] = {
    "greedy, a head's draft": Greedy(),
    "par, a head, decoder alone": PAR(beam_size=5, ctc_weight=0.0),
    "par, a head, CTC by characters": PAR(beam_size=5, length_normalize=True),
    "par, a head, default options": WITH_A_HEAD,  # random weights agree with no draft: all is masked, as one segment
}


def same(found: Sequence[Hypothesis], wanted: Sequence[Hypothesis]) -> bool:
    """Equal tokens, and scores within a thousandth."""
    return all(
        a.tokens == b.tokens and abs(a.score - b.score) <= 1e-3 * max(1.0, abs(b.score))
        for a, b in zip(found, wanted, strict=True)
    )


def run_case(case: Case) -> dict[str, Any]:
    """One case on the CPU and on the device: the second batch on the device is counted."""
    recognizer = case.recognizer(CPU)
    wanted = recognizer.decode(case.decoder, case.encode(recognizer))
    with pretend_device() as mode:
        recognizer = case.recognizer(DEVICE)
        recognizer.decode(case.decoder, case.encode(recognizer))  # caches are warm after it
        mode.counts = Counts(phase="encode")
        batch = case.encode(recognizer)
        encoding = mode.counts
        mode.counts = counts = Counts(phase="search")
        found = recognizer.decode(case.decoder, batch)
    return {
        "same": same(found, wanted),
        "segments": sum(len(h.segments) for h in found),
        "passes": max(h.counts.get("decoder_passes", 0) for h in found),
        "steps": max(h.counts.get("decoder_steps", 0) for h in found),
        "syncs": dict(encoding.syncs + counts.syncs),
        "launches": dict(encoding.launches + counts.launches),
        "mixed": dict(encoding.mixed + counts.mixed),
        "encoding": dict(encoding.lines),
        "searching": dict(counts.lines),
        "uploads": dict(counts.uploads),
    }


def check() -> dict[str, Any]:
    """Every case; one that fails has ``error``."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for case in cases(Path(folder)):
            try:
                results[case.name] = run_case(case)
            except Exception:
                results[case.name] = {"error": traceback.format_exc()}
    return results


def table(lines: bool) -> None:
    """8 utterances of 10 s, drafts of 40 tokens, 12 of them masked, librispeech256: what a batch costs after the encoder."""
    case = make_case(random_recognizer("librispeech256", CPU), 10.0, 12, 8)
    whisper = whisper_recognizer("tiny", CPU, BenchOptions())
    drafted = whisper.encode([0.1 * torch.randn(160000, generator=torch.Generator().manual_seed(0))] * 8)
    print("| decoder | kernel launches | host syncs | copies to the device without a sync |\n| --- | --- | --- | --- |")
    with pretend_device() as mode:
        print_rows(mode, TABLE, random_recognizer("librispeech256", DEVICE), case.encoded.to(DEVICE), lines)
        headed = whisper_recognizer("tiny", DEVICE, BenchOptions())
        print_rows(mode, WITH_A_DRAFT_HEAD, headed, drafted.to(DEVICE), lines)


def print_rows(
    mode: Pretend, decoders: dict[str, Decoder], recognizer: Recognizer, encoded: Encoded, lines: bool
) -> None:
    """The counts of each decoder's second batch, whose caches are warm."""
    for name, decoder in decoders.items():
        recognizer.decode(decoder, encoded)
        mode.counts = counts = Counts()
        recognizer.decode(decoder, encoded)
        row = [sum(c.values()) for c in (counts.launches, counts.syncs, counts.uploads)]
        print(f"| {name} | {row[0]:,} | {row[1]} | {row[2]} |", flush=True)
        for line, count in counts.lines.most_common() if lines else ():
            print(f"    {count:5d} {line}")


def work_of_tiny() -> dict[str, Any]:
    """Counts of a small model, a row of the estimates, and the milliseconds of a known piece of work."""
    found = estimates("tiny", 2.0, 3, 2)
    known = Work(launches=100, in_graph=1000, syncs=2, flops=10**12, bytes=4 * 10**9)
    prices = Prices()
    times = [known.milliseconds(prices), known.milliseconds(prices, graphs=False)]
    return {"counts": {name: vars(work) for name, work in found.items()}, "rows": rows(found, prices), "known": times}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--check"]:
        Path(sys.argv[2]).write_text(json.dumps(check()), encoding="utf-8")
    elif "--estimate" in sys.argv:
        print_estimates()
    elif sys.argv[1:2] == ["--wholes"]:
        with tempfile.TemporaryDirectory() as temporary:
            wholes = {"sweep": sweep(Path(temporary)), "losses": losses(Path(temporary)), "work": work_of_tiny()}
        Path(sys.argv[2]).write_text(json.dumps(wholes), encoding="utf-8")
    else:
        table("--lines" in sys.argv)
