"""The sbatch file: valid bash, the options where they belong, and a run that survives a fake cluster."""

import os
import subprocess

import pytest

from bench.cli.app import call
from bench.driver.slurm import script
from bench.errors import BenchError


def test_bash_accepts_it_and_options_are_quoted():
    text = script(
        ["--grid", "paper", "--store", "/shared/my store"], nodes=4, cpus=16, gpus=8, options=["--partition=x"]
    )
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "#SBATCH --nodes=4\n" in text
    assert "#SBATCH --gpus-per-node=8\n#SBATCH --partition=x\nset -euo pipefail" in text
    assert "--num-cpus=16 --num-gpus=8" in text
    assert "bench run --grid paper --store '/shared/my store' --device cuda --address" in text


def test_no_gpus_no_device():
    text = script(["--grid", "all"], nodes=1)
    assert "gpu" not in text
    assert "cuda" not in text


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"nodes": 1, "time": "1:00\n#SBATCH --uid=0"}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(BenchError, match="give"):
        script([], **wrong)


def test_a_mistyped_option_of_the_run_is_an_error_now(capsys):
    assert call(["slurm", "--nodes", "2", "--grd", "paper"]) == 2
    assert "No such option: --grd" in capsys.readouterr().err
    assert call(["slurm", "--nodes", "2", "--grid", "paper"]) == 0
    assert "bench run --grid paper" in capsys.readouterr().out


def test_it_runs_on_a_cluster_made_of_stand_ins(tmp_path):
    """srun, scontrol, ray and bench are stand-ins that write down how they were called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    log = tmp_path / "log"
    bodies = {
        "scontrol": "echo node1; echo node2",
        "hostname": "echo 10.0.0.1 10.0.0.2",
        "srun": 'while [[ "$1" == -* ]]; do if [ "$1" = -w ]; then shift; fi; shift; done; exec "$@"',
        "ray": f"""echo "ray $* cores=${{SRUN_CPUS_PER_TASK:-1}}" >> {log}
            [ "$1 $(grep -c status {log})" != "status 1" ]  # the head does not answer at once""",
        "bench": f'echo "bench $* auth=$RAY_AUTH_MODE" >> {log}; exit 1',
        "openssl": "echo secret",
        "sleep": "exit 0",
    }
    for name, body in bodies.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
    }
    text = script(["--grid", "smoke"], nodes=2)
    done = subprocess.run(["bash"], input=text, text=True, cwd=tmp_path, env=env, capture_output=True, timeout=60)
    assert done.returncode == 1, done.stderr  # the exit code of `bench run`
    lines = log.read_text().splitlines()
    head = "ray start --head --node-ip-address=10.0.0.1 --port=20007 --num-cpus=8 --include-dashboard=false --block"
    assert f"{head} cores=8" in lines
    assert "ray start --address=10.0.0.1:20007 --num-cpus=8 --block cores=8" in lines
    assert sum(line.startswith("ray status --address 10.0.0.1:20007") for line in lines) == 2, "until the head answers"
    assert "bench run --grid smoke --address 10.0.0.1:20007 auth=token" in lines
