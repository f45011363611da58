"""The command `bench`. Each verb imports what it needs when it runs, so that `--help` answers at once."""

from bench.cli.app import main

__all__ = ["main"]
