"""Where the host's time goes while it predicts: Python outside the network, per utterance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from parlab.commands.predict.module import PredictionWriter
from parlab.model.hybrid import HybridModel
from parlab.predictions.files import Json, write_json

ENCODER_PARTS = ("encode", "ctc_log_probs")
DECODER_PARTS = ("cross_cache", "prefill", "step", "logits")


class NetworkClock:
    """CPU time of the calling thread inside the network: the front end, the encoder, the CTC head and the decoder's passes.

    On a CPU with one thread that is the computation; beside a GPU it is the time that launching takes.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted; of nested calls, the outer one."""

        def run(*args: Any, **options: Any) -> Any:
            if self._inside:
                return function(*args, **options)
            self._inside, start = True, time.thread_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.thread_time() - start
                self._inside = False

        return run

    @contextmanager
    def watching(self, model: HybridModel) -> Iterator[None]:
        """Count the calls of a model. Attributes of the two objects hide their methods meanwhile; weights must not change."""
        owners: list[tuple[Any, tuple[str, ...]]] = [(model, ENCODER_PARTS)]
        if model.decoder is not None:
            owners.append((model.rows, DECODER_PARTS))
        for owner, names in owners:
            for name in names:
                owner.__dict__[name] = self.timed(getattr(owner, name))
        try:
            yield
        finally:
            for owner, names in owners:
                for name in names:
                    del owner.__dict__[name]


class HostProfile(Callback):
    """Writes ``DIR/profile.json``: milliseconds of CPU time per utterance; the first batch warms up and does not count.

    ``main_ms``: the thread that decodes, without the network; what bounds the speed beside a fast device. ``network_ms``: the same
    thread inside the network. ``writer_ms``: the thread of text and writing. ``load_ms``: seconds on the clock that loading took, in a
    worker or, without workers, in the main thread (and then in ``main_ms`` too).
    """

    def __init__(self, directory: Path, writer: PredictionWriter):
        self.directory, self.writer = directory, writer
        self.network = NetworkClock()
        self.watching = ExitStack()
        self.batches = self.utterances = 0
        self.start = self.start_of_writer = self.load = 0.0

    # 6 parameters: those of Lightning's hook
    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.batches == 0:
            self.watching.enter_context(self.network.watching(pl_module.net))
            self.writer.wait()
            self.start, self.start_of_writer = time.thread_time(), self.writer.seconds
        else:
            self.utterances += len(outputs.utterances)
            self.load += batch.seconds
        self.batches += 1

    def on_predict_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        main = time.thread_time() - self.start - self.network.seconds
        self.watching.close()
        self.writer.wait()
        figures = {
            "main_ms": main,
            "network_ms": self.network.seconds,
            "writer_ms": self.writer.seconds - self.start_of_writer,
            "load_ms": self.load,
        }
        count = self.utterances
        per_utterance: dict[str, Json] = {name: 1000 * s / count if count else None for name, s in figures.items()}
        write_json(self.directory / "profile.json", {"batches": self.batches - 1, "utterances": count, **per_utterance})

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.watching.close()
