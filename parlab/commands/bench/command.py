"""The ``bench`` command: cases, ratios, a table, JSON, CSV and a picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.output import print_table, save
from parlab.commands.bench.rows import Row, case_rows
from parlab.commands.bench.sizes import random_recognizer
from parlab.commands.bench.speech import speech_rows
from parlab.options.devices import device_for, set_tf32
from parlab.options.libraries import quiet_libraries
from parlab.options.parser import Parser
from parlab.recognition.recognizer import Recognizer


def main(argv: Sequence[str]) -> int:
    """Run ``bench``."""
    quiet_libraries()
    parser = Parser.of("bench", "Time our decoders and ESPnet's, same weights, same input, in one run.")
    parser.add_class_arguments(BenchOptions, None)
    parsed = parser.read(argv)
    options = BenchOptions(**{field.name: parsed[field.name] for field in fields(BenchOptions)})
    logging.disable(logging.WARNING)  # ESPnet logs at the root: random weights reach every limit; it says so each time
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(options.threads or threads)
        if options.suite is None:
            return run(options)
        from parlab.commands.bench.suite.run import run_suite

        return run_suite(options, device_for(options.device))
    finally:
        torch.set_num_threads(threads)
        logging.disable(logging.NOTSET)


def run(options: BenchOptions) -> int:
    """Time the cases that the options ask for, and write the files."""
    device = device_for(options.device)
    set_tf32(False)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    if options.whisper:
        from parlab.commands.bench.whisper import whisper_rows

        for name in options.whisper:
            rows += whisper_rows(name, device, options)
            save(options, rows, device)
    elif options.model:
        rows = speech_rows(Recognizer.read(options.model, device), options)
        save(options, rows, device)
    else:
        recognizer = random_recognizer(options.size, device)
        for seconds, masks in options.durations():
            rows += case_rows(recognizer, seconds, masks, options)
            save(options, rows, device)  # after each case: an interrupted bench keeps what it measured
    print_table(rows)
    print(f"wrote {options.out}/bench.json, bench.csv and bench.png")
    return 0
