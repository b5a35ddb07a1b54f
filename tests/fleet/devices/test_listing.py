"""The device list: every filter and order gives the same devices as a plain reading of the rule, page by page, both ways."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auth.credentials import issue
from auth.tokens import Kind
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupMembership, Presence
from models.product import Product
from tests.house import GraphQLFailed, HouseTester

START = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = """query ($filter: DeviceFilter, $order: DeviceOrder, $first: Int, $after: Cursor, $last: Int, $before: Cursor) {
  product(productId: 1000) { devices(filter: $filter, orderBy: $order, first: $first, after: $after, last: $last, before: $before) {
    totalCount nodes { deviceId } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


@dataclass
class Made:
    """One device as the test made it."""

    device_id: str
    created_at: datetime
    name: str | None
    version: int | None
    state: str
    development: bool
    locked: bool
    claimed: bool
    last_heard: datetime | None
    online: bool
    group: str | None


async def a_fleet(tester: HouseTester, count: int, seed: int = 1) -> tuple[str, list[Made]]:
    """Random devices with many ties and gaps, and some of another product that must never show."""
    chance = random.Random(seed)
    owner = await tester.owner()
    await tester.product(owner)
    product, other = await Product.get(number=1000), await Product.get(number=await tester.product(owner, "Fan"))
    carl = await Customer.create(product=product, username="Carl", username_key="carl", created_at=START)
    emea = await DeviceGroup.create(product=product, name="emea", path="emea", created_at=START)
    ward = await DeviceGroup.create(product=product, name="ward", path="emea/ward", parent=emea, created_at=START)
    await DeviceGroup.create(product=product, name="emea-2", path="emea-2", created_at=START)
    made = []
    for _ in range(count):
        heard = START + timedelta(minutes=chance.randrange(4)) if chance.random() < 0.7 else None
        each = Made(
            device_id=f"{chance.getrandbits(96):024x}",
            created_at=START + timedelta(seconds=chance.randrange(3)),
            name=chance.choice([None, "porch", "attic", "50%_of\\it's"]),
            version=chance.choice([None, 1, 2, 10]),
            state=chance.choice(["ACTIVE", "ACTIVE", "QUARANTINED", "DENIED"]),
            development=chance.random() < 0.2,
            locked=chance.random() < 0.3,
            claimed=chance.random() < 0.4,
            last_heard=heard,
            online=heard is not None and chance.random() < 0.5,
            group=chance.choice([None, "emea", "emea/ward"]),
        )
        made.append(each)
        device = await Device.create(
            device_id=each.device_id,
            product=product,
            created_at=each.created_at,
            name=each.name,
            firmware_version=each.version,
            state=each.state,
            development=each.development,
            desired_firmware_version=2 if each.locked else None,
            owner=carl if each.claimed else None,
        )
        if heard is not None:
            times = {"last_heard": heard, "last_handshake_at": heard, "connects_since": heard}
            await Presence.create(device=device, online=each.online, epoch=1, connects=1, **times)
        if each.group:
            await GroupMembership.create(group=emea if each.group == "emea" else ward, device=device)
    await Device.create(device_id="f" * 24, product=other, created_at=START, name="porch")
    return owner, made


def _id(made: Made, *, downwards: bool) -> int:
    number = int(made.device_id, 16)
    return -number if downwards else number


# Equal ones by id in the direction of the key, those without a key upwards.
ORDERS: dict[str, Callable[[Made], Any]] = {
    "DEVICE_ID": lambda each: each.device_id,
    "LAST_HEARD": lambda each: (
        each.last_heard is None,
        -(each.last_heard or START).timestamp(),
        _id(each, downwards=each.last_heard is not None),
    ),
    "NAME": lambda each: (each.name is None, each.name or "", each.device_id),
    "FIRMWARE_VERSION": lambda each: (each.version is None, -(each.version or 0), _id(each, downwards=each.version is not None)),
    "CREATED_AT": lambda each: (-each.created_at.timestamp(), _id(each, downwards=True)),
}
MINUTE = START + timedelta(minutes=2)
FILTERS: list[tuple[Any, Callable[[Made], bool]]] = [
    (None, lambda each: True),
    ({}, lambda each: True),
    ({"online": True}, lambda each: each.online),
    ({"online": False}, lambda each: not each.online),
    ({"state": "QUARANTINED"}, lambda each: each.state == "QUARANTINED"),
    ({"firmwareVersion": 2}, lambda each: each.version == 2),
    (
        {"firmwareVersion": 2, "state": "ACTIVE", "online": False},
        lambda each: (each.version, each.state, each.online) == (2, "ACTIVE", False),
    ),
    ({"firmwareVersion": 10, "online": True}, lambda each: each.version == 10 and each.online),
    ({"not": {"firmwareVersion": 2}}, lambda each: each.version != 2),
    ({"group": "emea"}, lambda each: each.group is not None),
    ({"group": "emea/ward"}, lambda each: each.group == "emea/ward"),
    ({"not": {"group": "ward"}}, lambda each: each.group != "emea/ward"),
    ({"claimed": True, "development": False}, lambda each: each.claimed and not each.development),
    ({"claimed": False}, lambda each: not each.claimed),
    ({"customer": "CARL"}, lambda each: each.claimed),
    ({"customer": "dora"}, lambda each: False),
    ({"locked": True}, lambda each: each.locked),
    ({"locked": False}, lambda each: not each.locked),
    ({"development": True}, lambda each: each.development),
    ({"lastHeardBefore": MINUTE.isoformat()}, lambda each: each.last_heard is not None and each.last_heard < MINUTE),
    ({"lastHeardAfter": MINUTE.isoformat()}, lambda each: each.last_heard is not None and each.last_heard >= MINUTE),
    ({"not": {"lastHeardAfter": MINUTE.isoformat()}}, lambda each: each.last_heard is None or each.last_heard < MINUTE),
    ({"search": "PORCH"}, lambda each: each.name == "porch"),
    ({"search": "%"}, lambda each: each.name == "50%_of\\it's"),
    ({"search": "0%_"}, lambda each: each.name == "50%_of\\it's"),
    ({"search": "\\it'"}, lambda each: each.name == "50%_of\\it's"),
    ({"search": "a_t"}, lambda each: False),
    ({"search": "!"}, lambda each: False),
    ({"or": [{"online": True}, {"firmwareVersion": 10}]}, lambda each: each.online or each.version == 10),
    ({"or": []}, lambda each: False),
    ({"and": []}, lambda each: True),
    (
        {"and": [{"online": False}, {"not": {"or": [{"locked": True}, {"claimed": True}]}}]},
        lambda each: not (each.online or each.locked or each.claimed),
    ),
    ({"not": {}}, lambda each: False),
]


async def found(tester: HouseTester, token: str, **variables: Any) -> Any:
    return (await tester.ask(PAGE, token, **variables))["product"]["devices"]


async def test_every_filter_names_the_devices_it_says(tester: HouseTester) -> None:
    owner, made = await a_fleet(tester, 60)

    for asked, fits in FILTERS:
        expected = sorted((each for each in made if fits(each)), key=ORDERS["LAST_HEARD"])
        page = await found(tester, owner, filter=asked, first=100)
        assert [node["deviceId"] for node in page["nodes"]] == [each.device_id for each in expected], asked
        assert page["totalCount"] == len(expected), asked


@pytest.mark.parametrize("order", ORDERS)
async def test_walking_the_pages_forward_and_backward_is_the_whole_sorted_list(tester: HouseTester, order: str) -> None:
    owner, made = await a_fleet(tester, 30, seed=2)
    asked = {"not": {"state": "DENIED"}}
    expected = [each.device_id for each in sorted(made, key=ORDERS[order]) if each.state != "DENIED"]

    for size in (1, 7, len(expected), 100):
        forward: list[str] = []
        backward: list[str] = []
        page = await found(tester, owner, filter=asked, order=order, first=size)
        while True:
            forward += [node["deviceId"] for node in page["nodes"]]
            assert page["pageInfo"]["hasPreviousPage"] == (len(forward) > len(page["nodes"]))
            if not page["pageInfo"]["hasNextPage"]:
                break
            page = await found(tester, owner, filter=asked, order=order, first=size, after=page["pageInfo"]["endCursor"])
        page = await found(tester, owner, filter=asked, order=order, last=size)
        while True:
            backward = [node["deviceId"] for node in page["nodes"]] + backward
            if not page["pageInfo"]["hasPreviousPage"]:
                break
            page = await found(tester, owner, filter=asked, order=order, last=size, before=page["pageInfo"]["startCursor"])
        assert forward == expected
        assert backward == expected


async def test_what_no_list_can_answer_is_refused(tester: HouseTester) -> None:
    owner, _ = await a_fleet(tester, 3)
    deep: Any = {"online": True}
    for _ in range(12):
        deep = {"not": deep}
    by_id = (await found(tester, owner, order="DEVICE_ID", first=1))["pageInfo"]["endCursor"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"filter": deep}, "BAD_REQUEST"),
        ({"filter": {"or": [{"online": True}] * 101}}, "BAD_REQUEST"),
        ({"filter": {"search": "x" * 101}}, "BAD_REQUEST"),
        ({"filter": {"search": "\x00"}}, "BAD_REQUEST"),
        ({"filter": {"group": "nowhere"}}, "NOT_FOUND"),
        ({"order": "NAME", "after": by_id}, "BAD_REQUEST"),
        ({"after": "rubbish"}, "BAD_REQUEST"),
        ({"first": 101}, "BAD_REQUEST"),
    ]

    for variables, code in wrong:
        with pytest.raises(GraphQLFailed) as refused:
            await found(tester, owner, **variables)
        assert refused.value.codes == [code], variables


async def test_a_stranger_sees_no_device_and_a_customer_their_own(tester: HouseTester) -> None:
    _, made = await a_fleet(tester, 12)
    eve = await tester.owner("eve", "Other")
    carl = await Customer.get(username="Carl")
    minted, _ = await issue(Kind.CUSTOMER, owner=carl, now=datetime.now(UTC), scopes=["devices:read"])
    own = [each for each in made if each.claimed and each.state == "ACTIVE"]
    asked = "query ($id: DeviceID!) { device(deviceId: $id) { deviceId notes groups { path } product { productId } } }"

    seen = (await tester.ask(asked, eve, id=own[0].device_id))["device"]
    with pytest.raises(GraphQLFailed) as nobody:
        await tester.ask(asked, None, id=own[0].device_id)
    listed = await tester.ask("{ viewer { devices { totalCount nodes { deviceId } } } }", minted.text)
    one = (await tester.ask(asked, minted.text, id=own[0].device_id))["device"]
    other = [(await tester.ask(asked, minted.text, id=each.device_id))["device"] for each in made if each not in own]

    assert (seen, nobody.value.codes) == (None, ["UNAUTHENTICATED"])
    assert (await tester.ask("{ product(productId: 1000) { name } }", eve))["product"] is None
    assert [node["deviceId"] for node in listed["viewer"]["devices"]["nodes"]] == sorted(each.device_id for each in own)
    assert one == {"deviceId": own[0].device_id, "notes": None, "groups": [], "product": {"productId": 1000}}
    assert other == [None] * (len(made) - len(own))


async def test_a_device_says_all_that_is_known_of_it(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    product = await Product.get(number=1000)
    group = await DeviceGroup.create(product=product, name="emea", path="emea", created_at=START)
    reported = {
        "functions": ["on", "off"],
        "variables": {"volts": "double", "label": "string"},
        "reported_product_id": 6,
        "platform": "PHOTON",
    }
    device = await Device.create(
        device_id="a" * 24, product=product, created_at=START, firmware_version=3, forced=True, notes="n", **reported
    )
    await GroupMembership.create(group=group, device=device)
    now = datetime.now(UTC)
    await Presence.create(
        device=device, online=True, epoch=1, last_heard=now, last_handshake_at=now, last_ip_address="::1", connects_since=now, connects=11
    )
    await Device.create(device_id="b" * 24, product=product, created_at=START)
    fields = """deviceId name notes serialNumber platform product { productId } state development owner { username } userOwner { email }
        claimedAt online lastHeard lastIpAddress flapping reportedProductId forced firmwareVersion desiredFirmwareVersion
        groups { path } functions variables { name type }"""

    both = (await tester.ask(f"{{ product(productId: 1000) {{ devices {{ nodes {{ id {fields} }} }} }} }}", owner))["product"]["devices"][
        "nodes"
    ]
    node = await tester.ask(f"query ($id: ID!) {{ node(id: $id) {{ id ... on Device {{ {fields} }} }} }}", owner, id=both[0]["id"])
    inside = await tester.ask('{ product(productId: 1000) { device(deviceId: "AAAAAAAAAAAAAAAAAAAAAAAA") { deviceId } } }', owner)

    assert node["node"] == both[0]
    assert inside["product"]["device"] == {"deviceId": "a" * 24}
    known, unknown = both
    heard = known.pop("lastHeard")
    assert heard is not None
    assert {name: known[name] for name in ("online", "flapping", "forced", "firmwareVersion", "notes", "platform", "lastIpAddress")} == {
        "online": True,
        "flapping": True,
        "forced": True,
        "firmwareVersion": 3,
        "notes": "n",
        "platform": "PHOTON",
        "lastIpAddress": "::1",
    }
    assert (known["groups"], known["functions"]) == ([{"path": "emea"}], ["on", "off"])
    assert known["variables"] == [{"name": "label", "type": "string"}, {"name": "volts", "type": "double"}]
    assert (unknown["online"], unknown["lastHeard"], unknown["functions"], unknown["groups"]) == (False, None, [], [])


async def test_a_kit_kept_out_of_a_product_tells_neither_side_of_the_other(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.person("eve")
    await tester.product(owner)
    await tester.do("registerDevice", "secret", eve, deviceId="a" * 24)
    await Device.all().update(product=await Product.get(number=1000), state="QUARANTINED", notes="of the team")
    asked = '{ device(deviceId: "aaaaaaaaaaaaaaaaaaaaaaaa") { product { productId } userOwner { email } notes state } }'

    team, person = (await tester.ask(asked, owner))["device"], (await tester.ask(asked, eve))["device"]

    assert team == {"product": {"productId": 1000}, "userOwner": None, "notes": "of the team", "state": "QUARANTINED"}
    assert person == {"product": None, "userOwner": {"email": "eve@example.com"}, "notes": None, "state": "QUARANTINED"}
