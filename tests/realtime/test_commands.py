"""Commands: delivered at most once to the process that holds the session, answered or refused, and never after the deadline."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from errors import CallerError, DeviceOffline, DeviceTimeout, FunctionUnknown, VariableUnknown
from models.sql import rows
from models.transaction import transaction
from realtime import commands as commanding
from realtime.commands import Command, Commands, take
from realtime.wakeup import Wakeup
from settings import Settings
from tests.patience import PATIENCE_S
from tests.realtime.samples import device_id, until

Device = Callable[[Command], dict[str, Any] | None]


@asynccontextmanager
async def holder(process: str, wakeup: Wakeup, device: Device) -> AsyncIterator[tuple[Commands, list[Command]]]:
    """A process whose sessions answer at once with what `device` returns; None: no answer."""
    delivered: list[Command] = []

    async def deliver(command: Command) -> None:
        delivered.append(command)
        answer = device(command)
        if answer is not None:
            await commands.answer(command.id, **answer)

    commands = Commands(process, wakeup, deliver=deliver)
    async with commands:
        yield commands, delivered


def silent(command: Command) -> None:
    return None


async def left() -> int:
    found: int = (await rows("SELECT count(*) AS n FROM command"))[0]["n"]
    return found


async def test_a_call_is_delivered_to_the_holder_and_its_answer_comes_back(db: Settings) -> None:
    wakeup = Wakeup()
    async with (
        holder("asks", wakeup, silent) as (asking, at_asker),
        holder("holds", wakeup, lambda command: {"value": 42}) as (_, at_holder),
    ):
        value = await asking.ask(device_id(1), "holds", 7, kind="call", name="led", argument="on", timeout_s=PATIENCE_S)

    assert value == 42
    assert at_asker == []
    assert [without_id(command) for command in at_holder] == [(device_id(1), 7, "call", "led", "on")]
    assert await left() == 0


def without_id(command: Command) -> tuple[object, ...]:
    return tuple(command)[1:6]


@pytest.mark.parametrize("value", [-1, 21.5, "é", True, None, {"a": [1]}])
async def test_any_json_value_comes_back_as_it_was(db: Settings, value: Any) -> None:
    async with holder("p", Wakeup(), lambda command: {"value": value}) as (commands, _):
        assert await commands.ask(device_id(1), "p", 1, kind="read", name="x", timeout_s=PATIENCE_S) == value


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("DEVICE_OFFLINE", DeviceOffline),
        ("DEVICE_TIMEOUT", DeviceTimeout),
        ("FUNCTION_UNKNOWN", FunctionUnknown),
        ("VARIABLE_UNKNOWN", VariableUnknown),
    ],
)
async def test_what_the_holder_refuses_is_raised_to_the_asker(db: Settings, code: str, error: type[CallerError]) -> None:
    async with holder("p", Wakeup(), lambda command: {"error": code}) as (commands, _):
        with pytest.raises(error):
            await commands.ask(device_id(1), "p", 1, kind="call", name="x", timeout_s=PATIENCE_S)

    assert await left() == 0


async def test_without_any_wake_up_it_takes_seconds_and_not_for_ever(db: Settings) -> None:
    async with holder("asks", Wakeup(), silent) as (asking, _), holder("holds", Wakeup(), lambda command: {"value": 1}):
        assert await asking.ask(device_id(1), "holds", 1, kind="ping", timeout_s=PATIENCE_S) == 1


async def test_a_device_that_does_not_answer_is_a_timeout_and_a_late_answer_goes_nowhere(db: Settings) -> None:
    async with holder("p", Wakeup(), silent) as (commands, delivered):
        with pytest.raises(DeviceTimeout):
            await commands.ask(device_id(1), "p", 1, kind="call", name="x", timeout_s=2)

        assert len(delivered) == 1
        assert not await commands.answer(delivered[0].id, value=1)

    assert await left() == 0


async def test_after_a_timeout_nothing_is_delivered_any_more(db: Settings) -> None:
    async with holder("asks", Wakeup(), silent) as (asking, _):
        with pytest.raises(DeviceTimeout):
            await asking.ask(device_id(1), "holds", 1, kind="call", name="x", timeout_s=0.1)

    assert await take("holds") == []


async def test_a_caller_who_goes_away_withdraws_the_command(db: Settings) -> None:
    async with holder("asks", Wakeup(), silent) as (asking, _):
        task = asyncio.create_task(asking.ask(device_id(1), "holds", 1, kind="call", name="x", timeout_s=PATIENCE_S))
        await until(left)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        await until(_none_left)
    assert await take("holds") == []


async def _none_left() -> bool:
    return await left() == 0


async def put(process: str, *, expires_in: float = 10.0) -> str:
    command = f"c{await left()}"
    await commanding._insert(command, device_id(1), process, 1, "call", "x", None, expires_in)
    return command


async def test_an_expired_command_is_not_taken(db: Settings) -> None:
    await put("p", expires_in=-1)
    live = await put("p")
    await put("other")

    assert [command.id for command in await take("p")] == [live]
    assert await take("p") == []


async def test_a_command_is_taken_once_however_many_take(postgres_db: Settings) -> None:
    for _ in range(50):
        await put("p")

    taken = await asyncio.gather(*(take("p") for _ in range(10)))

    assert sorted(command.id for each in taken for command in each) == sorted(f"c{number}" for number in range(50))


async def test_an_answer_counts_once(db: Settings) -> None:
    async with holder("p", Wakeup(), silent) as (commands, _):
        command = await put("p")

        assert await commands.answer(command, value=1)
        assert not await commands.answer(command, value=2)


async def test_a_delivery_that_fails_keeps_no_other_from_its_device(db: Settings) -> None:
    def device(command: Command) -> dict[str, Any]:
        if command.name == "bad":
            raise ZeroDivisionError
        return {"value": command.name}

    async with holder("p", Wakeup(), device) as (commands, _):
        outcomes = await asyncio.gather(
            *(
                commands.ask(device_id(1), "p", 1, kind="read", name=name, timeout_s=s)
                for name, s in (("bad", 1), ("a", PATIENCE_S), ("b", PATIENCE_S))
            ),
            return_exceptions=True,
        )

    assert isinstance(outcomes[0], DeviceTimeout)
    assert outcomes[1:] == ["a", "b"]


async def test_many_calls_at_once_get_their_own_answers(db: Settings) -> None:
    wakeup = Wakeup()
    async with (
        holder("p1", wakeup, lambda command: {"value": ["p1", command.name]}) as (one, _),
        holder("p2", wakeup, lambda command: {"value": ["p2", command.name]}),
    ):
        answers = await asyncio.gather(
            *(one.ask(device_id(1), f"p{n % 2 + 1}", 1, kind="read", name=str(n), timeout_s=PATIENCE_S) for n in range(60))
        )

    assert answers == [[f"p{n % 2 + 1}", str(n)] for n in range(60)]


async def test_closing_answers_those_who_wait(db: Settings) -> None:
    async with holder("p", Wakeup(), silent) as (commands, delivered):
        task = asyncio.create_task(commands.ask(device_id(1), "p", 1, kind="call", name="x", timeout_s=60))
        await until(lambda: delivered)

    with pytest.raises(DeviceTimeout):
        await task


async def test_asking_inside_a_transaction_is_refused(db: Settings) -> None:
    async with holder("p", Wakeup(), silent) as (commands, _), transaction():
        with pytest.raises(RuntimeError):
            await commands.ask(device_id(1), "p", 1, kind="call", timeout_s=1)

    assert await left() == 0


async def test_what_nobody_collected_is_purged_after_an_hour(db: Settings) -> None:
    await put("p")

    assert await commanding.purge(datetime.now(UTC)) == 0
    assert await commanding.purge(datetime.now(UTC) + timedelta(hours=2)) == 1
