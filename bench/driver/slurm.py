"""`bench slurm`: an sbatch file that starts a Ray cluster over the nodes of a job and runs one `bench run` on it."""

import shlex
from collections.abc import Sequence

from bench.errors import BenchError

TEMPLATE = """\
#!/bin/bash
#SBATCH --job-name=bench
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --output=bench-%j.log
#SBATCH --signal=B:TERM@120
{extra}set -euo pipefail

# Every node must see the same environment and the same store (a shared path or s3://...).
{activate}
export OMP_NUM_THREADS=1
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN="$(openssl rand -hex 32)"  # only processes of this job know it
port=$((20000 + SLURM_JOB_ID % 20000))
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${{hosts[0]}}"
ip="$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{{print $1}}')"
address="$ip:$port"
export SRUN_CPUS_PER_TASK={cpus}  # since Slurm 22.05 srun does not take it from the job, and would bind Ray to one core

srun --nodes=1 --ntasks=1 -w "$head" \\
    ray start --head --node-ip-address="$ip" --port="$port" --num-cpus={cpus}{gpus} --include-dashboard=false --block &
for _ in {{1..60}}; do ray status --address "$address" > /dev/null 2>&1 && break; sleep 5; done
if [ "$SLURM_NNODES" -gt 1 ]; then  # nodes that come later than the run are used when they come
    srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \\
        ray start --address="$address" --num-cpus={cpus}{gpus} --block &
fi

# Two minutes before the time limit Slurm sends TERM: finished cells are kept, the next job goes on from there.
{command} --address "$address" &
run=$!
trap 'kill -TERM $run' TERM
status=0
wait $run || status=$?
if [ "$status" -gt 128 ]; then wait $run || status=$?; fi  # the first wait ended because of the trap
exit "$status"
"""


def script(
    run: Sequence[str],
    *,
    nodes: int,
    cpus: int = 8,
    gpus: int = 0,
    time: str = "24:00:00",
    environment: str = ".venv",
    options: Sequence[str] = (),
) -> str:
    """The text of the sbatch file. `run` are the arguments of `bench run`; `options` are further #SBATCH lines."""
    if nodes < 1 or cpus < 1 or gpus < 0:
        raise BenchError(f"--nodes {nodes} --cpus {cpus} --gpus {gpus}: give at least 1 node, 1 CPU and 0 GPUs")
    bad = [text for text in (time, *options) if "\n" in text or not text]
    if bad:
        raise BenchError(f"#SBATCH option {bad[0]!r} is empty or has a line break; give one option on one line")
    lines = [f"#SBATCH --gpus-per-node={gpus}"] if gpus else []
    lines += [f"#SBATCH {option}" for option in options]
    command = shlex.join(["bench", "run", *run, *(["--device", "cuda"] if gpus and "--device" not in run else [])])
    return TEMPLATE.format(
        nodes=nodes,
        cpus=cpus,
        time=time,
        gpus=f" --num-gpus={gpus}" if gpus else "",
        extra="".join(f"{line}\n" for line in lines),
        activate=f"source {shlex.quote(environment + '/bin/activate')}",
        command=command,
    )
