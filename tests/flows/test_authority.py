"""Authority while streaming: whatever takes it away ends or narrows every stream within a second, over both transports, in every process."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from auth.credentials import issue
from auth.scopes import Holder, scopes_of
from auth.tokens import Kind
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupGrant, GroupMembership
from models.global_ids import global_id
from models.organization import Member, Organization
from models.product import Product
from realtime.log import NewEntry
from settings import Settings
from tests.connected import a_device, a_product
from tests.house import PASSWORD, HouseTester
from tests.processes import ServerProcess

PROMISE_S = 1.0
EVENTS = "subscription { events(productId: 1094) { event { name } } }"
STATUS = 'subscription { deviceStatus(deviceId: "%s") { change } }'
GRANTED, MOVED, REMOVED = (f"{n:024x}" for n in (1, 2, 3))


@dataclass
class Followed:
    """One stream: what it showed, and how it ended: a close code, the code of an error, "over", or not at all."""

    names: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    end: str | None = None

    def take(self, payload: dict[str, Any]) -> None:
        self.begun.set()
        for error in payload.get("errors") or ():
            self.end = error["extensions"]["code"]
        event = ((payload.get("data") or {}).get("events") or {}).get("event")
        if event:
            self.names.append(event["name"])


async def over_a_socket(server: ServerProcess, token: str, query: str, into: Followed) -> None:
    async with connect(f"{server.websocket_url}/graphql", subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
        await socket.recv()
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": query}}))
        try:
            while True:
                message = json.loads(await socket.recv())
                if message["type"] == "next":
                    into.take(message["payload"])
                elif message["type"] == "error":
                    into.take({"errors": message["payload"]})
        except ConnectionClosed:
            into.end = str(socket.close_code)


async def over_events(server: ServerProcess, token: str, query: str, into: Followed) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=None) as client,
        client.stream("POST", f"{server.url}/graphql", json={"query": query}, headers=headers) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                into.take(json.loads(line.removeprefix("data: ")))
    into.end = into.end or "over"


@dataclass
class House:
    """Acme, its product, and everybody who is about to lose something; `tester` stands for a third process."""

    tester: HouseTester
    owner: str
    product: Product
    groups: dict[str, DeviceGroup]

    async def customer(self, name: str, group: str) -> str:
        now = datetime.now(UTC)
        row = await Customer.create(product=self.product, username=name, username_key=name, created_at=now)
        await GroupGrant.create(group=self.groups[group], customer=row, created_at=now)
        return (await issue(Kind.CUSTOMER, owner=row, now=now, scopes=scopes_of(Holder.CUSTOMER)))[0].text

    async def machine(self, name: str) -> str:
        made = await self.tester.do("createApiUser", "token", self.owner, organization="acme", name=name, scopes=["events:read"])
        return str(made["token"])

    async def program(self, *, lasts: timedelta = timedelta(days=1)) -> tuple[str, str]:
        ends = (datetime.now(UTC) + lasts).isoformat()
        made = await self.tester.do(
            "createAccessToken", "token accessToken { id }", self.owner, name="x", scopes=["events:read"], expiresAt=ends
        )
        return str(made["token"]), str(made["accessToken"]["id"])

    async def do(self, mutation: str, token: str | None = None, **input: Any) -> None:
        assert (await self.tester.do(mutation, "clientMutationId", token or self.owner, **input))["errors"] == []


@dataclass
class Cause:
    """What happens to whom, and how their streams end. `socket` None: they go on, and show less.

    HTTP has no close codes: events end, and say the error first unless the connection is faster.
    """

    token: str
    query: str
    happens: Callable[[], Awaitable[object]]
    socket: str | None
    error: str | None = None

    def is_end(self, way: str, end: str | None) -> bool:
        return end == self.socket if way == "socket" else end in ((self.error, "over") if self.socket else (None,))


async def causes(house: House) -> dict[str, Cause]:
    """The table: every way to lose authority."""
    do, tester = house.do, house.tester
    program, program_id = await house.program()
    changed, deleted = await house.machine("changed"), await house.machine("deleted")
    machines = {row["name"]: row["id"] for row in (await tester.ask(API_USERS, house.owner))["organization"]["apiUsers"]}
    away, leaver, walled, forgetful, hidden = [
        await tester.member(house.owner, name, "DEVELOPER") for name in ("away", "leaver", "walled", "forgetful", "hidden")
    ]  # fmt: skip
    lifted = await tester.member(house.owner, "lifted", "NONE")
    second = (await tester.do("logIn", "token", email="forgetful@example.com", password=PASSWORD))["token"]
    broke = await tester.owner("bob", "Broke")
    await a_product(tester, 2000, organization="broke")
    elsewhere = await house.customer("moved", "moved")
    revoked = await house.customer("revoked", "granted")
    ids = {name: global_id("DeviceGroup", group.id) for name, group in house.groups.items()}
    seats = {
        name: global_id("Member", (await Member.get(user__email_key=f"{name}@example.com")).id)
        for name in ("away", "walled", "hidden", "lifted")
    }
    await do("setProductRole", productId=1094, memberId=seats["lifted"], role="VIEWER")
    kim = global_id("Customer", (await Customer.get(username="revoked")).id)

    async def broke_pays_no_more() -> None:
        await Organization.filter(slug="broke").update(billing_state="LOCKED")

    return {
        "token revoked": Cause(program, EVENTS, lambda: do("revokeAccessToken", id=program_id), "4401", "UNAUTHENTICATED"),
        "logged out": Cause(leaver, EVENTS, lambda: do("logOut", leaver), "4401", "UNAUTHENTICATED"),
        "scopes changed": Cause(changed, EVENTS, lambda: do("updateApiUser", id=machines["changed"], scopes=["events:read"]), "4401", "UNAUTHENTICATED"),
        "API user deleted": Cause(deleted, EVENTS, lambda: do("deleteApiUser", id=machines["deleted"]), "4401", "UNAUTHENTICATED"),
        "password changed": Cause(
            forgetful, EVENTS, lambda: do("changePassword", second, current=PASSWORD, new="another horse for the tests"), "4401", "UNAUTHENTICATED"
        ),
        "member removed": Cause(away, EVENTS, lambda: do("removeMember", memberId=seats["away"]), "4401", "NOT_FOUND"),
        "product role taken": Cause(lifted, EVENTS, lambda: do("removeProductRole", productId=1094, memberId=seats["lifted"]), "NOT_FOUND", "NOT_FOUND"),
        "product hidden": Cause(hidden, EVENTS, lambda: do("setProductRole", productId=1094, memberId=seats["hidden"], role="NONE"), "NOT_FOUND", "NOT_FOUND"),
        "organization inactive": Cause(
            broke, EVENTS.replace("1094", "2000"), broke_pays_no_more, "ORGANIZATION_INACTIVE", "ORGANIZATION_INACTIVE"
        ),
        "device out of the granted group": Cause(
            elsewhere, STATUS % MOVED, lambda: do("removeDevicesFromGroup", groupId=ids["moved"], deviceIds=[MOVED]), "NOT_FOUND", "NOT_FOUND"
        ),
        "device out of the product": Cause(
            house.owner, STATUS % REMOVED, lambda: do("removeDevices", deviceIds=[REMOVED]), "NOT_FOUND", "NOT_FOUND"
        ),
        "grant revoked": Cause(revoked, EVENTS, lambda: do("revokeGroupAccess", groupId=ids["granted"], customerId=kim), None),
        "walled in": Cause(walled, EVENTS, lambda: do("grantGroupAccess", groupId=ids["moved"], memberId=seats["walled"]), None),
    }  # fmt: skip


async def nothing() -> None:
    """Time passes by itself."""


API_USERS = '{ organization(slug: "acme") { apiUsers { id name } } }'


@pytest.fixture
async def house(postgres_tester: HouseTester) -> House:
    owner, now = await postgres_tester.owner(), datetime.now(UTC)
    product = await a_product(postgres_tester)
    groups = {name: await DeviceGroup.create(product=product, name=name, path=name, created_at=now) for name in ("granted", "moved")}
    for device_id in (GRANTED, MOVED, REMOVED):
        await a_device(product, device_id)
    for name, device_id in (("granted", GRANTED), ("moved", MOVED)):
        await GroupMembership.create(group=groups[name], device=await Device.get(device_id=device_id))
    return House(postgres_tester, owner, product, groups)


async def test_whatever_takes_authority_away_ends_or_narrows_every_stream(
    house: House, migrated_postgres: Settings, start_server: Callable[..., ServerProcess]
) -> None:
    """Each cause x each transport x each of two processes; the cause itself comes from a third."""
    servers = [start_server(migrated_postgres), start_server(migrated_postgres)]
    table = await causes(house)
    followed, following = _follow(servers, table)
    await _all_see(house, followed, "before")

    for cause in table.values():
        await cause.happens()
    await asyncio.sleep(PROMISE_S)
    soon = (await house.program(lasts=timedelta(seconds=15)))[0]
    table["token expires"] = Cause(soon, EVENTS, nothing, "4403", "UNAUTHENTICATED")
    late, following_late = _follow(servers, {"token expires": table["token expires"]})
    followed |= late
    following += following_late
    await _all_see(house, late, "after")
    with suppress(TimeoutError):
        async with asyncio.timeout(60):  # the token that expires is the last
            while not all(table[name].is_end(way, one.end) for (name, way, _), one in followed.items()):
                await asyncio.sleep(0.05)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)

    assert {key: one.end for key, one in followed.items() if not table[key[0]].is_end(key[1], one.end)} == {}
    told_after = {key for key, one in followed.items() if "after" in one.names}
    assert told_after == late.keys()


def _follow(servers: list[ServerProcess], table: dict[str, Cause]) -> tuple[dict[tuple[str, str, int], Followed], list[asyncio.Task[None]]]:
    followed, following = {}, []
    for name, cause in table.items():
        for way, follow in (("socket", over_a_socket), ("events", over_events)):
            for place, server in enumerate(servers):
                one = followed[name, way, place] = Followed()
                following.append(asyncio.create_task(follow(server, cause.token, cause.query, one), name=f"{name} {way} {place}"))
    return followed, following


async def _all_see(house: House, followed: dict[tuple[str, str, int], Followed], name: str) -> None:
    """All streams are open: each has shown something."""
    async with asyncio.timeout(60):
        while not all(one.begun.is_set() for one in followed.values()):
            await _publish(house, name)
            await asyncio.sleep(0.3)


async def _publish(house: House, name: str) -> None:
    """An event of the device in the granted group, and one in the other organization."""
    for number, device_id in ((1094, GRANTED), (2000, None)):
        await house.tester.house.flusher.publish(NewEntry(number, "event", name, datetime.now(UTC), device_id, None))
