import json

import pytest
import torch
from linear_session import LinearSession

from bench.cells import Geometry
from bench.errors import BenchError
from bench.kinds import geometry

CELL = Geometry(
    suite="toy", backbone="toy", backbone_fingerprint="fp", tasks=(("one", "card"), ("two", "card")),
    experts=("a", "b"), finetuning="att", seed=0,
)  # fmt: skip


def test_metrics_and_no_rows() -> None:
    """Updates (3, 0; 0, 0) and (3, 0; 0, 4): cosine 9 / 15."""
    rows, found = geometry.run(CELL, LinearSession({}, {"a": [[3.0, 0.0], [0.0, 0.0]], "b": [[3.0, 0.0], [0.0, 4.0]]}))
    assert rows == []
    assert found["tasks"] == ["one", "two"]
    assert found["cosine"] == [[1.0, 0.6], [0.6, 1.0]]
    assert found["norms"] == [3.0, 5.0]
    assert found["layers"]["stable_rank"] == [pytest.approx((1 + 25 / 16) / 2, rel=1e-4)]
    assert found["layers"]["pretrained_tilt"] == [0.0]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_broken_vector_is_one_line() -> None:
    session = LinearSession({}, {"a": {"w": torch.full((2, 2), torch.nan)}, "b": [[3.0, 0.0], [0.0, 4.0]]})
    with pytest.raises(BenchError, match="'w' of expert 0 holds NaN"):
        geometry.run(CELL, session)
