"""A product with devices that really connect: the gateway under uvicorn on a free port, and the reference device."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette

from gateway.server import Gateway
from models.device import Device
from models.organization import Organization
from models.product import Product
from models.sql import rows
from models.transaction import transaction
from realtime import log
from realtime.log import NewEntry
from simulator.device import SimulatedDevice
from simulator.flash import Flash
from tests import both_roads
from tests.fake_fleet import with_devices
from tests.house import GraphQLFailed, HouseTester
from transport.uvicorn_protocol import FirstOrHttp

ID = "55ff6d04498b49aabbccdd01"
PROVISIONING_KEY = "a provisioning key"


async def a_product(tester: HouseTester, number: int = 1094, *, organization: str = "acme", **columns: Any) -> Product:
    """A product of an organization that exists, with PROVISIONING_KEY."""
    team = await Organization.get(slug=organization)
    sealed = tester.house.sealer.seal(PROVISIONING_KEY, context=f"product/{number}/provisioning")
    return await Product.create(
        **{"platform": "PHOTON"} | columns, number=number, organization=team, slug=f"product-{number}", name=f"Product {number}",
        created_at=datetime.now(UTC), provisioning_key=sealed,
    )  # fmt: skip


async def a_device(product: Product | None, device_id: str = ID, **columns: Any) -> Device:
    """An imported device, or a kit when there is no product."""
    return await Device.create(device_id=device_id, product=product, created_at=datetime.now(UTC), **columns)


async def order(product: Product, name: str, device_id: str | None = None, data: str | None = None, kind: str = "order") -> None:
    """Append what a verb of another part would."""
    async with transaction():
        await log.append(NewEntry(product.number, kind, name, datetime.now(UTC), device_id, data))


async def entries(kind: str | None = None) -> list[tuple[Any, ...]]:
    """(kind, name, device id, data) of the whole log, or of one kind (name, device id, data)."""
    found = (await log.read_after(0)).entries
    if kind is None:
        return [(entry.kind, entry.name, entry.device_id, entry.data) for entry in found]
    return [(entry.name, entry.device_id, entry.data) for entry in found if entry.kind == kind]


async def online(device_id: str = ID) -> bool | None:
    found = await rows("SELECT online FROM presence WHERE device_id = $1", [device_id])
    return bool(found[0]["online"]) if found else None


async def until(is_so: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """Wait until `is_so()`, which may be a coroutine, gives something true; that."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        found = is_so()
        found = await found if isinstance(found, Awaitable) else found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@dataclass
class Served:
    """The gateway of a tester's house, and the devices that a test has connected to it."""

    gateway: Gateway[Any]
    port: int
    _running: list[asyncio.Task[None]] = field(default_factory=list)
    _devices: list[SimulatedDevice] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/device"

    def device(self, flash: Flash | None = None, **options: Any) -> SimulatedDevice:
        """Starts one; wait for its `online`, or for `closed_with`."""
        flash = flash or Flash(ID, 1094, 3)
        one = SimulatedDevice(self.url, flash, **{"pace": 0.05, "provisioning_key": PROVISIONING_KEY} | options)
        self._devices.append(one)
        self._running.append(asyncio.create_task(one.run()))
        return one

    async def connected(self, flash: Flash | None = None, **options: Any) -> SimulatedDevice:
        one = self.device(flash, **options)
        await asyncio.wait_for(one.online.wait(), 60)
        return one

    async def stop(self, one: SimulatedDevice) -> None:
        place = self._devices.index(one)
        one.stop()
        await asyncio.wait_for(self._running[place], 60)


@contextlib.asynccontextmanager
async def serving(tester: HouseTester) -> AsyncIterator[Served]:
    """A real uvicorn with the gateway of the tester's house at /device."""
    async with tester.live.serving(tester.house) as gateway:
        app = Starlette(lifespan=with_devices(gateway))
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http=FirstOrHttp, ws_per_message_deflate=False, lifespan="on", log_level="critical", timeout_graceful_shutdown=3
        )  # fmt: skip
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.005)
        served = Served(gateway, listening.getsockname()[1])
        try:
            yield served
        finally:
            for one in served._devices:
                one.stop()
            await asyncio.gather(*served._running, return_exceptions=True)
            await gateway.close_all(over_s=0)
            server.should_exit = True
            await task


class Stream:
    """A subscription, executed without a socket."""

    def __init__(self, results: Any, name: str) -> None:
        self._results, self._name = results, name
        self.first: asyncio.Task[Any] | None = asyncio.create_task(anext(results))

    async def next(self, *, within_s: float = 60.0) -> Any:
        """The next message. Raises GraphQLFailed for an error, StopAsyncIteration at the end."""
        first, self.first = self.first, None
        result = await asyncio.wait_for(first or anext(self._results), within_s)
        if result.errors:
            raise GraphQLFailed(result.errors)
        return result.data[self._name]

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]

    async def is_silent(self, for_s: float = 0.3) -> bool:
        """Nothing comes. Ends the stream: what was waited for is cancelled."""
        try:
            message = await self.next(within_s=for_s)
        except TimeoutError:
            return True
        raise AssertionError(message)


@contextlib.asynccontextmanager
async def subscribed(tester: HouseTester, operation: str, token: str | None = None, **variables: Any) -> AsyncIterator[Stream]:
    """Follow while the block runs, from before it begins. Raises GraphQLFailed for what is refused at once."""
    topics, context = tester.house.dispatcher._topics, await tester.context(token)

    def readers() -> int:
        return sum(len(topic.readers) for topic in topics.values())

    before = readers()
    results = both_roads.subscribe(tester.schema, operation, variables, context)
    stream = Stream(results, re.findall(r"(\w+)\(", operation)[0])
    first = stream.first
    assert first is not None
    try:
        await until(lambda: first.done() or readers() > before)
        if first.done() and first.result().errors:
            raise GraphQLFailed(first.result().errors)
        yield stream
    finally:
        if not first.done():
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await results.aclose()
