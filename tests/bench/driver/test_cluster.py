"""Joining a running cluster: two nodes, a token, a store behind S3; and the files that help to get a cluster."""

import re
import subprocess
import sys
from pathlib import Path

import clusters
import pytest
import yaml
from stores import bucket_url, contents

from bench.cli.app import call
from bench.store.store import Store

DOCS = clusters.ROOT / "docs"
PATIENCE = 1800


def bench(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], env=clusters.environment(**settings), cwd=clusters.ROOT,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_two_nodes_with_a_token_and_a_store_behind_s3_leave_what_a_local_run_leaves(
    tmp_path: Path, server: str
) -> None:
    """Without the token nobody gets in; with it the run finishes, record for record equal to `--local`."""
    shared = bucket_url(server, "cluster")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5f" * 32}
    run = ("run", "--grid", "smoke", "--methods", "nonlinear")
    local = bench(*run, "--local", "--store", str(tmp_path / "local"))
    assert local.returncode == 0, local.stderr
    with clusters.two_nodes(token) as address:
        join = (*run, "--store", shared, "--address", address)
        for stranger in ({"RAY_AUTH_MODE": "disabled"}, {**token, "RAY_AUTH_TOKEN": "ab" * 32}):
            refused = bench(*join, **stranger)
            assert refused.returncode == 2, refused.stderr
            assert refused.stderr.splitlines()[-1].startswith(f"bench run: --address {address}:"), refused.stderr
            assert "token" in refused.stderr.splitlines()[-1]
            assert "Traceback" not in refused.stderr
        assert Store(shared).done() == set()
        joined = bench(*join, **token)
        assert joined.returncode == 0, joined.stderr
        assert "secret" not in joined.stdout + joined.stderr
    expected, found = contents(Store(tmp_path / "local")), contents(Store(shared))
    assert found == expected
    assert len(found) == 5
    workers = {(record.provenance["host"], record.provenance["pid"]) for record in Store(shared).read_all()}
    assert len(workers) >= 2, "both nodes have worked"


@pytest.fixture
def launcher() -> dict:
    return yaml.safe_load((DOCS / "cluster.yaml").read_text(encoding="utf-8"))


def test_the_launcher_file_passes_rays_own_schema(launcher: dict) -> None:
    """As `ray up` reads it: defaults filled in, then checked against the schema that Ray ships."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(dict(launcher))
    validate_config(prepared)
    kinds = prepared["available_node_types"]
    assert prepared["head_node_type"] in kinds
    assert sum(kind["min_workers"] for kind in kinds.values()) <= prepared["max_workers"]
    broken = prepare_config({**launcher, "max_worker": 3})
    with pytest.raises(Exception, match="max_worker"):
        validate_config(broken)


def test_the_launcher_starts_every_node_with_the_token_and_stops_nobody_elses_ray(launcher: dict) -> None:
    starts = [c for part in ("head", "worker") for c in launcher[f"{part}_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "~/.ray/auth_token" in launcher["file_mounts"]


def test_every_command_of_the_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    """`bench` verbs and options in docs/cluster.md are those of the command line; the files it names are there."""
    text = (DOCS / "cluster.md").read_text(encoding="utf-8")
    lines = [line.strip() for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
    verbs = [line for line in lines if line.startswith("bench ")]
    assert len(verbs) >= 5
    for line in verbs:
        words = line.partition("#")[0].split()
        assert call([words[1], "--help"]) == 0
        help_ = capsys.readouterr().out
        foreign = {"--grid", "--store", "--seeds"} if words[1] == "slurm" else set()
        for option in (w.partition("=")[0] for w in words if w.startswith("--")):
            assert option in help_ or option in foreign, line
    for path in re.findall(r"\]\(([\w./]+)\)", text):
        assert (DOCS / path).exists(), path
