"""Strawberry and Tortoise as their guides have them: typed resolvers, DataLoaders, Strawberry's own ASGI app."""

import hashlib
import os
import random
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import strawberry
import uvicorn
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from tortoise import Tortoise
from tortoise.transactions import in_transaction  # noqa: TID251  as the guides have it

from models.account import Token
from models.customer import Customer as CustomerRow
from models.database import MODEL_MODULES
from models.device import Device as DeviceRow
from models.device import Presence
from models.firmware import OPEN_UPDATE_STATES
from models.firmware import Firmware as FirmwareRow
from models.firmware import Update as UpdateRow
from models.log import LogEntry
from models.operations import AuditEntry
from models.organization import Member
from models.product import Product as ProductRow


@strawberry.enum
class DeviceOrder(Enum):
    DEVICE_ID = "DEVICE_ID"


@strawberry.type
class Firmware:
    version: int
    title: str


@strawberry.type
class Customer:
    username: str


@strawberry.type
class Device:
    device_id: strawberry.ID
    name: str | None
    serial_number: str | None
    platform: str | None
    state: str
    development: bool
    claimed_at: datetime | None
    reported_product_id: int | None
    firmware_version: int | None
    created_at: datetime
    desired_firmware_version: int | None

    @strawberry.field
    async def firmware(self, info: strawberry.Info) -> Firmware | None:
        row: Any = self
        found: Firmware | None = await info.context["firmwares"].load((row.product_id, row.firmware_version))
        return found

    @strawberry.field
    async def owner(self, info: strawberry.Info) -> Customer | None:
        row: Any = self
        found: Customer | None = await info.context["owners"].load(row.owner_id)
        return found


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class DeviceConnection:
    nodes: list[Device]
    page_info: PageInfo


@strawberry.type
class Product:
    @strawberry.field
    async def devices(self, first: int, after: str | None = None, order_by: DeviceOrder | None = None) -> DeviceConnection:
        query = DeviceRow.filter(product_id=self.id, device_id__gt=after or "")  # type: ignore[attr-defined]  # the row
        found = await query.order_by("device_id").limit(first + 1)
        nodes: Any = found[:first]
        return DeviceConnection(nodes=nodes, page_info=PageInfo(has_next_page=len(found) > first, end_cursor=nodes[-1].device_id))


@strawberry.type
class Query:
    @strawberry.field
    async def product(self, info: strawberry.Info, product_id: int) -> Product | None:
        found: Any = await _product(info, product_id)
        return found  # type: ignore[no-any-return]  # a row


@strawberry.enum
class FlashWhen(Enum):
    NOW = "NOW"


@strawberry.input
class LockAndFlashInput:
    product_id: int
    firmware_version: int
    when: FlashWhen
    device_ids: list[strawberry.ID]


@strawberry.type
class LockAndFlashPayload:
    devices: list[Device]


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def lock_and_flash(self, info: strawberry.Info, input: LockAndFlashInput) -> LockAndFlashPayload:
        """The writes of ours: the lock, what is under way canceled, an update for each, the audit and two entries a device."""
        product = await _product(info, input.product_id)
        assert product is not None
        now = datetime.now(UTC)
        async with in_transaction():
            firmware = await FirmwareRow.get(product=product, version=input.firmware_version)
            rows = await DeviceRow.filter(device_id__in=input.device_ids, product=product).order_by("device_id").select_for_update()
            found: Any = await Presence.filter(device_id__in=input.device_ids, online=True).values_list("device_id", flat=True)
            online = set(found)
            devices: Any = [row for row in rows if row.device_id in online]
            await _lock(devices, firmware, now)
            ids = [row.device_id for row in devices]
            await AuditEntry.create(
                organization_id=product.organization_id,  # type: ignore[attr-defined]  # a Tortoise column
                at=now,
                actor="user:1",
                action="device.locked",
                subject=f"product:{product.number}",
                detail={"version": firmware.version, "devices": ids},
            )
            told = (("status", "LOCKED"), ("order", "consider"))
            said: dict[str, Any] = {"product_number": product.number, "published_at": now}
            await LogEntry.bulk_create(
                [
                    LogEntry(kind=kind, name=name, device_id=device_id, tag=random.getrandbits(31), **said)
                    for kind, name in told
                    for device_id in ids
                ]
            )
        return LockAndFlashPayload(devices=devices)


async def _lock(devices: list[DeviceRow], firmware: FirmwareRow, now: datetime) -> None:
    ids = [device.device_id for device in devices]
    lock: dict[str, Any] = {"desired_firmware_version": firmware.version, "lock_waits": False, "lock_forces": False}
    await DeviceRow.filter(device_id__in=ids).update(**lock)
    for device in devices:
        device.update_from_dict(lock)
    open_ones = UpdateRow.filter(device_id__in=ids, state__in=OPEN_UPDATE_STATES)
    await open_ones.exclude(firmware=firmware).update(state="CANCELED", finished_at=now)
    has_one: Any = await open_ones.filter(firmware=firmware).values_list("device_id", flat=True)
    missing = set(ids) - set(has_one)
    await UpdateRow.bulk_create(
        [UpdateRow(device_id=each, firmware=firmware, state="PENDING", by_hand=True, started_at=now) for each in missing]
    )


async def _product(info: strawberry.Info, product_id: int) -> ProductRow | None:
    text = info.context["request"].headers["authorization"].removeprefix("Bearer ")
    token = await Token.get(digest=hashlib.sha256(text.encode()).hexdigest(), revoked_at=None)
    teams = await Member.filter(user_id=token.user_id).values_list("organization_id", flat=True)  # type: ignore[attr-defined]
    return await ProductRow.filter(number=product_id, organization_id__in=teams).first()


async def _firmwares(keys: list[tuple[int, int]]) -> list[FirmwareRow | None]:
    rows = await FirmwareRow.filter(product_id__in={key[0] for key in keys}, version__in={key[1] for key in keys})
    found = {(row.product_id, row.version): row for row in rows}  # type: ignore[attr-defined]
    return [found.get(key) for key in keys]


async def _owners(keys: list[int]) -> list[CustomerRow | None]:
    found = {row.id: row for row in await CustomerRow.filter(id__in=keys)}
    return [found.get(key) for key in keys]


class App(GraphQL[Any, None]):
    async def get_context(self, request: Any, response: Any) -> Any:
        return {"request": request, "firmwares": DataLoader(load_fn=_firmwares), "owners": DataLoader(load_fn=_owners)}


_graphql = App(strawberry.Schema(Query, Mutation))


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await _graphql(scope, receive, send)
        return
    await receive()
    url = os.environ.get("DATABASE_URL", "").replace("postgres://", "asyncpg://") or f"sqlite://{os.environ['SQLITE_FILE']}"
    await Tortoise.init(db_url=url, modules={"models": list(MODEL_MODULES)}, use_tz=True, _enable_global_fallback=True)
    await send({"type": "lifespan.startup.complete"})
    await receive()


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
