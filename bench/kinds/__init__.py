"""The kinds of cells, one file each: `run(cell, session) -> (rows, metrics)`.

Rows are integers and coefficients (`bench.store.records.SCHEMA` without the key); metrics are deterministic numbers. A
kind reads warm things from the session (backbone, heads, images, task vectors) and writes nothing but an expert's
vector.
"""
