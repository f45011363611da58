"""Leaderboards: byte-stable functions of the Parquet files."""

from bench.boards.files import build, check, diff, export, plot, table

__all__ = ["build", "check", "diff", "export", "plot", "table"]
