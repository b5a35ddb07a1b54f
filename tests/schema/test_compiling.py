"""Compiled queries: whatever they answer is what graphql-core answers, and what they do not answer is left to it, whole."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from graphql import parse, validate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.customer import Customer
from models.device import Device
from models.global_ids import global_id
from models.product import Product
from schema.build import build_schema
from tests import both_roads, firmware_house
from tests.house import HouseTester, open_house
from tests.schema.documents import Document, documents

SCHEMA = build_schema()
EXAMPLES = int(os.environ.get("DOCUMENTS", "50"))  # on each database; more of them find rarer things


@dataclass
class Stocked:
    """A house with a bit of everything in it, in a loop of its own: hypothesis calls functions, not coroutines."""

    runner: asyncio.Runner
    tester: HouseTester
    tokens: dict[str, str | None]

    def both(self, document: Document, who: str) -> str:
        return self.runner.run(self._both(document, self.tokens[who]))

    async def _both(self, document: Document, token: str | None) -> str:
        """How it went, after both answers were held to each other."""
        text, variables = document.text, dict(document.variables)
        result = await SCHEMA.execute(text, variable_values=variables, context_value=await self.tester.context(token))
        await both_roads.check(SCHEMA, text, variables, lambda: self.tester.context(token), result)
        return "errors, left to graphql-core" if result.errors else "compiled"


@pytest.fixture(params=["sqlite", "postgres"])
def stocked(request: pytest.FixtureRequest) -> Iterator[Stocked]:
    settings = request.getfixturevalue(f"migrated_{request.param}")
    with asyncio.Runner() as runner:
        house = open_house(settings)
        tester = HouseTester(runner.run(house.__aenter__()))
        try:
            yield Stocked(runner, tester, runner.run(_stock(tester)))
        finally:
            runner.run(house.__aexit__(None, None, None))


async def _stock(tester: HouseTester) -> dict[str, str | None]:
    owner, now = await tester.owner(), datetime.now(UTC)
    number = await tester.product(owner)
    product = await Product.get(number=number)
    await firmware_house.uploaded(tester, owner, number, 1, 2)
    kim = await Customer.create(product=product, username="kim", username_key="kim", created_at=now)
    for each in range(1, 8):
        mine = {"owner": kim, "claimed_at": now} if each % 3 == 0 else {}
        version = each % 3 or None
        await firmware_house.device(number, each, version=version, online=each % 2 == 0, name=f"Lamp {each}" if each % 2 else None, **mine)
    await Device.filter(device_id=f"{4:024x}").update(functions=["blink"], variables={"light": "int32"}, state="QUARANTINED")
    group = (await tester.do("createDeviceGroup", "group { id }", owner, productId=number, name="hall"))["group"]
    await tester.do("createDeviceGroup", "group { id }", owner, productId=number, name="desk", parent="hall")
    await tester.do("addDevicesToGroup", "group { id }", owner, groupId=group["id"], deviceIds=[f"{1:024x}", f"{2:024x}"])
    await tester.do("releaseFirmware", "firmware { id }", owner, productId=number, version=1, group="hall")
    await tester.do("lockAndFlash", "devices { id }", owner, productId=number, firmwareVersion=2, when="ON_RESET", deviceIds=[f"{1:024x}"])
    await tester.do("importDevices", "import { id }", owner, productId=number, deviceIds=[f"{9:024x}"])
    for name in ("light", "error/lamp"):
        await tester.do("publishEvent", "event { id }", owner, productId=number, name=name, data="1")
    await tester.do("createApiUser", "apiUser { id }", owner, organization="acme", name="ci", scopes=["devices:read"])
    await tester.person("guest")
    await tester.do("inviteMember", "invitation { id }", owner, organization="acme", email="guest@example.com")
    return {
        "owner": owner,
        "viewer": await tester.member(owner, "vic", "VIEWER"),
        "stranger": await tester.owner("eve", "Other"),
        "nobody": None,
    }


KINDS = ("Device", "Product", "DeviceGroup", "Firmware", "Update", "Customer", "DeviceEvent", "Organization", "Member", "User", "Import")
IDS = [global_id(kind, key) for kind in KINDS for key in (f"{1:024x}" if kind == "Device" else 1, 99)]
VALUES: dict[str, list[Any]] = {
    "productId": [1000, 1000, 1000, 1],
    "slug": ["acme", "lamp", "nothing"],
    "deviceId": [f"{each:024x}" for each in (1, 2, 3, 4, 99)],
    "id": [*IDS, "x"],
    "ids": [*IDS, "x"],
    "name": ["hall", "hall/desk", "desk", "light", "nothing"],
    "group": ["hall", "nothing"],
    "version": [1, 2, 9],
    "first": [1, 2, 3, 100, 101],
    "last": [1, 2, 100],
    "seats": [1, 3],
}


def test_what_a_plan_answers_is_what_graphql_core_answers(stocked: Stocked) -> None:
    """Over the whole schema, for viewers who may see all, less and nothing; errors are graphql-core's alone."""
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(document=documents(SCHEMA._schema, VALUES), who=st.sampled_from(["owner", "owner", "owner", "viewer", "stranger", "nobody"]))
    def alike(document: Document, who: str) -> None:
        assert validate(SCHEMA._schema, parse(document.text)) == [], document.text
        seen[stocked.both(document, who)] += 1

    alike()

    print(f"documents: {dict(seen)}")
    assert min(seen["compiled"], seen["errors, left to graphql-core"]) >= EXAMPLES // 10


IMPORTANT = {
    "a page of devices": """query Page($product: Int!, $first: Int!, $after: Cursor) { product(productId: $product) {
        devices(first: $first, after: $after, orderBy: DEVICE_ID) { totalCount nodes { deviceId name state online createdAt firmware { version title }
            owner { username } groups { path } firmwareDecision { rule because target { version } } update { state firmware { version } } }
          edges { cursor node { id } } pageInfo { hasNextPage endCursor } } } }""",
    "one device": """query { device(deviceId: "000000000000000000000003") { ...Known product { name organization { slug } } functions variables { name type } } }
        fragment Known on Device { __typename id name serialNumber lastHeard flapping }""",
    "a fleet in numbers": """{ product(slug: "lamp") { fleet { total online quarantined firmwareVersions { version devices } errors { name count }
        customersActive usage { events customer { username } } } } }""",
    "a team": """{ viewer { kind user { email } } organization(slug: "acme") { slug members { role user { name } } invitations { state } apiUsers { name }
        products { nodes { name } } auditLog(first: 3) { nodes { action detail at } } } }""",
    "nodes of any kind": """query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on Device { deviceId } ... on Firmware { title size } } }""",
    "history": """{ product(productId: 1000) { events(last: 5) { nodes { name data publishedAt device { name } } } } }""",
    "the server": """{ server { name version limits scopes { name } } rateLimit { cost limit } }""",
    "parts asked for by a variable": """query ($more: Boolean!) { product(productId: 1000) { name groups @include(if: $more) { path children { name } } } }""",
}


@pytest.mark.parametrize("name", IMPORTANT)
def test_what_pages_of_an_app_ask_for_is_answered_by_a_plan(stocked: Stocked, name: str) -> None:
    given: dict[str, Any] = {"product": 1000, "first": 5, "ids": IDS[::2], "more": True}
    variables = {key: value for key, value in given.items() if f"${key}:" in IMPORTANT[name]}

    assert stocked.both(Document(IMPORTANT[name], variables), "owner") == "compiled"
