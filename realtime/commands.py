"""Calls on their way to the server process that holds a device's session, and the answers back: delivered at most once.

The table decides, by conditional statements; the wake-up only makes it quick. With the holder in the same process it is the same road.
Source: reliability, "What a subscriber and a device are promised", 9.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from errors import CallerError, DeviceOffline, DeviceTimeout, FunctionUnknown, VariableUnknown
from models.sql import execute, is_sqlite, read_time, rows
from models.transaction import detached, in_transaction
from realtime.log import FAILURES
from realtime.wakeup import COMMANDS, Wakeup

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # seconds: the table is looked at this often, whatever the wake-ups say
KEPT_S = 3600  # seconds after its expiry that a command nobody collected is kept

# What can go wrong on the way to a device and on it; the codes that `answer` takes.
ERRORS: dict[str, tuple[type[CallerError], str]] = {
    "DEVICE_OFFLINE": (DeviceOffline, "The device is offline: call again once it is back."),
    "DEVICE_TIMEOUT": (DeviceTimeout, "The device did not answer in time; whether it acted is not known."),
    "FUNCTION_UNKNOWN": (FunctionUnknown, "The device has no function of this name."),
    "VARIABLE_UNKNOWN": (VariableUnknown, "The device has no variable of this name."),
}


class Command(NamedTuple):
    """What the holder of the session is to deliver, if the session is still the one of `epoch`; else it answers DEVICE_OFFLINE."""

    id: str
    device_id: str
    epoch: int
    kind: str  # call | read | ping
    name: str
    argument: str | None
    timeout_s: float  # what is left of the asker's patience


class Commands:
    """One for each server process. `deliver` is called once for each command taken; it must not wait for the device."""

    def __init__(self, process: str, wakeup: Wakeup, *, deliver: Callable[[Command], Awaitable[None]]) -> None:
        self._process = process
        self._wakeup = wakeup
        self._deliver = deliver
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._woken = asyncio.Event()
        self._stop_listening: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._stop_listening = self._wakeup.listen(COMMANDS, self._hear)
        self._task = detached(self._run(), name="commands")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Whoever still waits for an answer gets DEVICE_TIMEOUT."""
        self._stop_listening()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_error("DEVICE_TIMEOUT"))

    async def ask(
        self, device_id: str, process: str, epoch: int, *, kind: str, name: str = "", argument: str | None = None, timeout_s: float
    ) -> Any:
        """Have a command delivered by `process` to the session `epoch`, and return what the device answers.

        Raises DeviceTimeout, DeviceOffline, FunctionUnknown, VariableUnknown. After any of them nothing is delivered any more.
        """
        if in_transaction():
            raise RuntimeError("ask() waits for a device, which no transaction may.")
        command = secrets.token_hex(16)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[command] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await _insert(command, device_id, process, epoch, kind, name, argument, timeout_s)
                self._wakeup.notify(COMMANDS, process)
                return await answer
        except TimeoutError:
            return _result(await _withdraw(command))
        except asyncio.CancelledError:
            detached(_withdraw(command), name="withdraw a command")  # the caller has gone: nobody wants it delivered
            raise
        finally:
            del self._waiting[command]

    async def answer(self, command: str, *, value: Any = None, error: str | None = None) -> bool:
        """What the device said, or the code of what went wrong (a key of ERRORS). False if nobody waits for it any more."""
        assert error is None or error in ERRORS
        answered = await execute(
            "UPDATE command SET answered_at = $2, value = $3, error = $4 WHERE id = $1 AND answered_at IS NULL",
            [command, datetime.now(UTC), json.dumps([value]), error],  # in a list: SQLite makes a number of a JSON text that is one
        )
        if answered:
            self._wakeup.notify(COMMANDS, command)
        return bool(answered)

    def _hear(self, hint: str | None) -> None:
        if hint is None or hint == self._process or hint in self._waiting:
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._hand_over()
                await self._collect()
            except FAILURES as error:
                logger.warning("Commands wait for the database: %s: %s", type(error).__name__, error)
                await asyncio.sleep(LOOK_S)
            except Exception:  # a defect of ours in one round must not keep every later answer from its asker
                logger.exception("A round of the commands failed.")
                await asyncio.sleep(LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()

    async def _hand_over(self) -> None:
        for command in await take(self._process):
            try:
                await self._deliver(command)
            except Exception:  # one session's failure must not keep the others from theirs
                logger.exception("A command could not be delivered to %s.", command.device_id)

    async def _collect(self) -> None:
        """Every answer that has arrived for this process, in one statement."""
        if not self._waiting:
            return
        for row in await rows(
            "DELETE FROM command WHERE id = ANY($1) AND answered_at IS NOT NULL RETURNING id, value, error", [list(self._waiting)]
        ):
            answer = self._waiting.get(row["id"])
            if answer is None or answer.done():
                continue
            try:
                answer.set_result(_result(row))
            except CallerError as error:
                answer.set_exception(error)


async def take(process: str) -> list[Command]:
    """The commands that wait for `process`, each given out once, in the order asked; those past their time are left."""
    now = "$2" if is_sqlite() else "now()"
    left = "expires_at" if is_sqlite() else "CAST(extract(epoch FROM expires_at - now()) AS float8)"
    at = datetime.now(UTC)
    taken = await rows(
        f"UPDATE command SET taken_at = $2 WHERE process = $1 AND taken_at IS NULL AND expires_at > {now}"
        f" RETURNING id, device_id, epoch, kind, name, argument, expires_at, {left} AS seconds",
        [process, at],
    )
    if is_sqlite():
        for row in taken:
            row["seconds"] = (read_time(row["expires_at"]) - at).total_seconds()
    ordered = sorted(taken, key=lambda row: row["expires_at"])
    return [
        Command(row["id"], row["device_id"], row["epoch"], row["kind"], row["name"], row["argument"], row["seconds"]) for row in ordered
    ]


async def purge(now: datetime) -> int:
    """Remove commands whose asker went away without collecting them."""
    return await execute("DELETE FROM command WHERE expires_at < $1", [now - timedelta(seconds=KEPT_S)])


async def _insert(
    command: str, device_id: str, process: str, epoch: int, kind: str, name: str, argument: str | None, timeout_s: float
) -> None:
    """The time of expiry is the database's: asker and holder may run on machines whose clocks differ."""
    expiry = "$8" if is_sqlite() else "now() + make_interval(secs => $8)"
    lasts = datetime.now(UTC) + timedelta(seconds=timeout_s) if is_sqlite() else timeout_s
    await execute(
        "INSERT INTO command (id, device_id, process, epoch, kind, name, argument, expires_at)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, {expiry})",
        [command, device_id, process, epoch, kind, name, argument, lasts],
    )


async def _withdraw(command: str) -> dict[str, Any]:
    """Take the command off the table; what was answered in the last moment counts."""
    found = await rows("DELETE FROM command WHERE id = $1 RETURNING value, error, answered_at", [command])
    answered = found and found[0]["answered_at"] is not None
    return found[0] if answered else {"value": None, "error": "DEVICE_TIMEOUT"}


def _result(row: dict[str, Any]) -> Any:
    if row["error"] is not None:
        raise _error(row["error"])
    return json.loads(row["value"])[0]


def _error(code: str) -> CallerError:
    kind, message = ERRORS[code]
    return kind(message)
