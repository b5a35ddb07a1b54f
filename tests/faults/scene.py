"""A fleet at work under faults: server processes behind a proxy, publishers that note what was acknowledged, listeners, and a judge."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

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
REFUSALS = 300  # in a row of trials; more is no fault that passes
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
    said_at: dict[str, float] = field(default_factory=dict)  # by the event loop's clock
    acknowledged: set[str] = field(default_factory=set)
    padding: int = 0  # bytes that every event carries besides

    # ── who listens ──
    async def fill(self, count: int = 400, size: int = 16_000) -> str:
        """Publish more than a kernel holds for a socket; a cursor from before it. `begin` is behind it then."""
        before = self.begin
        for first in range(0, count, BATCH):
            fields = " ".join(f"a{n}: publishEvent(input: $input) {{ event {{ cursor }} }}" for n in range(min(BATCH, count - first)))
            asked = {"productId": self.product_id, "name": "filling", "data": "x" * size}
            answer = await self.client.ask(f"mutation ($input: PublishEventInput!) {{ {fields} }}", input=asked)
            self.begin = list(answer.values())[-1]["event"]["cursor"]
        return before

    async def begin_anew(self) -> None:
        """What was said until now is nobody's business any more: whoever comes begins behind it, and it is not judged."""
        self.said.clear()
        self.acknowledged.clear()
        await self.fill(1, 1)

    async def stalled(self, after: str, url: str) -> socket.socket:
        """A subscriber that reads nothing after its acknowledgement; of a server itself, since a proxy would read for it."""
        at = urlsplit(url)
        return await asyncio.to_thread(_subscribe_and_stop_reading, (at.hostname, at.port), self.client.token, self.product_id, after)

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
        """By the devices, a fifth through the API; ends when everything is acknowledged. `reached` is called at a third of it."""
        start, called = len(self.acknowledged), False

        def told(text: str) -> None:
            nonlocal called
            self.acknowledged.add(text)
            if not called and len(self.acknowledged) - start >= count // 3:
                called = True
                reached()

        by_api = count // 5 if self.devices else count
        each, rest = divmod(count - by_api, max(1, len(self.devices)))
        by_devices = (self._device_says(device, each + (number < rest), told) for number, device in enumerate(self.devices))
        await asyncio.gather(self._api_says(by_api, told), *by_devices)

    def _text(self, who: str) -> str:
        text = f"{who} {len(self.said)} {'x' * self.padding}"
        self.said.add(text)
        self.said_at[text] = asyncio.get_running_loop().time()
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
        left, refused = count, 0
        while left:
            texts = {f"d{n}": self._text("api") for n in range(min(BATCH, left))}
            fields = " ".join(
                f'{n}: publishEvent(input: {{productId: {self.product_id}, name: "said", data: ${n}}}) {{ event {{ id }} }}' for n in texts
            )
            try:
                answer = await self.client.ask(f"mutation ({' '.join(f'${n}: String' for n in texts)}) {{ {fields} }}", **texts)
            except (httpx.HTTPError, ValueError, Refused):
                refused += 1
                if refused > REFUSALS:
                    raise
                await asyncio.sleep(0.1)
                continue
            for n, text in texts.items():
                if answer[n]["event"]:
                    told(text)
                    left -= 1

    @contextlib.asynccontextmanager
    async def online(self, count: int, url: str | None = None, *, first: int = 0, **options: Any) -> AsyncIterator[list[SimulatedDevice]]:
        """That many devices, which come back after every cut, until the block ends."""
        address = (url or self.front.url).replace("http", "ws") + "/device"
        options = {"provisioning_key": self.key, "pace": 0.1} | options
        added = [SimulatedDevice(address, Flash(one, self.product_id, 1), **options) for one in self.ids[first : first + count]]
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

    async def keep_publishing(self, every_s: float, until: asyncio.Event) -> None:
        """Each device says something this often, and waits for its acknowledgement."""

        async def one(device: SimulatedDevice) -> None:
            while not until.is_set():
                await asyncio.gather(self._device_says(device, 1, self.acknowledged.add), asyncio.sleep(every_s))

        await asyncio.gather(*map(one, self.devices))

    # ── what is true ──
    async def log(self) -> Words:
        """Every event behind `begin`, as the database has it."""
        found = await self._rows(
            f"SELECT position, data FROM log_entry WHERE kind = 'event' AND name = 'said' AND position > {parse(self.begin).position}"
            " ORDER BY position"
        )
        return [(row["position"], row["data"]) for row in found]

    async def statuses(self) -> dict[str, list[str]]:
        """What the log has said of each device, in order."""
        found: dict[str, list[str]] = {}
        for row in await self._rows(
            "SELECT device_id, name FROM log_entry WHERE kind = 'status' AND name IN ('ONLINE', 'OFFLINE') ORDER BY position"
        ):
            found.setdefault(row["device_id"], []).append(row["name"])
        return found

    async def wakeup_connections(self) -> frozenset[int]:
        """Those of PostgreSQL's on which servers listen, by process id."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'flotilla wake-up' AND datname = current_database()"
        return frozenset(row["pid"] for row in await self._rows(query))

    async def is_online(self) -> dict[str, bool]:
        return {row["device_id"]: row["online"] for row in await self._rows("SELECT device_id, online FROM presence")}

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


def _subscribe_and_stop_reading(address: Any, token: str, product_id: int, after: str) -> socket.socket:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(10)
    peer.connect(address)
    peer.sendall(
        b"GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    )
    while b"\r\n\r\n" not in peer.recv(4096):
        pass
    said = {"query": EVENTS, "variables": {"id": product_id, "after": after}}
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
    for message in (init, {"type": "subscribe", "id": "1", "payload": said}):
        body = json.dumps(message).encode()
        peer.sendall(bytes((0x81, 0xFE)) + len(body).to_bytes(2, "big") + b"\0\0\0\0" + body)
        while message is init and b"connection_ack" not in peer.recv(4096):
            pass
    return peer


@dataclass(frozen=True)
class Measured:
    """What a server process says of itself at /metrics."""

    rss: int
    fds: int
    tasks: int
    sockets: int


async def measured(server: ServerProcess) -> Measured:
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{server.url}/metrics", timeout=10)).text
    names = ("process_resident_memory_bytes", "process_open_fds", "flotilla_tasks", "flotilla_graphql_sockets")
    return Measured(*(int(float(re.search(rf"^{name} (\S+)$", text, re.M)[1])) for name in names))  # type: ignore[index]


@dataclass(frozen=True)
class Heard:
    connections: int
    repeated: int


def delays(scene: Scene, listener: Watcher) -> list[float]:
    """Seconds from the word of each event to its first hearing, shortest first."""
    first: dict[str, float] = {}
    for at, message in zip(listener.heard_at, listener.messages, strict=True):
        for told in (message.get("data") or {}).values():
            first.setdefault(told["event"]["data"], at)
    return sorted(first[text] - at for text, at in scene.said_at.items() if text in first)


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
