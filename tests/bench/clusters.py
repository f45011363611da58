"""A two-node Ray cluster in processes of its own, with an environment of its own, for tests that join it."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import sys, time
from ray.cluster_utils import Cluster
gpus, hidden = sys.argv[1:]
node = {"num_cpus": 1, "num_gpus": int(gpus), "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
if hidden:  # from here on this process, and so the second node, has another folder there
    import ctypes, subprocess
    assert ctypes.CDLL(None, use_errno=True).unshare(0x20000) == 0, "needs root"
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", hidden], check=True)
for attempt in range(3):  # a loaded machine can miss Ray's fixed 30 s
    try:
        cluster.add_node(**node)
        break
    except Exception as error:
        if attempt == 2:
            raise
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def environment(**more: str) -> dict[str, str]:
    """For commands of these tests: the checkout, one thread, none of the caller's clusters."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return {**kept, **quiet, "AWS_EC2_METADATA_DISABLED": "true", **more}


@contextlib.contextmanager
def two_nodes(settings: Mapping[str, str], gpus: int = 0, hidden: str = "") -> Iterator[str]:
    """HOST:PORT of a head and one more node, one core and so many made-up GPUs each; all is gone afterwards.

    hidden: a folder of this machine that the second node does not see, as if it were another machine; needs root.
    """
    scratch = tempfile.mkdtemp(prefix="b", dir="/tmp")  # Ray's sockets need a short path
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(gpus), hidden], cwd=ROOT, env=environment(RAY_TMPDIR=scratch, **settings),
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = next((line for line in process.stdout if line.startswith("address ")), "")
        assert line, process.communicate()
        yield line.split()[1]
    finally:
        process.stdin.close()
        process.wait(timeout=300)
        shutil.rmtree(scratch, ignore_errors=True)
