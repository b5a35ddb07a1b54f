"""A real S3 server that checks signatures, in a process of its own, and one bucket in it."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from tests.servers import free_port

START_S = 60.0
KEYS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}  # what a process needs to use the bucket


@dataclass(frozen=True, slots=True)
class Bucket:
    endpoint: str

    def url(self, prefix: str) -> str:
        """What BLOB_URL says for a place of its own in the bucket."""
        return f"s3://fleet/{prefix}?endpoint={self.endpoint}&region=us-east-1"

    def store(self, prefix: str) -> S3Store:
        """The same place, for a test that goes behind the server's back."""
        place = {"endpoint": self.endpoint, "region": "us-east-1", "access_key_id": "reader", "secret_access_key": "not-a-secret"}
        return S3Store("fleet", prefix=prefix, config=place, client_options={"allow_http": True})  # type: ignore[arg-type]  # its keys are literals

    def names(self, prefix: str) -> list[str]:
        return sorted(found["path"] for page in obstore.list(self.store(prefix)) for found in page)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Bucket]:
    """Skips the test, loudly, where the server is not installed."""
    pytest.importorskip("nanio", reason="NOT TESTED on S3: nanio is missing.")
    (folder / "fleet").mkdir()
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "NANIO_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "NANIO_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/")
        yield Bucket(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError, urllib.error.URLError):
            with contextlib.suppress(urllib.error.HTTPError):  # refused, so it answers
                urllib.request.urlopen(url, timeout=2).close()
            return
        time.sleep(0.05)
    raise TimeoutError("the S3 server did not start")
