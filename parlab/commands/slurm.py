"""``slurm -- COMMAND ...``: show the job script that runs a command on a SLURM cluster with Lightning.

Lightning finds nodes and tasks from SLURM's variables; one task per device, started by ``srun``. The script is printed, never
submitted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from parlab.errors import UserError, nearest
from parlab.options.parser import Parser

RUNNABLE = ("fit", "predict", "validate")


@dataclass(frozen=True)
class Job:
    """What is asked of SLURM.

    Attributes:
        nodes: nodes
        devices: devices of a node; one task each
        cpus: CPU cores of a task
        memory: memory of a node
        time: time limit
        partition: partition
        name: name of the job
        setup: a line that prepares the environment
    """

    nodes: int = 1
    devices: int = 1
    cpus: int = 8
    memory: str = "32G"
    time: str = "04:00:00"
    partition: str | None = None
    name: str = "parlab"
    setup: str = ". .venv/bin/activate"


def main(argv: Sequence[str]) -> int:
    """Print the script."""
    own, command = split_command(argv)
    parser = Parser.of("slurm", "Print a SLURM job script: python -m parlab slurm --nodes 2 --devices 4 -- predict ...")
    parser.add_class_arguments(Job)
    options = vars(parser.read(own))
    print(job_script(command, Job(**{name: options[name] for name in Job.__dataclass_fields__})), end="")
    return 0


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options before ``--``, and the parlab command after it.

    Raises:
        UserError: there is no command, or one that does not run on devices.
    """
    arguments = list(argv)
    if {"--help", "-h"} & set(arguments[: arguments.index("--")] if "--" in arguments else arguments):
        return arguments, []
    if "--" not in arguments or arguments.index("--") == len(arguments) - 1:
        raise UserError("slurm got no command, expected one after --; write slurm --nodes 2 -- predict --model ...")
    index = arguments.index("--")
    own, command = arguments[:index], arguments[index + 1 :]
    if command[0] not in RUNNABLE:
        raise UserError(
            f"'{command[0]}' is no command for many devices, expected one of {', '.join(RUNNABLE)}"
            f"{nearest(command[0], RUNNABLE)}"
        )
    return own, command


def job_script(command: Sequence[str], job: Job) -> str:
    """The text of an ``sbatch`` script."""
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": job.devices,
        "gpus-per-node": job.devices,
        "cpus-per-task": job.cpus,
        "mem": job.memory,
        "time": job.time,
        "output": f"{job.name}-%j.log",
        # fit ends cleanly on SIGTERM: model/ and last.ckpt are written before the limit strikes.
        "signal": "SIGTERM@120",
    }
    if job.partition:
        options["partition"] = job.partition
    trainer = [f"--trainer.num_nodes={job.nodes}", f"--trainer.devices={job.devices}"]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{key}={value}" for key, value in options.items()),
        "",
        "set -euo pipefail",
        job.setup,
        "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}",
        f"srun {shlex.join(['python', '-m', 'parlab', *command, *trainer])}",
    ]
    return "\n".join(lines) + "\n"
