"""The job script is shell that parses, and asks SLURM for what Lightning needs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from parlab.cli import main
from parlab.decode import PAR
from parlab.options.decoders import name_decoders


def test_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["predict", "--model", "m", "--data", "a file.jsonl", "--decoder", "par", "--out", "o"]
    assert main(["slurm", "--nodes", "2", "--devices", "4", "--partition", "gpu", "--", *command]) == 0
    script = capsys.readouterr().out
    (tmp_path / "job.sh").write_text(script)
    subprocess.run(["bash", "-n", str(tmp_path / "job.sh")], check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.MULTILINE))
    assert (options["nodes"], options["ntasks-per-node"], options["gpus-per-node"]) == ("2", "4", "4")
    assert options["partition"] == "gpu"
    line = shlex.split(script.splitlines()[-1])
    assert line[:4] == ["srun", "python", "-m", "parlab"]
    assert line[4 : 4 + len(command)] == command
    assert line[-2:] == ["--trainer.num_nodes=2", "--trainer.devices=4"]


@pytest.mark.parametrize(
    "command", [["slurm"], ["slurm", "--"], ["slurm", "--", "report"], ["slurm", "--nods", "2", "--", "fit"]]
)
def test_wrong_calls(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("parlab: ")


def test_wandb_sweep_drives_predict() -> None:
    """The shipped W&B sweep names options that ``predict`` and its decoder have."""
    from parlab.commands.predict.options import PredictOptions

    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "wandb_sweep.yaml").read_text())
    chosen = [f"--{name}={entry['values'][0]}" for name, entry in config["parameters"].items()]
    at = config["command"].index("predict")
    command = [part.replace("${envvar:WANDB_RUN_ID}", "abc") for part in config["command"]]
    argv = [part for part in command[at + 1 :] if part != "${args}"] + chosen
    parsed = PredictOptions.parser().parse_args(name_decoders(argv))
    assert parsed.decoder.class_path.endswith("PAR")
    assert PAR(**vars(parsed.decoder.init_args)).threshold == 0.7
