"""``rerun DIR``: repeat a prediction from what it recorded, and say whether the text is the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.commands.predict.options import PredictOptions
from parlab.commands.predict.run import predict
from parlab.errors import UserError
from parlab.options.libraries import quiet_libraries
from parlab.options.parser import Parser
from parlab.predictions.hypotheses import read_hypotheses
from parlab.predictions.metrics import Metrics, has_metrics, read_metrics
from parlab.predictions.provenance import versions


def main(argv: Sequence[str]) -> int:
    """Run ``rerun``; 0 when every text is the same, 1 when one differs."""
    quiet_libraries()
    parser = Parser.of("rerun", "Repeat a prediction and compare the text.")
    parser.add_argument("directory", type=str, help="folder that `predict --out` wrote")
    parser.add_argument(
        "--out", type=str | None, default=None, help="folder for the new results; DIRECTORY-rerun by default"
    )
    parser.add_argument("--model", type=str | None, default=None, help="the model, where it has moved")
    parser.add_argument("--data", type=str | None, default=None, help="the data, where they have moved")
    asked = parser.read(argv)
    old = Path(asked.directory).resolve()
    before = read_metrics(old)
    out = Path(asked.out) if asked.out else old.with_name(old.name + "-rerun")
    if has_metrics(out):  # it would be kept, and compared with nothing new
        raise UserError(f"{out} holds results already, expected a new folder; remove it or name another with --out")
    after = predict(repeated(before, old, out, model=asked.model, data=asked.data))
    assert after is not None
    for line in changes(before, after):
        print(line)
    different = differing(old, out)
    if different:
        print(f"the text differs in {len(different)} of {before.utterances} utterances: {', '.join(different[:5])}")
        return 1
    print(f"the text of all {before.utterances} utterances is the same")
    return 0


def repeated(before: Metrics, old: Path, out: Path, **moved: Any) -> PredictOptions:
    """The options of a prediction again, for another folder; ``moved`` names the model or the data anew.

    Raises:
        UserError: the folder ``old`` records none.
    """
    if before.options is None:
        raise UserError(
            f"{old} records no options of `predict` (it may be a point of a sweep), expected what `predict` wrote; run "
            "`predict` with its options"
        )
    changed = {name: value for name, value in moved.items() if value is not None}
    quiet = {"wandb": "off", "progress": False, "device": None, "precision": before.config["precision"]}
    return PredictOptions.from_json(before.options, out=str(out), **quiet, **changed)


def changes(before: Metrics, after: Metrics) -> list[str]:
    """What has changed around a prediction, a sentence each."""
    found = [
        f"the {what} has changed since: its hash differs"
        for what in ("model", "data")
        if getattr(before.hashes, what) != getattr(after.hashes, what)
    ]
    found += [
        f"{name}: was {before.versions.get(name)}, is {version}"
        for name, version in versions().items()
        if before.versions.get(name) != version
    ]
    return found


def differing(a: Path, b: Path) -> list[str]:
    """Ids whose text differs between two predictions, or that only one of them has."""
    one, other = ({r.id: r.text for r in read_hypotheses(folder)} for folder in (a, b))
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
