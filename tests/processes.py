"""A real server process for tests where sockets, signals or several processes matter: started, awaited, logged, ended."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from settings import Settings, from_environment
from tests.servers import free_port

ROOT = Path(__file__).parent.parent
SERVE = (sys.executable, "-m", "cli", "serve")
START_S = 60.0  # seconds until /readyz says yes, also on a machine that does ten other things; two are usual
STOP_S = 15.0  # seconds from SIGTERM to the end: the promise the server makes
# What decides how a server runs comes from the test alone, never from the shell that started the tests.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")

OF_THE_PROCESS = ("host", "port", "public_url")
VARIABLES = {
    "data_dir": "FLOTILLA_DATA_DIR",
    "allowed_origins": "ALLOWED_ORIGINS",
    "trusted_documents": "TRUSTED_DOCUMENTS",
    "trusted_documents_only": "TRUSTED_DOCUMENTS_ONLY",
    "log_level": "LOG_LEVEL",
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "blob_url": "BLOB_URL",
    "blob_presigned": "BLOB_PRESIGNED",
    "database_pool_size": "DATABASE_POOL_SIZE",
    "secret_key": "SECRET_KEY",
    "smtp_url": "SMTP_URL",
    "mail_dir": "MAIL_DIR",
    "mail_from": "MAIL_FROM",
    "billing": "BILLING",
    "stripe_api_key": "STRIPE_API_KEY",
    "stripe_publishable_key": "STRIPE_PUBLISHABLE_KEY",
    "stripe_webhook_secrets": "STRIPE_WEBHOOK_SECRETS",
    "billing_max_retries": "BILLING_MAX_RETRIES",
    "billing_trial_days": "BILLING_TRIAL_DAYS",
    "billing_require_card": "BILLING_REQUIRE_CARD",
    "billing_return_urls": "BILLING_RETURN_URLS",
    "max_organizations_per_user": "MAX_ORGANIZATIONS_PER_USER",
    "rate_limits": "RATE_LIMITS",
    "requests_per_window": "REQUESTS_PER_WINDOW",
    "cost_per_window": "COST_PER_WINDOW",
    "stalled_reader_s": "STALLED_READER",
    "firmware_max_bytes": "FIRMWARE_MAX_BYTES",
    "upload_max_bytes": "UPLOAD_MAX_BYTES",
    "keep_alive_s": "KEEP_ALIVE",
    "event_data_max_bytes": "EVENT_DATA_MAX",
    "event_rate_per_s": "EVENT_RATE",
    "event_burst": "EVENT_BURST",
    "device_connects_per_s": "DEVICE_CONNECTS",
    "call_timeout_s": "CALL_TIMEOUT",
    "beat_s": "BEAT",
    "dead_after_s": "DEAD_AFTER",
    "log_retention_s": "LOG_RETENTION",
    "log_max_rows": "LOG_MAX_ROWS",
}
DEFAULTS = Settings()


class ServerFailed(Exception):
    """The process ended or did not become ready; the message carries the end of its log."""


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a server process these settings; where it listens is left to ServerProcess.

    Raises ValueError for a setting that no variable carries, which the server would otherwise ignore without a word.
    """
    environment = {}
    for name, variable in VARIABLES.items():
        value = getattr(settings, name)
        if value != getattr(DEFAULTS, name):
            environment[variable] = _spelled(value)
    read = from_environment({"SECRET_KEY": "unused, but long enough to be taken", **environment})
    for field in dataclasses.fields(Settings):
        wanted = getattr(settings, field.name)
        if field.name not in OF_THE_PROCESS and wanted != getattr(DEFAULTS, field.name) and wanted != getattr(read, field.name):
            raise ValueError(f"No environment variable carries {field.name}={wanted!r} to a server process.")
    return environment


def _spelled(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case tuple():
            return ",".join(value)
        case _:
            return str(value)


class ServerProcess:
    """One server process on a port of 127.0.0.1; a context manager that starts it and at the end stops it.

    `command` may hold "{port}"; HOST and PORT are set for it too. `port` stays the same over a restart, so clients find
    their server again. Everything the process prints goes to one file, which `log()` reads.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        log_path: Path,
        command: Sequence[str] = SERVE,
        port: int | None = None,
        ready_path: str = "/readyz",
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket_url = f"ws://127.0.0.1:{self.port}"
        self._command = [word.format(port=self.port) if "{port}" in word else word for word in command]
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        own = {"HOST": "127.0.0.1", "PORT": str(self.port), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        self._environment = {**kept, **own, **environment}
        self._ready_path = ready_path
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self, *, timeout_s: float = START_S) -> Self:
        """Start it and return when it is ready. Raises ServerFailed, and then nothing is left running."""
        self.spawn()
        try:
            self.wait_until_ready(timeout_s=timeout_s)
        except BaseException:
            self.kill()
            raise
        return self

    def spawn(self) -> None:
        """Start it without waiting: for servers that shall refuse, and for several at once."""
        assert self._process is None, "already started"
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_ready(self, *, timeout_s: float = START_S) -> None:
        """Raises ServerFailed as soon as the process has ended, or after `timeout_s`."""
        process = self._running()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerFailed(f"It ended with exit code {process.returncode} before it was ready:\n{self.log()[-4000:]}")
            if self.is_ready():
                return
            time.sleep(0.02)
        raise ServerFailed(f"It was not ready within {timeout_s:g} s:\n{self.log()[-4000:]}")

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url + self._ready_path, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def wait(self, *, timeout_s: float = STOP_S) -> int:
        """Wait until the process ends by itself; returns its exit code. Raises subprocess.TimeoutExpired."""
        return self._running().wait(timeout_s)

    def stop(self, *, timeout_s: float = STOP_S) -> int:
        """SIGTERM; returns the exit code. A server that outlives `timeout_s` is killed, and that is a ServerFailed."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"It was still running {timeout_s:g} s after SIGTERM:\n{self.log()[-4000:]}") from None
        self._process = None
        return code

    def kill(self) -> None:
        """kill -9: no goodbye, nothing flushed. Harmless when it has ended already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """Everything it has printed so far, over all its starts."""
        return self._log_path.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # After a failed test only the end matters, and a second error would hide the first.
        if error is not None:
            self.kill()
        elif self._process is not None:
            self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started, or ended"
        return self._process
