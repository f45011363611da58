"""What the workers of a cluster must have in common with their driver, looked at before the first cell runs."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.errors import BenchError, NoStore, StoreError, first_line, shown
from bench.ground import versions
from bench.store.store import Store


def _ours() -> dict[str, str]:
    found = versions.here()
    return {name: found[name] for name in versions.COMPUTE}


@dataclass(frozen=True)
class Common:
    """Travels from the driver to every worker."""

    store: str
    """As `Store.address`."""
    sign: str
    """A file that the driver has just put into it."""
    versions: Mapping[str, str] = field(default_factory=_ours)

    def check(self) -> None:
        """BenchError in a worker that has another store behind the same path, other versions or other code.

        Its records would be lost to the driver, or not be what the driver's versions compute.
        """
        node, ours = platform.node(), _ours()
        other = [f"{n} {ours[n]} (driver: {self.versions[n]})" for n in ours if ours[n] != self.versions[n]]
        if other:
            raise BenchError(
                f"node {node} has {', '.join(other)}; install the same on every node, `bench doctor --address` "
                "compares them"
            )
        try:
            Store(self.store, create=False).get(self.sign)
        except (OSError, StoreError) as error:
            why = "" if isinstance(error, FileNotFoundError | NoStore) else f" ({first_line(error)})"
            raise BenchError(
                f"node {node} does not see the driver's store {shown(self.store)}{why}; mount it at the same path on "
                "every node, or name one by URL and give every node its keys"
            ) from error
