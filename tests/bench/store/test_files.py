"""What stands between a store and the file system that a URL names: Google's storage, played by this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.errors import NoStore, StoreError
from bench.store import files
from bench.store.store import Store

NOBODY = "127.0.0.1:9"
"""An address at which nothing listens."""


class EmptyBucket(BaseHTTPRequestHandler):
    """Google's JSON API as far as a bucket without objects needs it."""

    def do_GET(self) -> None:
        listing = self.path.partition("?")[0].endswith("/o")
        missing = {"code": 404, "message": "No such object", "errors": [{"reason": "notFound", "message": ""}]}
        body = json.dumps({"kind": "storage#objects", "items": []} if listing else {"error": missing}).encode()
        self.send_response(200 if listing else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def google() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyBucket)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def url(server: str, more: str = "") -> str:
    return f"gs://anonymous@bucket/run?endpoint_override={server.replace(':', '%3A')}&scheme=http{more}"


@pytest.mark.timeout(120)
def test_a_google_store_that_does_not_answer_is_one_line_and_not_fifteen_minutes(monkeypatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 1)
    with pytest.raises(StoreError) as error:
        Store(url(NOBODY))
    said = str(error.value)
    assert said.startswith("store gs://bucket/run?endpoint_override=")
    assert ": Google's storage cannot be read (PerformWork() - CURL error [7]=Could not connect to server); " in said
    assert said.endswith("check the network and the login (`gcloud auth application-default login`, or "
                         "GOOGLE_APPLICATION_CREDENTIALS)")  # fmt: skip


@pytest.mark.timeout(120)
def test_a_missing_login_is_named(monkeypatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 1)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setenv("GCE_METADATA_ROOT", NOBODY)  # instead of the address at which machines of Google find a login
    with pytest.raises(StoreError, match=r"cannot be read \(Could not create a OAuth2 access token to .*\); check"):
        Store("gs://bucket/run")


def test_that_there_is_no_such_file_is_an_answer(google: str) -> None:
    with pytest.raises(NoStore, match="no store at gs://bucket/run"):
        Store(url(google), create=False)


def test_who_names_a_limit_has_it_for_everything(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(files, "_first_answer", asked.append)
    files.Folder(url(NOBODY, "&retry_limit_seconds=2"))
    assert asked == []
    files.Folder(url(NOBODY))
    assert asked == [url(NOBODY)]
