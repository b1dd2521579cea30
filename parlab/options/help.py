"""``COMMAND --help`` in a moment: the options are read from the source of what holds them, and nothing is imported.

Torch and Lightning take seconds to import. ``--help all`` asks the command's own parser, which lists Lightning's options too.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from parlab.errors import UserError, nearest
from parlab.options.sources import Option, find_decoders, read_options, summary

_TRAINED = (
    ("--", "parlab.commands.fit.command:ValidateCLI"),
    ("--model.", "parlab.commands.fit.module:ASRModule"),
    ("--model.optim.", "parlab.commands.fit.optim:Optimization"),
    ("--model.lora.", "parlab.model.lora:LoRA"),
    ("--data.", "parlab.commands.fit.datamodule:ASRData"),
    ("--data.augmentation.", "parlab.data.sampling:Augmentation"),
)
# What holds the options of a command: a class, or a function that calls ``add_argument``; with the prefix of their names.
PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "fit": (
        ("--", "parlab.commands.fit.command:FitCLI"),
        *_TRAINED,
        ("--export.", "parlab.commands.fit.callbacks:ExportModel"),
    ),
    "validate": _TRAINED,
    "transcribe": (("--", "parlab.commands.transcribe.command:TranscribeOptions"),),
    "predict": (("--", "parlab.commands.predict.options:PredictOptions"),),
    "sweep": (("--", "parlab.commands.sweep.options:SweepOptions"),),
    "tune": (("--", "parlab.commands.tune.options:TuneOptions"),),
    "ngrams": (("--", "parlab.commands.ngrams:NgramOptions"),),
    "compare": (("--", "parlab.commands.compare.command:make_parser"),),
    "report": (("--", "parlab.commands.report.command:make_parser"),),
    "export": (("--", "parlab.commands.export:ExportOptions"),),
    "rerun": (("--", "parlab.commands.predict.rerun:main"),),
    "bench": (("--", "parlab.commands.bench.options:BenchOptions"),),
    "slurm": (("--", "parlab.commands.slurm:Job"),),
    "demo": (("--", "parlab.commands.demo.command:main"),),
    "completion": (("--", "parlab.commands.completion:CompletionOptions"),),
    "doctor": (("--", "parlab.commands.doctor:DoctorOptions"),),
}
_WITHOUT_CONFIG = ("demo",)
_WITH_DECODER = ("transcribe", "predict", "sweep")
_LIGHTNING = {
    "fit": "trainer, checkpoint and early_stopping (--trainer.max_epochs 50, --trainer.max_time, --trainer.devices 2, ...)",
    "validate": "trainer (--trainer.devices 2, ...)",
    "predict": "trainer (--trainer.devices 2, --trainer.accelerator gpu, ...)",
}
_POSITIONAL = {"transcribe": ("files",), "export": ("folder",)}
_CONFIG = Option("--config", "file", None, False, "read options from a YAML file; it may include others")
_DECODER = Option("--decoder", "decoder", None, False, "greedy, ar, par, ...; par where the model allows it")
_SEED = Option("--seed_everything", "int", "1", False, "seed of every random generator")


def help_asked(command: str, about: str, argv: Sequence[str]) -> str | None:
    """The answer to ``--help`` or ``--decoder.help [NAME]`` in ``argv``; None where neither is asked for.

    Args:
        about: what the command does.

    Raises:
        UserError: there is no decoder of that name.
    """
    own = argv[: argv.index("--")] if "--" in argv else argv  # after it stands the command line of another command
    if command in _WITH_DECODER:
        for i, argument in enumerate(own):
            name, equals, value = argument.partition("=")
            if name == "--decoder.help":
                return decoder_help(value if equals else own[i + 1] if i + 1 < len(own) else None)
    return command_help(command, about) if {"-h", "--help"} & set(own) else None


def all_asked(argv: Sequence[str]) -> bool:
    """Whether ``--help all`` is asked for."""
    return any(argument in {"-h", "--help"} and argv[i + 1 : i + 2] == ["all"] for i, argument in enumerate(argv))


def command_options(command: str) -> list[Option]:
    """The arguments and options of a command, Lightning's left out."""
    parts = PARTS[command]
    prefixes = {prefix for prefix, _ in parts}
    options: list[Option] = [] if command in _WITHOUT_CONFIG else [_CONFIG]
    options += [_SEED] if command in _LIGHTNING and command != "predict" else []
    for prefix, source in parts:
        found = read_options(source, prefix, _POSITIONAL.get(command, ()))
        options += [option for option in found if f"{option.name}." not in prefixes and option.name != "--trainer"]
    if command in _WITH_DECODER and not any(option.name == "--decoder" for option in options):
        options.append(_DECODER)
    return options


def command_help(command: str, about: str) -> str:
    """The options of a command, its own before Lightning's."""
    options = command_options(command)
    arguments = [option for option in options if not option.name.startswith("-")]
    options = [option for option in options if option not in arguments]
    options.sort(key=lambda option: not option.required)
    needed = [f"{option.name} {option.kind.upper()}" for option in options if option.required]
    usage = [
        "python -m parlab",
        command,
        *needed,
        "[options]",
        *(a.name.upper() + " ..." * a.several for a in arguments),
    ]
    usage += ["-- COMMAND ..."] if command == "slurm" else []
    lines = [
        *textwrap.wrap(f"usage: {' '.join(usage)}", _width(), subsequent_indent="    "),
        "",
        *_wrapped(f"{about[0].upper()}{about[1:]}."),
        "",
        *map(_line, arguments + options),
    ]
    if command in _WITH_DECODER:
        names = ", ".join(find_decoders())
        lines += ["", *_wrapped(f"decoders: {names}. Their options, as --decoder.threshold 0.9: --decoder.help NAME")]
    if command in _LIGHTNING:
        lines += ["", *_wrapped(f"Lightning's own options, of {_LIGHTNING[command]}: --help all")]
    return "\n".join(lines) + "\n"


def decoder_help(name: str | None) -> str:
    """The options of a decoder; without a name, what each decoder does.

    Raises:
        UserError: there is no such decoder.
    """
    decoders = find_decoders()
    if name is None:
        shown = [Option(known, "", None, False, summary(source)) for known, source in decoders.items()]
        return "\n".join(["decoders: --decoder NAME", "", *map(_line, shown)]) + "\n"
    if name not in decoders:
        raise UserError(f"there is no decoder '{name}', expected one of {', '.join(decoders)}{nearest(name, decoders)}")
    options = read_options(decoders[name], "--decoder.")
    head = [f"--decoder {name}", *_wrapped(summary(decoders[name]))]
    return "\n".join([*head, "", *map(_line, options)] if options else [*head, "it has no options"]) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width())


def _width() -> int:
    return max(60, min(shutil.get_terminal_size().columns, 120))


def _line(option: Option) -> str:
    """An option with its type, text and default, wrapped."""
    head = f"  {option.name} {option.kind}".rstrip()
    text = option.text
    if option.default is not None and "default" not in text:
        text += f" (default {option.default})"
    indent = 30
    wrapped = textwrap.wrap(text, _width() - indent) or [""]
    first = f"{head:<{indent - 1}} {wrapped[0]}" if len(head) < indent else f"{head}\n{' ' * indent}{wrapped[0]}"
    return "\n".join([first.rstrip(), *(" " * indent + line for line in wrapped[1:])])
