"""A fleet of any size, made by the database itself: for what must not grow with it."""

from datetime import UTC, datetime
from typing import Any

from fleet.rollouts import shares
from models.database import MODEL_MODULES, opened
from models.device import DeviceGroup
from models.firmware import Firmware
from models.migrating import migrate
from models.product import Product
from models.rollout import Rollout, RolloutStage
from models.sql import execute, is_sqlite, rows
from models.transaction import transaction
from settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
PIECE = 25_000


async def furnish(settings: Settings, devices: int) -> None:
    """Two products: one of all devices but one in 100,000, of which a quarter were ever heard of, and one of those.

    The first half of the devices are in the group "all/half" of the first product, and the first quarter in "all" as well.
    """
    await migrate(settings)
    async with opened(settings, MODEL_MODULES, migrating=True):  # no limit of time
        await execute(
            "INSERT INTO organization (id, slug, name, created_at, billing_state) VALUES (1, 'acme', 'Acme', $1, 'EXEMPT')", [START]
        )
        for number in (1, 2):
            name: dict[str, Any] = {"slug": f"p{number}", "name": f"P{number}", "platform": "PHOTON"}
            await Product.create(id=number, number=999 + number, organization_id=1, created_at=START, **name)
        every = await DeviceGroup.create(product_id=1, name="all", path="all", created_at=START)
        half = await DeviceGroup.create(product_id=1, parent=every, name="half", path="all/half", created_at=START)
        for start in range(0, devices, PIECE):
            end = min(start + PIECE, devices)
            async with transaction():
                await _devices(start, end)
                if start < devices // 4:
                    await _presences(start, min(end, devices // 4))
                for group, of_it in ((half, devices // 2), (every, devices // 4)):
                    if start < of_it:
                        await _members(group, start, min(end, of_it))
        await execute("ANALYZE")


async def roll_out(settings: Settings) -> int:
    """A rollout of the first product, under way to the last stage: nine of ten devices have come back on the version. Its key."""
    async with opened(settings, MODEL_MODULES, migrating=True):
        file: dict[str, Any] = {"file_name": "f.bin", "size": 1, "sha256": "9" * 64, "format": "PARTICLE", "verified": True}
        firmware = await Firmware.create(product_id=1, version=9, title="V9", title_key="v9", uploaded_at=START, **file)
        begun: dict[str, Any] = {"created_at": START, "created_by": "ann", "started_at": START, "max_in_flight": 100, "reach": shares.ALL}
        rollout = await Rollout.create(product_id=1, firmware=firmware, state="RUNNING", **begun)
        terms: dict[str, Any] = {"percent": 100, "reach": shares.ALL, "max_failure_percent": 5, "healthy_for_s": 60}
        devices = int((await rows("SELECT count(*) AS n FROM device WHERE product_id = 1"))[0]["n"])
        await RolloutStage.create(rollout=rollout, number=0, state="RUNNING", targeted=devices, reached_at=START, **terms)
        await execute(
            "INSERT INTO rollout_device (rollout_id, device_id, stage, state, failures, offered_at, settled_at, former_version)"
            " SELECT $1, device_id, 0, 'SUCCEEDED', 0, $2, $2, 1 FROM device WHERE product_id = 1 AND device_id >= $3",
            [rollout.id, START, f"{devices // 10:024x}"],
        )
        await execute("ANALYZE")
    return rollout.id


def _numbers() -> tuple[str, str]:
    """Rows `n` from $1 up to, without, $2; and the device id of each."""
    if is_sqlite():
        return "(WITH RECURSIVE s(n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM s WHERE n < $2 - 1) SELECT n FROM s)", "printf('%024x', n)"
    return "generate_series($1::int, $2::int - 1) AS n", "lpad(to_hex(n), 24, '0')"


async def _devices(start: int, end: int) -> None:
    numbers, device_id = _numbers()
    await execute(
        "INSERT INTO device (device_id, product_id, state, created_at, name, firmware_version, proven)"
        f" SELECT {device_id}, CASE WHEN n % 100000 = 7 THEN 2 ELSE 1 END, 'ACTIVE', $3,"
        f" CASE WHEN n % 2 = 0 THEN 'lamp' END, CASE WHEN n % 3 > 0 THEN n % 7 END, TRUE FROM {numbers}",
        [start, end, START],
    )


async def _presences(start: int, end: int) -> None:
    numbers, device_id = _numbers()
    await execute(
        "INSERT INTO presence (device_id, online, epoch, last_heard, last_handshake_at, connects_since, connects)"
        f" SELECT {device_id}, n % 2 = 0, 1, $3, $3, $3, 1 FROM {numbers}",
        [start, end, START],
    )


async def _members(group: DeviceGroup, start: int, end: int) -> None:
    numbers, device_id = _numbers()
    join = f"INSERT INTO group_membership (group_id, device_id) SELECT {group.id}, {device_id} FROM {numbers} WHERE n % 100000 <> 7"
    await execute(join, [start, end])
