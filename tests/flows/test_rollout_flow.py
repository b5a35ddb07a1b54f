"""Rollouts to a simulated fleet, through real servers on PostgreSQL that are killed in the middle; judged from what is stored.

With `--rollout-devices=1000` it is the full run; the suite takes sixty.
"""

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from fleet.rollouts import shares
from models.database import database
from models.global_ids import read_global_id
from models.sql import read_time, rows
from settings import Settings
from simulator.fleet import Plan, SimulatedFleet, is_faulty, numbered_ids
from tests.clients import Client
from tests.firmware_house import binary
from tests.processes import ServerProcess

PASSWORD = "a stranger clones it and types"
STAGES = ((20, 5, 2), (100, 5, 2))  # percent, maxFailurePercent, healthyForSeconds
ROLLOUT = "... on Rollout { state haltedBecause stages { state targeted inFlight succeeded failed } }"
KILLS = 3


@dataclasses.dataclass
class Show:
    """A fleet of one product, connected to all servers; version 2 is proven by its first device, which is locked to it."""

    settings: Settings
    servers: list[ServerProcess]
    client: Client
    ids: list[str]
    product_id: int
    limit: int

    async def roll_out(self, **terms: Any) -> str:
        named = [dict(zip(("percent", "maxFailurePercent", "healthyForSeconds"), each, strict=True)) for each in STAGES]
        given = {"productId": self.product_id, "version": 2, "stages": named, "maxInFlight": self.limit, **terms}
        started = await self.client.do("startRollout", "rollout { id }", **given)
        return str(started["rollout"]["id"])

    async def until(self, rollout: str, states: tuple[str, ...], within_s: float = 240) -> dict[str, Any]:
        """How it stands once it is in one of these states; whichever server answers is asked."""
        async with asyncio.timeout(within_s):
            while True:
                with suppress(httpx.TransportError):  # the server that is asked was killed a moment ago
                    found = await self.client.ask(f"query ($id: ID!) {{ node(id: $id) {{ {ROLLOUT} }} }}", id=rollout)
                    if found["node"]["state"] in states:
                        return dict(found["node"])
                await asyncio.sleep(0.3)

    async def kill_in_the_middle(self, rollout: str) -> None:
        """kill -9 a server and start it anew, three times, each time once the rollout has come further."""
        offered = 0
        for round in range(KILLS):
            offered = await self._offered_beyond(rollout, offered)
            server = self.servers[round % len(self.servers)]
            server.kill()
            await asyncio.to_thread(server.start)

    async def _offered_beyond(self, rollout: str, before: int) -> int:
        async with asyncio.timeout(240):  # a halted one offers no more, and takes a minute or two to end its way back
            while (now := len(await self.tried(rollout))) <= before + 1 and await self._is_open(rollout):
                await asyncio.sleep(0.1)
        return now

    async def _is_open(self, rollout: str) -> bool:
        [found] = await rows("SELECT state FROM rollout WHERE id = $1", [_key(rollout)])
        return found["state"] in ("RUNNING", "HALTED")

    async def tried(self, rollout: str) -> list[dict[str, Any]]:
        return await rows("SELECT * FROM rollout_device WHERE rollout_id = $1 ORDER BY offered_at", [_key(rollout)])

    async def running(self) -> list[int]:
        found = await rows("SELECT firmware_version FROM device WHERE device_id = ANY($1) AND proven", [self.ids[1:]])
        return [row["firmware_version"] for row in found]


def _key(rollout: str) -> int:
    return int(read_global_id(rollout)[1])


@pytest.fixture
def fleet_size(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rollout-devices"))


@pytest.fixture
def stage(migrated_postgres: Settings, start_server: Callable[..., ServerProcess], fleet_size: int) -> Callable[..., Any]:
    """Call it for a Show, with the faults of a share of its fleet; everything ends with the test."""
    servers = [start_server(migrated_postgres), start_server(migrated_postgres)]

    @asynccontextmanager
    async def begun(**faulty: Any) -> AsyncIterator[Show]:
        ids = numbered_ids(fleet_size)
        async with Client(servers[0].url) as client, database(migrated_postgres):
            product_id, key = await _found(client, ids)
            show = Show(migrated_postgres, servers, client, ids, product_id, limit=max(4, fleet_size // 25))
            async with _connected(show, key, **faulty):
                await _proven(show)
                yield show

    return begun


async def _found(client: Client, ids: list[str]) -> tuple[int, str]:
    client.token = (await client.do("signUp", "token", email="ann@example.com", password=PASSWORD, name="Ann"))["token"]
    await client.do("createOrganization", "organization { slug }", name="Acme")
    made = await client.do("createProduct", "product { productId }", organization="acme", name="Lamp", platform="PHOTON")
    product_id = int(made["product"]["productId"])
    key = (await client.do("rotateProvisioningKey", "provisioningKey", productId=product_id))["provisioningKey"]
    lines = "\n".join(ids).encode()
    await client.upload("importDevices", "import { added }", "file", "ids.txt", lines, productId=product_id)
    for version in (1, 2):
        form = {"productId": product_id, "version": version, "title": f"Version {version}"}
        await client.upload("uploadFirmware", "firmware { version }", "binary", "lamp.bin", binary(product_id, version), **form)
    return product_id, key


@asynccontextmanager
async def _connected(show: Show, key: str, **faulty: Any) -> AsyncIterator[None]:
    fleets = [
        SimulatedFleet(
            Plan(f"{server.websocket_url}/device", show.ids[number :: len(show.servers)], show.product_id, 1, provisioning_key=key,
                 rate_per_s=0, **faulty)
        )
        for number, server in enumerate(show.servers)
    ]  # fmt: skip
    running = [asyncio.create_task(fleet.run()) for fleet in fleets]
    try:
        async with asyncio.timeout(120):
            while len(await show.running()) < len(show.ids) - 1:
                await asyncio.sleep(0.2)
        yield
    finally:
        for fleet in fleets:
            fleet.stop()
        await asyncio.gather(*running)


async def _proven(show: Show) -> None:
    given = {"productId": show.product_id, "firmwareVersion": 2, "when": "NOW", "deviceIds": [show.ids[0]]}
    await show.client.do("lockAndFlash", "devices { deviceId }", **given)
    query = "query ($p: Int!) { product(productId: $p) { firmware(version: 2) { releasable } } }"
    async with asyncio.timeout(60):
        while not (await show.client.ask(query, p=show.product_id))["product"]["firmware"]["releasable"]:
            await asyncio.sleep(0.2)


def most_at_once(tried: list[dict[str, Any]]) -> int:
    """The most devices whose stay in flight, from the offer to the judgement, overlapped."""
    moments = [(read_time(row["offered_at"]), 1) for row in tried]
    moments += [(read_time(row["settled_at"]), -1) for row in tried if row["settled_at"] is not None]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


async def offers_by_the_log(version: int) -> tuple[int, dict[str, set[str]]]:
    """From the log's own order: the most devices told to fetch the version and not back yet, and the updates offered, by device."""
    open_updates: set[str] = set()
    most, updates = 0, dict[str, set[str]]()
    for row in await rows("SELECT device_id, data FROM log_entry WHERE name = 'UPDATE_PROGRESS' ORDER BY position"):
        said = json.loads(row["data"])
        if said["version"] != version:
            continue
        if said["state"] in ("OFFERED", "DOWNLOADING", "INSTALLING", "PENDING"):
            open_updates.add(said["updateId"])
            updates.setdefault(row["device_id"], set()).add(said["updateId"])
        else:
            open_updates.discard(said["updateId"])
        most = max(most, len(open_updates))
    return most, updates


@pytest.mark.timeout(900)
async def test_a_good_rollout_reaches_everybody_within_its_limit_while_servers_are_killed(stage: Any) -> None:
    async with stage() as show:
        began = time.monotonic()
        rollout = await show.roll_out()
        await show.kill_in_the_middle(rollout)
        ended = await show.until(rollout, ("FINISHED", "HALTED", "ABORTED"), within_s=600)
        took = time.monotonic() - began

        tried = await show.tried(rollout)
        most_by_log, updates = await offers_by_the_log(2)
        print(
            f"{len(show.ids)} devices, limit {show.limit}: {took:.0f} s, at most {most_at_once(tried)} in flight ({most_by_log} by the log)"
        )
        assert (ended["state"], ended["haltedBecause"]) == ("FINISHED", None)
        assert await show.running() == [2] * (len(show.ids) - 1)
        assert [row["state"] for row in tried] == ["SUCCEEDED"] * (len(show.ids) - 1)
        assert most_at_once(tried) <= show.limit
        assert most_by_log <= show.limit + 1, "and the one that was flashed by hand"
        assert {len(of_device) for of_device in updates.values()} == {1}, "nobody was offered it twice"


@pytest.mark.timeout(900)
async def test_a_build_that_crashes_for_a_third_halts_in_its_first_stage_and_is_taken_back(stage: Any) -> None:
    async with stage(faults=("falls-back=2",), faulty_share=0.3) as show:
        rollout = await show.roll_out(rollBackOnHalt=True)
        began = time.monotonic()
        killing = asyncio.create_task(show.kill_in_the_middle(rollout))
        await show.until(rollout, ("HALTED", "ROLLED_BACK", "FINISHED"))
        halted = time.monotonic()
        async with asyncio.timeout(120):
            while set(await show.running()) != {1}:
                await asyncio.sleep(0.2)
        back = time.monotonic()
        ended = await show.until(rollout, ("ROLLED_BACK", "FINISHED", "ABORTED"))
        await killing

        tried = await show.tried(rollout)
        failed = [row for row in tried if row["failures"]]
        succeeded = [row for row in tried if row["state"] == "SUCCEEDED"]
        forgiven = ended["stages"][0]["targeted"] * STAGES[0][1] // 100
        print(
            f"{len(show.ids)} devices, limit {show.limit}: halted after {halted - began:.0f} s, {len(tried)} offered of which"
            f" {len(succeeded)} had stayed well and {len(failed)} failed ({forgiven} forgiven); back after {back - halted:.0f} s more"
        )
        assert ended["state"] == "ROLLED_BACK"
        assert [stage["state"] for stage in ended["stages"]] == ["ROLLED_BACK", "DRAFT"]
        assert len(tried) - len(succeeded) <= forgiven + show.limit
        assert all(shares.place(_key(rollout), row["device_id"]) < shares.reach(STAGES[0][0]) for row in tried)
        assert all(is_faulty(row["device_id"], 0.3) for row in failed)
        assert await show.running() == [1] * (len(show.ids) - 1)
