"""The only way to open a transaction, what happens at its beginning and after its commit, and tasks that must not inherit it."""

import asyncio
import contextvars
import inspect
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import asyncpg
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connections
from tortoise.context import get_current_context, require_context
from tortoise.exceptions import TransactionManagementError

from models import asyncpg_engine, sqlite_engine
from models.engine import refuse_if_ended, uninterrupted

log = logging.getLogger(__name__)

T = TypeVar("T")
AfterCommit = Callable[[], Awaitable[object] | None]
Preamble = Callable[[], Awaitable[object]]

# What PostgreSQL asks to be tried again; asyncpg's own errors, which Tortoise does not translate.
TRY_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class _Open:
    """One outermost transaction."""

    def __init__(self) -> None:
        self.after_commit: list[AfterCommit] = []
        self.spoiled = False  # a block that joined has failed
        self.ended = False


_open: contextvars.ContextVar[_Open | None] = contextvars.ContextVar("flotilla_transaction", default=None)
_preamble: contextvars.ContextVar[Preamble | None] = contextvars.ContextVar("flotilla_preamble", default=None)
_detached: set[asyncio.Task[Any]] = set()  # the event loop itself keeps only weak references


@asynccontextmanager
async def transaction(*, quick: bool = False) -> AsyncIterator[None]:
    """All of the block, or nothing of it: BEGIN on PostgreSQL, BEGIN IMMEDIATE on SQLite.

    A `quick` block writes a few rows by statements of models.sql, and waits for nothing else: on SQLite it need not go to another
    thread, which costs more than all it does there.

    A block inside another joins the outer one: one commit, at the outermost end. If a joined block fails, the whole is rolled
    back, even if the failure is caught in between: nothing half-done is ever committed.
    A cancelled caller leaves no connection behind; a COMMIT under way is finished, and then told to `after_commit`.

    Raises DatabaseBusy when no connection becomes free in time, TransactionManagementError when a caught failure spoiled it, or
    when called by a task that was started inside a transaction which is over.
    Source: reliability, "Cancellation".
    """
    outer = _open.get()
    if outer is None:
        async with _outermost(quick):
            yield
        return
    refuse_if_ended(outer.ended)
    try:
        yield
    except BaseException:
        outer.spoiled = True
        raise


@asynccontextmanager
async def _outermost(quick: bool) -> AsyncIterator[None]:
    mine = _Open()
    client = None
    token = _open.set(mine)
    try:
        root: Any = connection()
        async with root._in_transaction(quick=quick) as client:
            if preamble := _preamble.get():
                await preamble()
            yield
            if mine.spoiled:
                raise TransactionManagementError("A block inside this transaction failed: all of it is rolled back.")
    finally:
        mine.ended = True
        _open.reset(token)
        if getattr(client, "committed", False) and mine.after_commit:
            steps = iter(mine.after_commit)
            if first_to_wait := _tell(steps):
                await uninterrupted(_tell_on(first_to_wait, steps))


def _tell(steps: Iterator[AfterCommit]) -> Awaitable[object] | None:
    """Take them in their order, up to the first that has to be waited for, which is returned."""
    for step in steps:
        try:
            outcome = step()
            if inspect.isawaitable(outcome):
                return outcome
        except Exception:  # what is committed stays so, and the others must hear of it
            log.exception("A step after the commit failed.")
    return None


async def _tell_on(waited_for: Awaitable[object] | None, steps: Iterator[AfterCommit]) -> None:
    while waited_for is not None:
        try:
            await waited_for
        except Exception:  # as above
            log.exception("A step after the commit failed.")
        waited_for = _tell(steps)


def after_commit(callback: AfterCommit) -> None:
    """Run `callback` (plain, or returning an awaitable) once the outermost transaction is committed; never after a rollback.

    In the order registered, outside the transaction. An error is logged and hides no other. Keep it short and bounded in time:
    a cancelled caller waits for it too. Raises RuntimeError outside of a transaction.
    """
    current = _open.get()
    if current is None or current.ended:
        raise RuntimeError("after_commit() needs an open transaction().")
    current.after_commit.append(callback)


@contextmanager
def beginning_with(preamble: Preamble) -> Iterator[None]:
    """Inside the block every outermost transaction begins with `preamble`: one commit for both, and what it raises refuses the rest.

    So that something can be known of an act together with the act, without the act knowing. Tasks of detached() are free of it.
    """
    token = _preamble.set(preamble)
    try:
        yield
    finally:
        _preamble.reset(token)


def in_transaction() -> bool:
    """Whether what this task writes now waits for a commit."""
    current = _open.get()
    return current is not None and not current.ended


async def retrying(work: Callable[[], Awaitable[T]], *, attempts: int = 5) -> T:
    """Call `work`, which opens its own transaction, again when PostgreSQL reports a serialization failure or a deadlock.

    Raises RuntimeError inside a transaction, where only the outermost may be repeated; the last failure after `attempts` calls.
    """
    if in_transaction():
        raise RuntimeError("retrying() must stand outside of the transaction it repeats.")
    for attempt in range(1, attempts):
        try:
            return await work()
        except TRY_AGAIN:
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))  # seconds; apart, or the same two meet again
    return await work()


def detached(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start a task that does not inherit the caller's transaction; it is kept alive until it ends.

    It may run before the commit and then sees nothing of it: what must not goes through after_commit().
    """
    clean = contextvars.copy_context()
    clean.run(_leave)
    task = asyncio.create_task(coroutine, name=name, context=clean)
    _detached.add(task)
    task.add_done_callback(_detached.discard)
    return task


def _leave() -> None:
    _open.set(None)
    _preamble.set(None)
    if get_current_context() is None:  # no database, nothing to leave
        return
    current = connection()
    root = current
    while isinstance(root, asyncpg_engine.Transaction | sqlite_engine.Transaction):
        root = root._parent
    if root is not current:
        get_connections().set(root.connection_name, root)


def connection() -> BaseDBAsyncClient:
    """The database as this task sees it: its transaction's connection if there is one, else the pool (SQLite: the only one)."""
    return require_context().db()
