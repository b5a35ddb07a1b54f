"""Opening and closing the database of this process: SQLite in the data folder, or a pool of PostgreSQL connections."""

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.context import TortoiseContext, get_current_context
from tortoise.warnings import TortoiseLoopSwitchWarning

from models import sql
from models.transaction import detached
from settings import Settings

# Every module that holds a table: the one list.
MODEL_MODULES: tuple[str, ...] = (
    "models.account",
    "models.billing",
    "models.customer",
    "models.device",
    "models.firmware",
    "models.importing",
    "models.log",
    "models.oauth",
    "models.operations",
    "models.organization",
    "models.product",
    "models.rollout",
    "models.sandbox_billing",
)

STATEMENT_TIMEOUT_S = 5  # seconds a statement may run on the PostgreSQL server; migrations have no limit


class DatabaseUnreachable(Exception):
    """The database could not be opened; the message says where it was looked for, without the password."""


async def connect(settings: Settings, *, models: Sequence[str] = MODEL_MODULES) -> None:
    """Open the database for every task of this process, whichever context they run in. Raises DatabaseUnreachable."""
    # A second event loop would silently get a second connection, on SQLite past the lock that makes it one.
    warnings.filterwarnings("error", category=TortoiseLoopSwitchWarning)
    context = TortoiseContext()
    with context:  # while it is set up; from then on it is the one for every task, those of other contexts included
        await context.init(config=tortoise_config(settings, models), _enable_global_fallback=True)
        await _open_connections(context, settings)


async def close() -> None:
    """Give every connection back; waits up to 10 s for statements under way."""
    context = get_current_context()
    if context is not None:
        await context.close_connections()


@asynccontextmanager
async def database(settings: Settings, *, models: Sequence[str] = MODEL_MODULES) -> AsyncIterator[None]:
    """connect() and close() around a block: the server's lifespan, or one command."""
    await connect(settings, models=models)
    try:
        yield
    finally:
        await close()


@asynccontextmanager
async def opened(settings: Settings, models: Sequence[str] = (), *, migrating: bool = False) -> AsyncIterator[TortoiseContext]:
    """A connection seen inside the block only, even while the process has its database open: for migrations and their checks."""
    async with TortoiseContext() as context:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*has no models", category=RuntimeWarning)
            await context.init(config=tortoise_config(settings, models, migrating=migrating))
        await _open_connections(context, settings)
        yield context


async def ping(timeout_s: float = 2.0) -> bool:
    """Whether the database answers. Returns within `timeout_s` seconds, even if the cleaning up after a dead peer takes longer."""
    probe = detached(sql.rows("SELECT 1 AS one"), name="database ping")
    await asyncio.wait([probe], timeout=timeout_s)
    if not probe.done():
        probe.cancel()
        return False
    return not probe.cancelled() and probe.exception() is None


def sqlite_path(settings: Settings) -> Path:
    if settings.database_url == "":
        return settings.data_dir / "flotilla.db"
    return Path(settings.database_url.removeprefix("sqlite:").removeprefix("//").partition("?")[0])


def tortoise_config(settings: Settings, models: Sequence[str], *, migrating: bool = False) -> dict[str, Any]:
    """What Tortoise is told. `migrating`: one connection, no foreign keys on SQLite, no time limit on PostgreSQL.

    SQLite ignores a change of `foreign_keys` inside a transaction, and a table rebuilt with them on takes its children along.
    """
    chosen = _sqlite(settings, migrating) if settings.is_sqlite else _postgres(settings, migrating)
    tables = {"models": list(models) or ["models.engine"], "default_connection": "default"}  # Tortoise insists on a module
    return {"connections": {"default": chosen}, "apps": {"models": tables}, "use_tz": True, "timezone": "UTC"}


def _sqlite(settings: Settings, migrating: bool) -> dict[str, Any]:
    credentials = {
        "file_path": str(sqlite_path(settings)),
        "acquire_timeout_s": settings.database_acquire_timeout_s,
        "synchronous": "NORMAL",
        "busy_timeout": 10_000,  # milliseconds
        "foreign_keys": "OFF" if migrating else "ON",
    }
    return {"engine": "models.sqlite_engine", "credentials": credentials}


def _postgres(settings: Settings, migrating: bool) -> dict[str, Any]:
    limits = {"lock_timeout": "10s"} if migrating else {"statement_timeout": f"{STATEMENT_TIMEOUT_S}s"}
    pool = {
        "min_size": 1,
        "max_size": 1 if migrating else settings.database_pool_size,
        "timeout": settings.database_connect_timeout_s,
        "command_timeout": None if migrating else settings.database_command_timeout_s,
        "server_settings": {"application_name": "flotilla migrate" if migrating else "flotilla", "timezone": "UTC", "datestyle": "ISO"}
        | limits,
    }
    credentials = {"dsn": settings.database_url, "pool": pool, "acquire_timeout_s": settings.database_acquire_timeout_s}
    return {"engine": "models.asyncpg_engine", "credentials": credentials}


async def _open_connections(context: TortoiseContext, settings: Settings) -> None:
    """Now, so that a wrong address is told at the start and not by the first request."""
    EXECUTOR_CACHE.clear()  # its INSERTs are kept by connection name, whatever database that last was: tests use both kinds
    try:
        if settings.is_sqlite:
            _make_private_file(sqlite_path(settings))
        await context.db().create_connection(with_db=True)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        await context.close_connections()
        raise DatabaseUnreachable(f"The database at {_place(settings)} cannot be opened: {type(error).__name__}: {error}") from error


def _make_private_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # the journal files take these rights over


def _place(settings: Settings) -> str:
    if settings.is_sqlite:
        return str(sqlite_path(settings))
    address = urlsplit(settings.database_url)
    return f"{address.hostname}:{address.port or 5432}{address.path}"
