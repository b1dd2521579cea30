"""The options of ``tune``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parlab.decode.confidence.measure import find_measure
from parlab.decode.policies.policy import find_policies
from parlab.errors import UserError, nearest
from parlab.options.checks import check_above_zero, check_not_negative
from parlab.options.parser import Parser, join_values

BLOCKS = ("utterance", "speaker")


@dataclass(frozen=True)
class TuneOptions:
    """A model, development data, and what PAR may cost on them.

    Attributes:
        model: ESPnet folder, run folder, checkpoint or hub id
        data: development manifest, Kaldi folder or cuts, with references
        out: folder for decoder.yaml and tune.json
        budget: wer<=ar+0.2 (points), time<=greedy*1.1 or masked<=0.15
        head: folder of a draft head of the model
        test: a test set, decoded once with the result; a second look is recorded
        delta: points of WER that the promise allows against AR; 0: the budget's, else 0.5
        alpha: probability that the promise is false, at most
        blocks: units of the promise: utterance, or speaker
        beams: beam sizes that are tried; AR has the largest
        ctc_weights: CTC weights that are tried
        measures: confidence measures that are tried; empty: all are judged, and the best ones tried
        policies: masking policies that are tried besides threshold
        margins: of the length of fills, that are tried besides the default's
        beside_model: write decoder.yaml (where it keeps the budget) and confidence.json (where all measures are judged) also into the
            folder of the model, or of its head: there decoder.yaml is the default decoder, and --decoder tuned
        batch_size: utterances decoded together
        batch_seconds: padded seconds decoded together
        language: S2T: language, as eng, or auto
        normalizer: text normaliser for WER
        limit: use only so many utterances
        memory_gib: encoder outputs kept in memory
        disk_gib: encoder outputs memory-mapped beyond that
        accelerator: Lightning's accelerator

    Raises:
        UserError: a number makes no sense, or there are no such blocks, measures, policies or folder.
    """

    model: str
    data: str | list[str]
    out: str
    budget: str = "wer<=ar+0.2"
    head: str | None = None
    test: str | list[str] | None = None
    delta: float = 0.0
    alpha: float = 0.1
    blocks: str = "utterance"
    beams: tuple[int, ...] = (10, 4)
    ctc_weights: tuple[float, ...] = (0.5, 0.3, 0.0)
    measures: tuple[str, ...] = ()
    policies: tuple[str, ...] = (
        "context",
        "context:left=1,right=0",
        "gaps:below=0.5",
        "gaps:below=0.9",
        "context+gaps:below=0.9",
    )
    margins: tuple[int, ...] = (1, 8)
    beside_model: bool = False
    batch_size: int = 8
    batch_seconds: float = 240.0
    language: str | None = None
    normalizer: str = "none"
    limit: int | None = None
    memory_gib: float = 4.0
    disk_gib: float = 50.0
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        check_above_zero(self, "batch_size", "batch_seconds", "limit")
        check_not_negative(self, "delta", "memory_gib", "disk_gib")
        if not 0 < self.alpha < 1:
            raise UserError(f"the option alpha is {self.alpha}, expected a probability between 0 and 1; correct it")
        if self.delta >= 100:
            raise UserError(f"the option delta is {self.delta}, expected points of WER below 100; correct it")
        if self.blocks not in BLOCKS:
            raise UserError(
                f"the option blocks is '{self.blocks}', expected utterance or speaker{nearest(self.blocks, BLOCKS)}"
            )
        for name in self.measures:
            find_measure(name)
        for policy in self.policies:
            find_policies(policy)
        if self.beside_model and not self.fitted_folder.is_dir():
            raise UserError(
                f"beside_model is true with {self.fitted_folder}, expected the folder of a model or head; leave it out"
            )
        if any(margin < 0 for margin in self.margins):
            raise UserError(
                f"the option margins is {list(self.margins)}, expected numbers of tokens from 0; correct it"
            )
        if not self.beams or not self.ctc_weights:
            raise UserError("beams or ctc_weights is empty, expected at least one value each; name one")

    @property
    def fitted_folder(self) -> Path:
        """The folder of what drafts: the model, or its head."""
        return Path(self.head or self.model)

    @staticmethod
    def read(argv: Sequence[str]) -> TuneOptions:
        """The options of a command line."""
        parser = Parser.of("tune", "Find PAR's options on development data, and say what they promise.")
        parser.add_class_arguments(TuneOptions)
        given = vars(parser.read(join_values(argv, "--data")))
        return TuneOptions(**{name: given[name] for name in TuneOptions.__dataclass_fields__})
