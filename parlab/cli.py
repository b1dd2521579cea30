"""The command line: one dict from command to function, each imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from parlab import __version__
from parlab.errors import Terminated, UserError, nearest
from parlab.options.help import all_asked, help_asked

COMMANDS: dict[str, tuple[str, str]] = {
    "fit": ("parlab.commands.fit.command:fit", "train or fine-tune a model"),
    "validate": ("parlab.commands.fit.command:validate", "loss and greedy WER of a model on development data"),
    "transcribe": ("parlab.commands.transcribe:main", "print the text of audio files"),
    "predict": ("parlab.commands.predict.command:main", "decode data; write hypotheses and metrics"),
    "sweep": ("parlab.commands.sweep.command:main", "many settings of a decoder: accuracy, and speed measured in full"),
    "tune": ("parlab.commands.tune.command:main", "options of PAR that keep a budget, and what they promise"),
    "ngrams": ("parlab.commands.ngrams:main", "n-grams of texts in a model's tokens, as an ARPA file"),
    "compare": (
        "parlab.commands.compare.command:main",
        "predictions on the same data: intervals, significance, verdict",
    ),
    "report": ("parlab.commands.report:main", "one self-contained HTML page from predictions or a sweep"),
    "export": (
        "parlab.commands.export:main",
        "the texts of a prediction as trn, ctm, stm, Kaldi text, leaderboard manifest",
    ),
    "rerun": ("parlab.commands.predict.rerun:main", "repeat a prediction and say whether the text is the same"),
    "bench": ("parlab.commands.bench:main", "our decoders and ESPnet's, timed side by side in one run"),
    "slurm": ("parlab.commands.slurm:main", "print the job script that runs a command on a SLURM cluster"),
    "doctor": ("parlab.commands.doctor:main", "versions, devices, optional packages, and a self-test of seconds"),
    "completion": (
        "parlab.commands.completion:main",
        "print the script that completes commands and options in bash and zsh",
    ),
    "demo": ("parlab.commands.demo.command:main", "the whole path on synthetic speech: data, fit, predict, report"),
}


def usage() -> str:
    """The text of ``--help``."""
    rows = "\n".join(f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: python -m parlab COMMAND [options]\n\n"
        "Partially autoregressive decoding of hybrid CTC/attention speech recognition.\n\n"
        f"commands:\n{rows}\n\n"
        "python -m parlab COMMAND --help lists a command's options (--help all: Lightning's too); --version prints the version.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command (``sys.argv`` by default, as the ``parlab`` script does); bad input gets one sentence.

    Returns the exit status: 2 after bad input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    argv = sys.argv[1:] if argv is None else argv
    # Standard input and threads are left alone; tokenizers warn about forks otherwise.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not argv or argv[0] in {"-h", "--help"}:
        print(usage(), end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"parlab {__version__}")
        return 0
    try:
        if argv[0] not in COMMANDS:
            raise UserError(
                f"there is no command '{argv[0]}', expected one of {', '.join(COMMANDS)}{nearest(argv[0], COMMANDS)}"
            )
        arguments = ["--help"] if all_asked(argv[1:]) else list(argv[1:])
        target, about = COMMANDS[argv[0]]
        if not all_asked(argv[1:]) and (answer := help_asked(argv[0], about, arguments)) is not None:
            print(answer, end="")
            return 0
        module, function = target.split(":")
        return int(getattr(importlib.import_module(module), function)(arguments))
    except BrokenPipeError:  # `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains again when it closes the pipe
        return 141
    except Terminated:
        return _interrupted(143)
    except Exception as error:
        # jsonargparse and Lightning wrap what a constructor raised; the user is meant to see the sentence inside.
        found = _user_error(error)
        if found is None:
            raise
        print(f"parlab: {found}", file=sys.stderr)
        return 2
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        return _interrupted(130)  # Lightning turns Ctrl-C into an exit with status 1
    except KeyboardInterrupt:
        return _interrupted(130)


def _interrupted(status: int) -> int:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print("parlab: interrupted; what was done is kept, the same command goes on from there", file=sys.stderr)
    return status


def _user_error(error: BaseException | None) -> UserError | None:
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error
