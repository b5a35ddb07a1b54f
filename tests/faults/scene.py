"""A fleet at work under faults: server processes behind a proxy, publishers that note what was acknowledged, listeners, and a judge."""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

from realtime.cursor import parse
from settings import Settings
from simulator.device import SimulatedDevice
from simulator.flash import Flash
from simulator.fleet import numbered_ids
from tests.clients import Client, Refused, Watcher
from tests.processes import ServerProcess
from tests.realtime.proxy import Proxy

SCALE = int(os.environ.get("FAULTS_SCALE", "1"))  # 1 is for every run of the tests; 50 is what the product promises
BATCH = 20  # of publishEvent in one request
EVENTS = "subscription ($id: Int!, $after: Cursor) { events(productId: $id, after: $after) { cursor event { data } gap { reason } } }"
NAMED = "subscription ($id: Int!, $stream: String) { events(productId: $id, stream: $stream) { cursor event { data } gap { reason } } }"
STATUS = "subscription ($id: Int!, $after: Cursor) { deviceStatus(productId: $id, after: $after) { cursor change device { deviceId } } }"

Words = list[tuple[int, str]]  # position in the log, and what was said


def of_a_fleet(settings: Settings, **changed: Any) -> Settings:
    """Settings under which publishers need not wait for their turn."""
    return dataclasses.replace(settings, event_rate_per_s=10_000.0, event_burst=10_000, **changed)


@dataclass
class Scene:
    """`front` is where everybody connects; `begin` is a cursor from before everything that is published."""

    servers: list[ServerProcess]
    front: Proxy
    database_url: str
    client: Client
    product_id: int
    key: str
    ids: list[str]
    begin: str
    devices: list[SimulatedDevice] = field(default_factory=list)
    said: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)

    # ── who listens ──
    def resuming(self, query: str = EVENTS, url: str | None = None) -> Watcher:
        """npm's client, whose `after` is set anew when it comes back."""
        return Watcher(url or self.front.url, self.client.token, query, {"id": self.product_id, "after": self.begin}, resumes=True)

    def replaying(self) -> Watcher:
        """npm's client as it comes: it asks for the same again after every cut."""
        return Watcher(self.front.url, self.client.token, EVENTS, {"id": self.product_id, "after": self.begin})

    def named(self, name: str) -> Watcher:
        """npm's client as it comes; the server remembers how far it has come."""
        return Watcher(self.front.url, self.client.token, NAMED, {"id": self.product_id, "stream": name})

    async def named_streams_begun(self, count: int) -> None:
        await until_equal(lambda: self._value("SELECT count(*) FROM named_stream WHERE cursor IS NOT NULL"), count)

    # ── who publishes ──
    async def publish(self, count: int, reached: Callable[[], Any] = lambda: None) -> None:
        """Half by the devices, half through the API; ends when everything is acknowledged. `reached` is called at a third of it."""
        start, called = len(self.acknowledged), False

        def told(text: str) -> None:
            nonlocal called
            self.acknowledged.add(text)
            if not called and len(self.acknowledged) - start >= count // 3:
                called = True
                reached()

        each, rest = divmod(count // 2, len(self.devices)) if self.devices else (0, count // 2)
        by_devices = (self._device_says(device, each + (number < rest), told) for number, device in enumerate(self.devices))
        await asyncio.gather(self._api_says(count - count // 2 if self.devices else count, told), *by_devices)

    def _text(self, who: str) -> str:
        text = f"{who} {len(self.said)}"
        self.said.add(text)
        return text

    async def _device_says(self, device: SimulatedDevice, count: int, told: Callable[[str], None]) -> None:
        async def say() -> None:
            text = self._text(device.flash.device_id)
            assert await device.post("said", text) == "ACKED"
            told(text)

        for first in range(0, count, 100):
            await asyncio.gather(*(say() for _ in range(min(100, count - first))))

    async def _api_says(self, count: int, told: Callable[[str], None]) -> None:
        """Whoever gets no answer does not know whether it was published, and says something new."""
        left = count
        while left:
            texts = [self._text("api") for _ in range(min(BATCH, left))]
            fields = "".join(
                f'a{n}: publishEvent(input: {{productId: {self.product_id}, name: "said", data: "{text}"}}) {{ event {{ id }} }} '
                for n, text in enumerate(texts)
            )
            try:
                answer = await self.client.ask(f"mutation {{ {fields} }}")
            except (httpx.HTTPError, ValueError, Refused):
                await asyncio.sleep(0.1)
                continue
            for n, text in enumerate(texts):
                if answer[f"a{n}"]["event"]:
                    told(text)
                    left -= 1

    @contextlib.asynccontextmanager
    async def online(self, count: int, url: str | None = None) -> AsyncIterator[list[SimulatedDevice]]:
        """That many devices, which come back after every cut, until the block ends."""
        address = (url or self.front.url).replace("http", "ws") + "/device"
        added = [
            SimulatedDevice(address, Flash(one, self.product_id, 1), provisioning_key=self.key, pace=0.1) for one in self.ids[:count]
        ]
        self.devices += added
        running = [asyncio.create_task(device.run()) for device in added]
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*(device.online.wait() for device in added))
            yield added
        finally:
            for device in added:
                device.stop()
                self.devices.remove(device)
            await asyncio.gather(*running)

    # ── what is true ──
    async def log(self) -> Words:
        """Every event, as the database has it."""
        found = await self._rows("SELECT position, data FROM log_entry WHERE kind = 'event' AND name = 'said' ORDER BY position")
        return [(row["position"], row["data"]) for row in found]

    async def _value(self, query: str) -> Any:
        (row,) = await self._rows(query)
        return row[0]

    async def _rows(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def judge(self, *listeners: Watcher, within_s: float = 60) -> list["Heard"]:
        """Nothing acknowledged is lost, nothing is there that nobody said or twice, and every listener has heard all of it in order."""
        log = await self.log()
        texts = [text for _, text in log]
        assert len(texts) == len(set(texts)), "stored twice"
        assert self.acknowledged <= set(texts), "acknowledged and lost"
        assert set(texts) <= self.said, "never published"
        verdicts = []
        for listener in listeners:
            with contextlib.suppress(TimeoutError):
                await listener.until(lambda listener=listener: any(log[-1] == word for word in heard(listener)[-1][-1:]), within_s)  # type: ignore[misc]
            verdicts.append(_judged(heard(listener), log))
        return verdicts


@dataclass(frozen=True)
class Heard:
    connections: int
    repeated: int


def heard(listener: Watcher) -> list[Words]:
    """What it was told, by connection. A gap, an error or an end is a failure."""
    found: list[Words] = [[]]
    for message in listener.messages:
        if message.get("connected"):
            found.append([])
            continue
        (told,) = (message.get("data") or {"": message}).values()
        assert told.get("event"), message
        found[-1].append((parse(told["cursor"]).position, told["event"]["data"]))
    return found


def _judged(connections: Sequence[Words], log: Words) -> Heard:
    first_time: Words = []
    for words in connections:
        assert words == sorted(words), "a cursor went back"
        first_time += [word for word in words if not first_time or word[0] > first_time[-1][0]]
    missed = sorted(set(log) - set(first_time))
    assert not missed, f"{len(missed)} of {len(log)} were not heard, first {missed[:3]}"
    assert first_time == log, "heard what is not in the log, or in another order"
    return Heard(len(connections), sum(map(len, connections)) - len(log))


async def until_equal(asked: Callable[[], Any], wanted: object, within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while await asked() != wanted:
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def opened(servers: list[ServerProcess], database_url: str, devices: int = 0) -> AsyncIterator[Scene]:
    """A product with that many imported devices, on servers that share a database."""
    async with Proxy(*(server.url for server in servers)) as front, Client(front.url) as client:
        who = {"email": "ann@example.com", "password": "a stranger cuts the cable", "name": "Ann"}
        client.token = (await client.do("signUp", "token", **who))["token"]
        await client.do("createOrganization", "organization { slug }", name="Acme")
        made = await client.do("createProduct", "product { productId }", organization="acme", name="Lamp", platform="PHOTON")
        number = made["product"]["productId"]
        key = (await client.do("rotateProvisioningKey", "provisioningKey", productId=number))["provisioningKey"]
        ids = numbered_ids(devices)
        if ids:
            await client.do("importDevices", "import { added }", productId=number, deviceIds=ids)
        first = await client.do("publishEvent", "event { cursor }", productId=number, name="begin")
        yield Scene(servers, front, database_url, client, number, key, ids, first["event"]["cursor"])
