"""What two stores must agree on, and a store behind S3, for tests."""

from collections.abc import Iterable

import pyarrow.fs as pafs

from bench.store.store import Store


def contents(store: Store, keys: Iterable[str] | None = None) -> dict[str, tuple[object, ...]]:
    """All of every record but its provenance, and every task vector's bytes."""
    return {
        r.key: (r.identity, r.rows, r.metrics, store.read_vector(r.key) if store.has_vector(r.key) else b"")
        for r in store.read_all(keys)
    }


def bucket_url(server: str, bucket: str) -> str:
    """A new bucket of the server at HOST:PORT, as the URL that users give to --store."""
    where = f"endpoint_override={server.replace(':', '%3A')}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    fs, _ = pafs.FileSystem.from_uri(f"s3://key:secret@{bucket}?{where}")
    fs.create_dir(bucket)
    return f"s3://key:secret@{bucket}/runs/first?{where}"
