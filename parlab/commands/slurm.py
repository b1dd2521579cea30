"""``slurm -- COMMAND ...``: show the job script that runs a command on a SLURM cluster with Lightning.

Lightning finds nodes and tasks from SLURM's variables; one task per device, started by ``srun``. The script is printed, never
submitted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from parlab.errors import UserError, nearest
from parlab.options.parser import Parser

RUNNABLE = ("fit", "predict", "validate")


def main(argv: Sequence[str]) -> int:
    """Print the script."""
    own, command = split_command(argv)
    parser = Parser.of("slurm", "Print a SLURM job script: python -m parlab slurm --nodes 2 --devices 4 -- predict ...")
    parser.add_argument("--nodes", type=int, default=1, help="nodes")
    parser.add_argument("--devices", type=int, default=1, help="devices of a node; one task each")
    parser.add_argument("--cpus", type=int, default=8, help="CPU cores of a task")
    parser.add_argument("--memory", type=str, default="32G", help="memory of a node")
    parser.add_argument("--time", type=str, default="04:00:00", help="time limit")
    parser.add_argument("--partition", type=str | None, default=None, help="partition")
    parser.add_argument("--name", type=str, default="parlab", help="name of the job")
    parser.add_argument(
        "--setup", type=str, default=". .venv/bin/activate", help="a line that prepares the environment"
    )
    o = parser.parse_args(own)
    print(job_script(command, o.nodes, o.devices, o.cpus, o.memory, o.time, o.partition, o.name, o.setup), end="")
    return 0


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options before ``--``, and the parlab command after it.

    Raises:
        UserError: there is no command, or one that does not run on devices.
    """
    arguments = list(argv)
    if "--help" in arguments or "-h" in arguments:
        return arguments, []
    if "--" not in arguments or arguments.index("--") == len(arguments) - 1:
        raise UserError("slurm got no command, expected one after --; write slurm --nodes 2 -- predict --model ...")
    at = arguments.index("--")
    own, command = arguments[:at], arguments[at + 1 :]
    if command[0] not in RUNNABLE:
        raise UserError(
            f"'{command[0]}' is no command for many devices, expected one of {', '.join(RUNNABLE)}"
            f"{nearest(command[0], RUNNABLE)}"
        )
    return own, command


def job_script(
    command: Sequence[str],
    nodes: int,
    devices: int,
    cpus: int = 8,
    memory: str = "32G",
    time: str = "04:00:00",
    partition: str | None = None,
    name: str = "parlab",
    setup: str = ". .venv/bin/activate",
) -> str:
    """The text of an ``sbatch`` script."""
    options = {
        "job-name": name,
        "nodes": nodes,
        "ntasks-per-node": devices,
        "gpus-per-node": devices,
        "cpus-per-task": cpus,
        "mem": memory,
        "time": time,
        "output": f"{name}-%j.log",
        # fit ends cleanly on SIGTERM: model/ and last.ckpt are written before the limit strikes.
        "signal": "SIGTERM@120",
    }
    if partition:
        options["partition"] = partition
    directives = "\n".join(f"#SBATCH --{key}={value}" for key, value in options.items())
    trainer = [f"--trainer.num_nodes={nodes}", f"--trainer.devices={devices}"]
    line = shlex.join(["python", "-m", "parlab", *command, *trainer])
    return f"#!/bin/bash\n{directives}\n\nset -euo pipefail\n{setup}\nexport OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}\nsrun {line}\n"
