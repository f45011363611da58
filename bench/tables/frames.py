"""Stored rows and cells as DataFrames. Text columns are categories in the order of the alphabet, so groups are too."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from bench.ground.metrics import accuracy


def of_rows(rows: pa.Table, *, bits: bool = False) -> pd.DataFrame:
    """The columns of `records.SCHEMA` and `accuracy` in [0, 1]; the correctness bits, as bytes, only if asked for."""
    if not bits:
        rows = rows.drop_columns(["bits"])
    for place, field in enumerate(rows.schema):
        if pa.types.is_string(field.type):
            rows = rows.set_column(place, field.name, rows.column(place).dictionary_encode())
    frame = rows.to_pandas()
    for name in frame.columns[frame.dtypes == "category"]:
        frame[name] = frame[name].cat.reorder_categories(sorted(frame[name].cat.categories))
    frame["accuracy"] = rates(frame)
    return frame


def rates(frame: pd.DataFrame) -> pd.Series:
    """Accuracy in [0, 1] of every row; BenchError for counts that cannot be."""
    impossible = frame[(frame["correct"] < 0) | (frame["correct"] > frame["total"]) | (frame["total"] == 0)]
    for correct, total in impossible[["correct", "total"]].itertuples(index=False):
        accuracy(correct, total)
    return frame["correct"] / frame["total"]


def groups(frame: pd.DataFrame, *by: str) -> dict[Any, pd.DataFrame]:
    """{value of the column, or values of the columns: the rows that have them}, in the order of the values."""
    return dict(list(frame.groupby(by[0] if len(by) == 1 else list(by), observed=True)))


def places(frame: pd.DataFrame, *by: str) -> dict[Any, npt.NDArray[np.intp]]:
    """The same with the places of these rows in `frame`, for what is kept beside it as arrays."""
    indices: dict[Any, Any] = frame.groupby(list(by), observed=True).indices
    return dict(sorted(indices.items()))


def percent(rate: float | None) -> float | None:
    """A rate as percent with two decimals."""
    return None if rate is None else round(100 * rate, 2) + 0.0


def rounded(values: npt.NDArray[np.float64], digits: int) -> Any:
    """An array as lists of numbers with so many decimals, each rounded as Python rounds it."""
    return np.vectorize(lambda value: round(float(value), digits), otypes=[float])(values).tolist()


def without(identity: Mapping[str, Any], *names: str) -> str:
    """An identity as JSON without some of its fields."""
    return json.dumps({name: value for name, value in identity.items() if name not in names}, sort_keys=True)


def tag(texts: Iterable[str]) -> str:
    """64 hex digits of identities that were made comparable by `without`: equal ones are one way of getting results."""
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()
