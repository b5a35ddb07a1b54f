"""Rows by our own statements are the rows that Tortoise reads."""

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import asyncpg
import pytest
from tortoise.models import Model, ModelMeta

from auth.credentials import viewer_of
from errors import NotFound
from fleet import scope
from models.account import ApiUser, Token
from models.customer import Customer
from models.database import MODEL_MODULES, database
from models.device import Device, Presence
from models.log import LogEntry
from models.product import Product
from models.sql import rows
from models.whole_rows import by_key, fetch
from settings import Settings
from tests import firmware_house
from tests.house import HouseTester, open_house

HOMES = [import_module(name) for name in MODEL_MODULES]
TABLES = [each for home in HOMES for each in vars(home).values() if isinstance(each, ModelMeta) and each.__module__ == home.__name__]


async def a_bit_of_everything(tester: HouseTester) -> str:
    owner = await tester.owner()
    number = await tester.product(owner)
    await firmware_house.uploaded(tester, owner, number, 1)
    kim = await Customer.create(product_id=1, username="kim", username_key="kim", created_at=datetime.now(UTC))
    await firmware_house.device(number, 1, owner=kim, functions=["blink"], variables={"light": "int32"}, development=True)
    await firmware_house.device(number, 2, version=None)
    await tester.do("createDeviceGroup", "group { id }", owner, productId=number, name="hall")
    await tester.do("publishEvent", "event { id }", owner, productId=number, name="light")
    await tester.do("createApiUser", "apiUser { id }", owner, organization="acme", name="ci", scopes=["devices:read"])
    return owner


def stored(row: Model) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row._meta.fields_db_projection}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
async def test_a_row_is_the_one_that_tortoise_reads(migrated_sqlite: Settings, table: type[Model]) -> None:
    """Over every table, empty ones included: a column of a new kind is met here first."""
    async with open_house(migrated_sqlite) as house:
        await a_bit_of_everything(HouseTester(house))
        expected = await table.all().order_by(table._meta.pk_attr)

        found = await fetch(table, f"TRUE ORDER BY {table._meta.db_pk_column}")

    assert [stored(row) for row in found] == [stored(row) for row in expected]
    assert [{name: type(value) for name, value in stored(row).items()} for row in found] == [
        {name: type(value) for name, value in stored(row).items()} for row in expected
    ]


async def test_rows_are_alike_on_both_databases_and_can_be_saved(tester: HouseTester) -> None:
    await a_bit_of_everything(tester)
    first = f"{1:024x}"

    (device,) = await fetch(Device, "device_id = $1", [first])
    presences = await by_key(Presence, "device_id", [first, f"{2:024x}"])
    device.name = "Hall"
    await device.save()

    assert stored(device) == stored(await Device.get(device_id=first))
    assert (device.name, device.functions, device.variables) == ("Hall", ["blink"], {"light": "int32"})
    assert list(presences) == [first]
    assert stored(presences[first]) == stored(await Presence.get(device_id=first))
    assert [stored(entry) for entry in await fetch(LogEntry, "TRUE ORDER BY position")] == [
        stored(entry) for entry in await LogEntry.all().order_by("position")
    ]


@pytest.mark.parametrize("fraction", [0, 1, 120_000, 500_000, 999_999])
async def test_a_time_comes_back_to_the_microsecond_in_utc(tester: HouseTester, fraction: int) -> None:
    await a_bit_of_everything(tester)
    moment = datetime(2026, 2, 28, 23, 59, 59, fraction, UTC)
    await Device.filter(device_id=f"{1:024x}").update(claimed_at=moment)

    (device,) = await fetch(Device, "claimed_at = $1 ORDER BY claimed_at", [moment])

    assert device.claimed_at == moment
    assert device.claimed_at.tzinfo is UTC


async def test_one_statement_tells_who_is_behind_a_token(tester: HouseTester) -> None:
    owner = await a_bit_of_everything(tester)

    viewer = await viewer_of(f"Bearer {owner}", address="127.0.0.1", now=datetime.now(UTC))

    token = await Token.get(id=viewer.token.id).select_related("user") if viewer.token else None
    assert token is not None
    assert viewer.token is not None
    assert stored(viewer.token) == stored(token)
    assert viewer.user == token.user == viewer.token.user
    assert {organization: member.role for organization, member in viewer.members.items()} == {1: "OWNER"}
    assert (viewer.api_user, viewer.customer, viewer.closed) == (None, None, frozenset())
    assert await ApiUser.all().count() == 1


async def test_a_product_comes_with_its_organization_at_hand(tester: HouseTester) -> None:
    owner = await a_bit_of_everything(tester)
    viewer = await viewer_of(f"Bearer {owner}", address=None, now=datetime.now(UTC))

    product = await scope.product_by_slug(viewer, "lamp")

    assert stored(product) == stored(await Product.get(slug="lamp"))
    assert product.organization.slug == "acme"
    with pytest.raises(NotFound):
        await scope.product(viewer, 1)


async def test_a_statement_is_one_round_trip(migrated_postgres: Settings) -> None:
    """The pool sent a reset after each: a second wait for every read."""
    async with database(migrated_postgres):
        await rows("SELECT 41 AS number")
        watching = await asyncpg.connect(migrated_postgres.database_url)
        last = await watching.fetch(
            "SELECT query FROM pg_stat_activity WHERE application_name = 'flotilla' AND datname = current_database()"
        )
        await watching.close()

    assert [row["query"] for row in last] == ["SELECT 41 AS number"]
