"""One process per SQLite data folder: a lock on a file, held as long as the process lives and dropped by its death."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

_held: set[Path] = set()


class DataFolderTaken(Exception):
    """Another process works on this data folder; the message says which, and what to do."""


@contextmanager
def only_process(data_dir: Path) -> Iterator[None]:
    """Hold the data folder. Raises DataFolderTaken at once if another process does, or another server in this one."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir.resolve() / "flotilla.lock"
    # The system drops the lock with the last descriptor, however the process ends; the file itself stays and means nothing.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, data_dir)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@asynccontextmanager
async def turn(data_dir: Path, *, wait_s: float) -> AsyncIterator[None]:
    """Hold the data folder for a command, waiting for another; nothing to do where this process holds it already.

    Raises DataFolderTaken after `wait_s` seconds.
    """
    if data_dir.resolve() / "flotilla.lock" in _held:
        yield
        return
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        holding = only_process(data_dir)
        try:
            holding.__enter__()
            break
        except DataFolderTaken:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.05)
    try:
        yield
    finally:
        holding.__exit__(None, None, None)


def _lock(descriptor: int, data_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataFolderTaken(_who(descriptor, data_dir)) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _who(descriptor: int, data_dir: Path) -> str:
    pid = os.pread(descriptor, 20, 0).decode()
    process = f"process {pid}" if pid else "another process"
    return f"{data_dir} is in use by {process}. Stop it, choose another FLOTILLA_DATA_DIR, or use PostgreSQL (DATABASE_URL) for several."
