"""The summary of a fleet equals a recount."""

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.customer import Customer
from models.device import Device, Presence
from models.log import ErrorTally, UsageTally
from models.product import Product
from tests.house import GraphQLFailed, HouseTester

Uses = list[tuple[str, dict[str, Any]]]
Errors = list[dict[str, Any]]

NOW = datetime.now(UTC).replace(microsecond=0)


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def fleet(tester: HouseTester, token: str, fields: str, **variables: Any) -> Any:
    head = "query ($since: DateTime)" if variables else "query"
    found = await tester.ask(f"{head} {{ product(productId: 1000) {{ fleet {{ {fields} }} }} }}", token, **variables)
    return found["product"]["fleet"]


async def tallied(mine: Product) -> tuple[Uses, Errors]:
    """Twelve customers, of whom some were active on some days, and errors of five devices; what was stored comes back."""
    drawn = random.Random(11)
    customers = [await Customer.create(product=mine, username=f"c{n}", username_key=f"c{n}", created_at=NOW) for n in range(12)]
    uses: Uses = []
    errors: Errors = []
    for days in (0, 1, 2, 29, 31, 60):
        at = NOW - timedelta(days=days)
        for customer in customers[:9]:
            if drawn.random() < 0.4:
                use = {"events": drawn.randint(0, 9), "calls": drawn.randint(1, 9), "last_at": at}
                await UsageTally.create(product_number=mine.number, day=at.date(), customer=customer, **use)
                uses.append((customer.username, use))
        for name in ("error/boot", "Exception", "error"):
            for device in range(5):
                if drawn.random() < 0.4:
                    found = {"name": name, "device_id": f"{device:024x}", "count": drawn.randint(1, 50), "last_at": at}
                    await ErrorTally.create(product_number=mine.number, day=at.date(), **found)
                    errors.append(found)
    return uses, errors


def recount_usage(uses: Uses, begins: datetime) -> list[dict[str, Any]]:
    by_customer: dict[str, list[Any]] = defaultdict(list)
    for username, use in uses:
        if use["last_at"] >= begins:
            by_customer[username].append(use)
    rows = [
        {
            "customer": {"username": username},
            "events": sum(use["events"] for use in each),
            "calls": sum(use["calls"] for use in each),
            "lastActiveAt": text(max(use["last_at"] for use in each)),
        }
        for username, each in by_customer.items()
    ]
    return sorted(rows, key=lambda row: (-row["events"] - row["calls"], int(row["customer"]["username"][1:])))


def recount_errors(errors: Errors, begins: datetime) -> list[dict[str, Any]]:
    by_name: dict[str, list[Any]] = defaultdict(list)
    for error in errors:
        if error["last_at"] >= begins:
            by_name[error["name"]].append(error)
    rows = [
        {
            "name": name,
            "count": sum(error["count"] for error in each),
            "devices": len({error["device_id"] for error in each}),
            "lastAt": text(max(error["last_at"] for error in each)),
        }
        for name, each in by_name.items()
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["name"]))


async def test_an_empty_fleet_is_all_noughts(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)

    found = await fleet(
        tester,
        owner,
        "total online quarantined customersActive customersInactive usage { events } firmwareVersions { version } errors { name }",
    )

    assert found == {
        "total": 0,
        "online": 0,
        "quarantined": 0,
        "customersActive": 0,
        "customersInactive": 0,
        "usage": [],
        "firmwareVersions": [],
        "errors": [],
    }


async def test_devices_are_counted_by_state_presence_and_version(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    await tester.product(owner)
    mine, other = await Product.all().order_by("number")
    drawn = random.Random(7)
    ledger: list[tuple[str, int | None, bool]] = []
    for at in range(300):
        product = mine if at < 250 else other
        state = drawn.choice(["ACTIVE", "ACTIVE", "ACTIVE", "QUARANTINED", "DENIED"])
        version, online = drawn.choice([None, 1, 2, 10]), drawn.choice([None, False, True])
        device = await Device.create(device_id=f"{at:024x}", product=product, state=state, firmware_version=version, created_at=NOW)
        if online is not None:
            times = {"last_heard": NOW, "last_handshake_at": NOW, "connects_since": NOW}
            await Presence.create(device=device, online=online, epoch=at, connects=1, **times)
        if product is mine:
            ledger.append((state, version, online is True))

    found = await fleet(tester, owner, "total online quarantined firmwareVersions { version devices online }")

    active = [(version, online) for state, version, online in ledger if state == "ACTIVE"]
    devices, connected = Counter(version for version, _ in active), Counter(version for version, online in active if online)
    assert found["total"] == len(active) == sum(devices.values())
    assert found["online"] == sum(online for _, online in active)
    assert found["quarantined"] == sum(state == "QUARANTINED" for state, _, _ in ledger)
    assert found["firmwareVersions"] == [
        {"version": version, "devices": devices[version], "online": connected[version]} for version in (10, 2, 1, None)
    ]


async def test_customers_usage_and_errors_equal_a_recount(tester: HouseTester) -> None:
    owner = await tester.owner()
    number, other = await tester.product(owner), await tester.product(owner)
    mine = await Product.get(number=number)
    uses, errors = await tallied(mine)
    await ErrorTally.create(product_number=other, day=NOW.date(), name="error", device_id="f" * 24, count=99, last_at=NOW)
    since = NOW - timedelta(days=2)
    asked = """
        recent: usage(since: $since) { customer { username } events calls lastActiveAt }
        monthly: usage { customer { username } events calls lastActiveAt }
        busiest: usage(first: 1) { customer { username } }
        customersActive(since: $since) monthlyActive: customersActive customersInactive(since: $since) monthlyInactive: customersInactive
        errors(since: $since) { name count devices lastAt }
        monthlyErrors: errors { name count devices lastAt }
        worst: errors(first: 1) { name }"""

    found = await fleet(tester, owner, asked, since=text(since))

    month = NOW - timedelta(days=30)
    assert found["recent"] == recount_usage(uses, since)
    assert found["monthly"] == recount_usage(uses, month)
    assert found["busiest"] == [{"customer": found["monthly"][0]["customer"]}]
    assert (found["customersActive"], found["customersInactive"]) == (len(recount_usage(uses, since)), 12 - len(recount_usage(uses, since)))
    assert (found["monthlyActive"], found["monthlyInactive"]) == (len(recount_usage(uses, month)), 12 - len(recount_usage(uses, month)))
    assert 0 < found["customersActive"] < found["monthlyActive"] < 12
    assert found["errors"] == recount_errors(errors, since)
    assert found["monthlyErrors"] == recount_errors(errors, month)
    assert found["worst"] == [{"name": found["monthlyErrors"][0]["name"]}]


async def test_a_customer_last_active_before_the_moment_on_its_day_is_not_active(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    noon = datetime(2026, 5, 4, 12, tzinfo=UTC)
    zoe = await Customer.create(product=await Product.get(), username="zoe", username_key="zoe", created_at=NOW)
    await UsageTally.create(product_number=number, day=noon.date(), customer=zoe, events=3, last_at=noon)
    asked = "customersActive(since: $since) customersInactive(since: $since) usage(since: $since) { events }"

    then = await fleet(tester, owner, asked, since=text(noon))
    after = await fleet(tester, owner, asked, since=text(noon + timedelta(milliseconds=1)))

    assert then == {"customersActive": 1, "customersInactive": 0, "usage": [{"events": 3}]}
    assert after == {"customersActive": 0, "customersInactive": 1, "usage": []}


@pytest.mark.parametrize("field", ["usage(first: 0) { events }", "errors(first: 101) { name }"])
async def test_a_list_has_one_to_a_hundred_rows(tester: HouseTester, field: str) -> None:
    owner = await tester.owner()
    await tester.product(owner)

    with pytest.raises(GraphQLFailed) as failed:
        await fleet(tester, owner, field)

    assert failed.value.codes == ["BAD_REQUEST"]


async def test_a_token_reads_of_the_fleet_what_its_scopes_allow(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    made = await tester.do("createApiUser", "token", owner, organization="acme", name="ci", scopes=["products:read", "devices:read"])

    counted = await fleet(tester, made["token"], "total")
    codes = []
    for field in ("customersActive", "customersInactive", "usage { events }", "errors { name }"):
        with pytest.raises(GraphQLFailed) as failed:
            await fleet(tester, made["token"], field)
        codes += failed.value.codes

    assert counted == {"total": 0}
    assert codes == ["FORBIDDEN"] * 4
