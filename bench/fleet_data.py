"""The rows that every server of a reading benchmark answers from: one team, one product, its devices, customers and firmware."""

import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from auth.credentials import issue
from auth.tokens import Kind
from fleet.devices import counting
from fleet.house import House
from models.account import User
from models.database import sqlite_path
from models.firmware import Firmware
from models.organization import Member, Organization
from models.product import Product
from settings import Settings

NUMBER = 1000  # the product's
CUSTOMERS = 20_000
VERSIONS = 20
_BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CUSTOMER = ("id", "product_id", "username", "username_key", "created_at")
_DEVICE = (
    "device_id",
    "product_id",
    "state",
    "created_at",
    "name",
    "serial_number",
    "platform",
    "owner_id",
    "claimed_at",
    "reported_product_id",
    "firmware_version",
    "proven",
)


async def furnish(house: House, devices: int) -> str:
    """Fill a migrated, empty database; the token of its owner."""
    user = await User.create(email="b@example.com", email_key="b@example.com", name="B", password_hash="", created_at=_BEGIN)
    team = await Organization.create(slug="bench", name="Bench", created_at=_BEGIN)
    await Member.create(organization=team, user=user, role="OWNER", joined_at=_BEGIN)
    product = await Product.create(number=NUMBER, organization=team, slug="p", name="P", platform="PHOTON", created_at=_BEGIN)
    for version in range(1, VERSIONS + 1):
        await Firmware.create(
            product=product,
            version=version,
            title=f"Version {version}",
            title_key=f"version {version}",
            format="PARTICLE",
            verified=True,
            file_name=f"{version}.bin",
            size=100_000,
            sha256=f"{version:064x}",
            uploaded_at=_BEGIN,
            uploaded_by=user,
        )
    await _load(house.settings, "customer", _CUSTOMER, _customers(product.id))
    await _load(house.settings, "device", _DEVICE, _devices(product.id, devices))
    minted, _ = await issue(Kind.SESSION, owner=user, now=_BEGIN)
    return minted.text


def _customers(product_id: int) -> Iterator[tuple[Any, ...]]:
    for number in range(1, CUSTOMERS + 1):
        yield number, product_id, f"customer{number}@example.com", f"customer{number}@example.com", _BEGIN


def _devices(product_id: int, count: int) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(1)
    for number in range(count):
        at = _BEGIN + timedelta(seconds=number, milliseconds=number % 1000)
        version = chance.randint(1, VERSIONS)
        who = f"{chance.getrandbits(96):024x}", product_id, "ACTIVE", at
        known = f"Lamp {number}", f"SN-{number:08d}", "PHOTON", chance.randint(1, CUSTOMERS), at + timedelta(days=1)
        yield *who, *known, NUMBER, version, True


async def _load(settings: Settings, table: str, columns: tuple[str, ...], records: Iterator[tuple[Any, ...]]) -> None:
    if settings.is_sqlite:
        _load_sqlite(settings, table, columns, records)
        await counting.repair()
        return
    direct = await asyncpg.connect(settings.database_url)
    await direct.copy_records_to_table(table, columns=list(columns), records=records)
    await direct.execute(f"VACUUM ANALYZE {table}")
    await direct.close()


def _load_sqlite(settings: Settings, table: str, columns: tuple[str, ...], records: Iterator[tuple[Any, ...]]) -> None:
    """Without the triggers that count every row as it comes, and with the further indexes made once at the end: a third of the time."""
    connection = sqlite3.connect(sqlite_path(settings))
    connection.execute("PRAGMA cache_size = -262144")  # KiB
    put_off = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('trigger', 'index') AND sql IS NOT NULL"
    later = connection.execute(put_off, [table]).fetchall()
    for kind, name, _ in later:
        connection.execute(f"DROP {kind} {name}")
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", records)
    for _, _, made in later:
        connection.execute(made)
    connection.commit()
    connection.execute("ANALYZE")
    connection.close()
