"""The test bed's server process: it becomes ready, logs, stops, dies, and never outlives its test."""

import dataclasses
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from settings import Settings, from_environment
from tests.processes import ServerFailed, ServerProcess, environment_of

APP = '''
"""An application for the tests of the test bed."""
import os

if os.environ.get("REFUSE"):
    raise SystemExit(os.environ["REFUSE"])

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("went quietly")
        await send({"type": "lifespan.shutdown.complete"})
        return
    status = 503 if os.environ.get("NEVER_READY") else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": os.environ.get("SECRET_KEY", "").encode()})
'''


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "tiny.py").write_text(APP)
    return (sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "tiny:app", "--port", "{port}")


def test_a_server_becomes_ready_and_stops_at_sigterm(command: tuple[str, ...], tmp_path: Path) -> None:
    with ServerProcess({"SECRET_KEY": "s"}, log_path=tmp_path / "log", command=command) as server:
        body = urllib.request.urlopen(server.url, timeout=60).read()
        code = server.stop()

    assert body == b"s"
    assert code in (0, -15)
    assert "went quietly" in server.log()


def test_a_killed_server_comes_back_on_its_port(command: tuple[str, ...], tmp_path: Path) -> None:
    with ServerProcess({}, log_path=tmp_path / "log", command=command) as server:
        first = server.pid
        server.kill()
        ready_while_dead = server.is_ready()
        server.start()

        assert not ready_while_dead
        assert server.pid != first
        assert server.is_ready()
    assert server.log().count("Started server process") == 2


def test_a_server_that_refuses_to_start_fails_at_once_with_its_reason(command: tuple[str, ...], tmp_path: Path) -> None:
    server = ServerProcess({"REFUSE": "another server has the data"}, log_path=tmp_path / "log", command=command)

    with pytest.raises(ServerFailed, match="another server has the data"):
        server.start()


def test_a_server_that_is_never_ready_is_not_left_running(command: tuple[str, ...], tmp_path: Path) -> None:
    server = ServerProcess({"NEVER_READY": "1"}, log_path=tmp_path / "log", command=command)
    server.spawn()
    pid = server.pid
    server.kill()

    with pytest.raises(ServerFailed, match=r"not ready within 0\.5 s"):
        server.start(timeout_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(AssertionError, match="not started"):
        server.stop()


def test_a_server_that_ignores_sigterm_is_killed_and_that_is_a_failure(tmp_path: Path) -> None:
    program = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(60)"
    server = ServerProcess({}, log_path=tmp_path / "log", command=(sys.executable, "-c", program))
    server.spawn()
    while "deaf" not in server.log():
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(timeout_s=0.05)

    with pytest.raises(ServerFailed, match="still running"):
        server.stop(timeout_s=0.3)


def test_the_shell_of_the_developer_does_not_decide_how_a_server_runs(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "of the developer")

    with ServerProcess({}, log_path=tmp_path / "log", command=command) as server:
        body = urllib.request.urlopen(server.url, timeout=60).read()

    assert body == b""


def test_start_server_gives_the_settings_to_the_process(
    start_server: Callable[..., ServerProcess], sqlite_settings: Settings, command: tuple[str, ...]
) -> None:
    one = start_server(sqlite_settings, command=command)
    two = start_server(sqlite_settings, command=command, SECRET_KEY="another")

    assert urllib.request.urlopen(one.url, timeout=60).read() == sqlite_settings.secret_key.encode()
    assert urllib.request.urlopen(two.url, timeout=60).read() == b"another"


def test_settings_survive_the_way_through_the_environment(sqlite_settings: Settings) -> None:
    chosen = dataclasses.replace(
        sqlite_settings, keep_alive_s=0.5, rate_limits=False, allowed_origins=("https://a.example", "https://b.example"), event_burst=9
    )

    assert from_environment(environment_of(chosen)) == chosen


def test_a_setting_no_variable_carries_is_refused(sqlite_settings: Settings) -> None:
    with pytest.raises(ValueError, match="download_ttl_s=1"):
        environment_of(dataclasses.replace(sqlite_settings, download_ttl_s=1))
