"""Faults of schedules and drivers."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/driver/execute.py",
        ("tests/bench/cli/test_cli_values.py",),
        (
            "a merge waits for a vector that is gone",
            "return Schedule(plan, finished - lost)",
            "return Schedule(plan, finished)",
        ),
        ("everything is run again", "return Schedule(plan, finished - lost)", "return Schedule(plan)"),
    ),
    *faults(
        "bench/driver/base.py",
        ("tests/bench/driver/test_driver.py",),
        ("failures pass for results", 'if outcome.status == "done":', "if outcome.status:"),
    ),
    *faults(
        "bench/driver/resources.py",
        ("tests/bench/driver/test_driver_queues.py",),
        ("more processes than a GPU holds", "1 / how.gpu_share + 1e-9", "1 / how.gpu_share + 1"),
        ("a cell waits for ever for what the cluster lacks", "if resources.get(name, 0.0) < amount:", "if False:"),
    ),
]
