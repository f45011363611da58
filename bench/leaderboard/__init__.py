"""Leaderboards: byte-stable functions of the Parquet files."""

from bench.leaderboard.build import build, check, diff, export, table

__all__ = ["build", "check", "diff", "export", "table"]
