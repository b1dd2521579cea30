"""``completion``: print the script that completes commands, options, decoders and files in bash (and zsh with bashcompinit).

The script holds everything: completing starts no Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parlab.errors import UserError, nearest
from parlab.options.help import PARTS, command_options
from parlab.options.parser import Parser
from parlab.options.sources import find_decoders, read_options

SHELLS = ("bash", "zsh")
_SCRIPT = """\
# parlab: eval "$(python -m parlab completion)"; zsh first needs: autoload -U bashcompinit && bashcompinit
_parlab() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" first=1 options
    # python -m parlab COMMAND, or parlab COMMAND
    if [ "${{COMP_WORDS[1]}}" = -m ]; then
        [ "${{COMP_WORDS[2]}}" = parlab ] || return 0
        first=3
    elif [ "${{COMP_WORDS[0]##*/}}" != parlab ]; then
        return 0
    fi
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq "$first" ]; then
        COMPREPLY=($(compgen -W "{commands} --help --version" -- "$word"))
        return 0
    fi
    case "$before" in
        --decoder) COMPREPLY=($(compgen -W "{decoders}" -- "$word")); return 0 ;;
        --decoder.help) COMPREPLY=($(compgen -W "{decoders}" -- "$word")); return 0 ;;
    esac
    case "${{COMP_WORDS[first]}}" in
{cases}
        *) return 0 ;;
    esac
    case "$word" in
        --decoder.*)
            local i
            for ((i = first + 1; i < COMP_CWORD; i++)); do
                if [ "${{COMP_WORDS[i]}}" = --decoder ]; then
                    case "${{COMP_WORDS[i+1]}}" in
{decoder_cases}
                    esac
                fi
            done ;;
    esac
    case "$word" in
        -*) COMPREPLY=($(compgen -W "$options --help" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
}}
complete -o filenames -o bashdefault -F _parlab parlab
complete -o default -F _parlab python python3
"""


@dataclass(frozen=True)
class CompletionOptions:
    """Which shell.

    Attributes:
        shell: bash or zsh, which read the same script
    """

    shell: str = "bash"


def main(argv: Sequence[str]) -> int:
    """Print the script.

    Raises:
        UserError: another shell was asked for.
    """
    parser = Parser.of(
        "completion", 'Print the script that completes commands and options: eval "$(parlab completion)".'
    )
    parser.add_class_arguments(CompletionOptions)
    shell = parser.read(argv).shell
    if shell not in SHELLS:
        raise UserError(
            f"the shell is '{shell}', expected {' or '.join(SHELLS)}{nearest(shell, SHELLS)}; leave it out for bash"
        )
    print(script(), end="")
    return 0


def script() -> str:
    """The script: bash's own language, which zsh reads after ``bashcompinit``."""
    decoders = find_decoders()
    own = {name: [o.name for o in read_options(source, "--decoder.")] for name, source in decoders.items()}
    options = {name: [o.name for o in command_options(name) if o.name.startswith("--")] for name in PARTS}
    return _SCRIPT.format(
        commands=" ".join(PARTS),
        decoders=" ".join(decoders),
        cases=_cases(options, " " * 8, "options="),
        decoder_cases=_cases(own, " " * 24, "options="),
    )


def _cases(words: Mapping[str, Sequence[str]], indent: str, assign: str) -> str:
    return "\n".join(f'{indent}{name}) {assign}"{" ".join(found)}" ;;' for name, found in words.items())
