"""``rerun DIR``: repeat a prediction from what it recorded, and say whether the text is the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.commands.predict.command import predict
from parlab.errors import UserError
from parlab.options.arguments import Parser, make_decoder, quiet_libraries
from parlab.predictions.pieces import Cutting
from parlab.predictions.provenance import versions
from parlab.predictions.records import read_jsonl


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
    o = parser.parse_args(list(argv))
    old = Path(o.directory).resolve()
    before = read_metrics(old)
    config = before["config"]
    if "decoder" not in config:
        raise UserError(f"{old} is a point of a sweep, expected what `predict` wrote; run `predict` with its options")
    decoder = make_decoder(config["decoder"]["name"], **config["decoder"]["options"])
    out = Path(o.out) if o.out else old.with_name(old.name + "-rerun")
    if (out / "metrics.json").is_file():  # it would be kept, and compared with nothing new
        raise UserError(f"{out} holds results already, expected a new folder; remove it or name another with --out")
    long_audio = config.get("long_audio") or {}
    cutting = Cutting(**{**long_audio, "subtitles": tuple(long_audio.get("subtitles", ()))})
    after = predict(
        model=o.model or config["model"],
        data=o.data or config["data"],
        decoder=decoder,
        out=out,
        batch_size=config["batch_size"],
        batch_seconds=config["batch_seconds"],
        max_seconds=config["max_seconds"],
        normalizer_name=config["normalizer"]["name"],
        limit=config["limit"],
        cutting=cutting,
        prompt=config.get("prompt"),
        seed=config["seed"],
        trainer={"precision": config["precision"]},
    )
    assert after is not None
    for what in ("model", "data"):
        if before["hashes"][what] != after["hashes"][what]:
            print(f"the {what} has changed since: its hash differs")
    for name, version in versions().items():
        if before["versions"].get(name) != version:
            print(f"{name}: was {before['versions'].get(name)}, is {version}")
    different = differing(old, out)
    if different:
        print(f"the text differs in {len(different)} of {before['utterances']} utterances: {', '.join(different[:5])}")
        return 1
    print(f"the text of all {before['utterances']} utterances is the same")
    return 0


def read_metrics(directory: Path) -> dict[str, Any]:
    """``metrics.json`` of a prediction.

    Raises:
        UserError: there is none.
    """
    try:
        return json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{directory} holds no prediction (metrics.json is missing or broken); name another folder"
        ) from error


def differing(a: Path, b: Path) -> list[str]:
    """Ids whose text differs between two predictions, or that only one of them has."""
    texts = [{r["id"]: r["text"] for r in read_jsonl(d / "hypotheses.jsonl")} for d in (a, b)]
    return sorted(name for name in texts[0].keys() | texts[1].keys() if texts[0].get(name) != texts[1].get(name))
