"""Calls, reads and pings of devices that are really connected, with each way they can fail."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import protocol
from models.customer import Customer
from models.device import Device, Presence
from models.log import UsageTally
from models.operations import AuditEntry, Command
from simulator.device import SimulatedDevice
from tests.connected import ID, Served, a_device, a_product, online, serving, until
from tests.house import HouseTester


class World:
    """A connected device with functions and variables, and somebody of the team."""

    def __init__(self, tester: HouseTester, token: str, served: Served, device: SimulatedDevice) -> None:
        self.tester, self.token, self.served, self.device = tester, token, served, device

    async def call(self, name: str = "led", token: str | None = None, **more: Any) -> tuple[Any, list[str]]:
        return await self._do("callFunction", "returnValue", token, name=name, **more)

    async def read(self, name: str, token: str | None = None) -> tuple[Any, list[str]]:
        return await self._do("readVariable", "value", token, name=name)

    async def ping(self, token: str | None = None) -> tuple[Any, list[str]]:
        return await self._do("pingDevice", "online", token)

    async def _do(self, mutation: str, answer: str, token: str | None, **input: Any) -> tuple[Any, list[str]]:
        payload = await self.tester.do(mutation, answer, token or self.token, **{"deviceId": ID} | input)
        return payload[answer], [error["code"] for error in payload["errors"]]

    async def left_behind(self) -> tuple[list[str], int]:
        """What the audit says of calls, and commands that are still on their way."""
        return await AuditEntry.filter(action="device.function_called").values_list("subject", flat=True), await Command.all().count()


@pytest.fixture
async def world(tester: HouseTester) -> AsyncIterator[World]:
    token = await tester.owner()
    await a_device(await a_product(tester))
    calls: list[str] = []

    def led(argument: str) -> int:
        calls.append(argument)
        return len(calls)

    def broken(argument: str) -> int:
        raise RuntimeError("no lamp")

    async with serving(tester) as served:
        device = await served.connected(
            functions={"led": led, "broken": broken}, variables={"temperature": 21.5, "name": "lamp", "big": "x" * 2000, "none": None}
        )
        device.variables["calls"] = 0
        yield World(tester, token, served, device)


async def test_a_function_is_called_once_and_its_answer_returned(world: World) -> None:
    assert await world.call(argument="on") == (1, [])
    assert await world.call(argument="x" * 1024) == (2, [])
    assert await world.left_behind() == ([f"device:{ID}"] * 2, 0)
    (first, _) = await AuditEntry.filter(action="device.function_called").order_by("id")
    assert first.detail == {"function": "led"}  # never the argument


async def test_variables_are_read_live(world: World) -> None:
    before = await world.tester.audited()
    answers = [await world.read("temperature"), await world.read("name")]
    world.device.variables["temperature"] = 22.5

    assert answers == [(21.5, []), ("lamp", [])]
    assert await world.read("temperature") == (22.5, [])
    assert await world.tester.audited() == before


async def test_what_the_device_never_named_is_unknown_without_asking_it(world: World) -> None:
    assert await world.call("nothing") == (None, ["FUNCTION_UNKNOWN"])
    assert await world.read("calls") == (None, ["VARIABLE_UNKNOWN"])
    assert await world.left_behind() == ([], 0)


@pytest.mark.parametrize("wrong", [{"argument": "ä" * 513}, {"argument": "\0"}, {"timeoutSeconds": 0}, {"timeoutSeconds": 61}])
async def test_an_argument_or_a_patience_out_of_bounds_is_refused(world: World, wrong: dict[str, Any]) -> None:
    assert await world.call(**wrong) == (None, ["INVALID_INPUT"])
    assert await world.left_behind() == ([], 0)


async def test_a_device_that_fails_is_told_in_its_own_words(world: World) -> None:
    payload = await world.tester.do("callFunction", "returnValue", world.token, deviceId=ID, name="broken")

    (error,) = payload["errors"]
    assert (error["code"], error["reason"]) == ("DEVICE_ERROR", "DEVICE_ERROR")
    assert error["message"] == "RuntimeError: no lamp"
    assert await world.read("big") == (None, ["DEVICE_ERROR"])


async def test_a_device_that_does_not_answer_costs_the_time_given_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.device, "_answer", _answer_another)
    started = asyncio.get_running_loop().time()

    answer = await world.call(timeoutSeconds=1)

    assert answer == (None, ["DEVICE_TIMEOUT"])
    assert 1.0 <= asyncio.get_running_loop().time() - started < 9  # not the ten seconds of whoever gives none
    assert await world.left_behind() == ([f"device:{ID}"], 0)


def _answer_another(word: Any) -> protocol.Result:
    return protocol.Result("another call's", 1)


async def test_a_ping_is_answered_by_the_device_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (connection,) = world.served.gateway.connections
    heard_at = connection.wire.heard_at

    assert await world.ping() == (True, [])
    assert connection.wire.heard_at > heard_at

    # One whose cable was pulled: its session stands, and nobody answers.
    monkeypatch.setattr(type(connection), "ponged", lambda connection, payload: None)
    world.tester.house = dataclasses.replace(
        world.tester.house, settings=dataclasses.replace(world.tester.house.settings, call_timeout_s=0.3)
    )  # fmt: skip
    assert await world.ping() == (None, ["DEVICE_TIMEOUT"])
    assert await world.left_behind() == ([], 0)


async def test_a_device_that_is_offline_is_told_at_once_and_nothing_is_written(world: World) -> None:
    before = await world.ping()
    await world.served.stop(world.device)
    await until(_offline)

    assert before == (True, [])
    assert await world.ping() == (False, [])
    assert await world.call() == (None, ["DEVICE_OFFLINE"])
    assert await world.read("temperature") == (None, ["DEVICE_OFFLINE"])
    assert await world.left_behind() == ([], 0)


async def _offline() -> bool:
    return await online() is False


async def test_a_session_that_was_replaced_gets_no_command(world: World) -> None:
    """What was meant for an older session is not delivered to the newer one."""
    await Presence.filter(device_id=ID).update(epoch=99)

    assert await world.call() == (None, ["DEVICE_OFFLINE"])
    assert await world.ping() == (False, [])


async def test_strangers_find_no_device_and_viewers_may_not_call(world: World) -> None:
    stranger = await world.tester.owner("eve", "Evil")
    viewer = await world.tester.member(world.token, "vic", "VIEWER")

    assert await world.call(token=stranger) == (None, ["NOT_FOUND"])
    assert await world.call(token=viewer) == (None, ["FORBIDDEN"])
    assert await world.read("temperature", viewer) == (None, ["FORBIDDEN"])
    assert await world.left_behind() == ([], 0)


async def test_calls_count_as_the_usage_of_the_customer_who_owns_the_device(world: World) -> None:
    device = await Device.get(device_id=ID).select_related("product")
    customer = await Customer.create(product=device.product, username="c", username_key="c", created_at=datetime.now(UTC))
    await Device.filter(device_id=ID).update(owner_id=customer.id)

    await world.call()
    await world.read("temperature")
    await world.call("nothing")

    assert [(row.calls, row.product_number) for row in await UsageTally.all()] == [(2, 1094)]
