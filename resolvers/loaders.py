"""Rows by key, gathered into one query for all that an operation asks for at the same moment."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from strawberry.dataloader import DataLoader
from tortoise.models import Model

from auth.viewer import Viewer
from fleet import fact_finding, grouping, offering, releasing, summarizing
from fleet.fact_finding import Decided
from fleet.following import fresh_devices
from fleet.releasing import Released, Running
from fleet.summarizing import Usage
from models.account import User
from models.customer import Customer
from models.device import Device, DeviceGroup, Presence
from models.firmware import Firmware, Update
from models.organization import Organization
from models.product import Product

Row = TypeVar("Row", bound=Model)
Key = TypeVar("Key")
Found = TypeVar("Found")


class ByKey(Generic[Row]):
    """Loads rows of one table by primary key; a key that is None, or names nothing, gives None.

    `column` is the key's name where it is a relation: Tortoise filters such a one by no other.
    """

    def __init__(self, table: type[Row], column: str = "pk") -> None:
        self._table = table
        self._column = column
        self._loader: DataLoader[Any, Row | None] = DataLoader(load_fn=self._load)

    async def load(self, key: object) -> Row | None:
        return None if key is None else await self._loader.load(key)

    async def _load(self, keys: Sequence[object]) -> list[Row | None]:
        found = {row.pk: row for row in await self._table.filter(**{f"{self._column}__in": list(keys)})}
        return [found.get(key) for key in keys]


class Gathered(Generic[Key, Found]):
    """Loads what belongs to a key by `find`, which answers for all keys at once; for a key it leaves out, `missing()`."""

    def __init__(self, find: Callable[[list[Key]], Awaitable[Mapping[Key, Found]]], missing: Callable[[], Found]) -> None:
        self._find, self._missing = find, missing
        self._loader: DataLoader[Key, Found] = DataLoader(load_fn=self._load)

    async def load(self, key: Key) -> Found:
        return await self._loader.load(key)

    async def _load(self, keys: list[Key]) -> list[Found]:
        found = await self._find(keys)
        return [found[key] if key in found else self._missing() for key in keys]


@dataclass(slots=True)
class Loaders:
    users: ByKey[User] = field(default_factory=lambda: ByKey(User))
    organizations: ByKey[Organization] = field(default_factory=lambda: ByKey(Organization))
    products: ByKey[Product] = field(default_factory=lambda: ByKey(Product))
    firmwares: ByKey[Firmware] = field(default_factory=lambda: ByKey(Firmware))
    customers: ByKey[Customer] = field(default_factory=lambda: ByKey(Customer))
    groups: ByKey[DeviceGroup] = field(default_factory=lambda: ByKey(DeviceGroup))
    groups_inside: Gathered[int, list[DeviceGroup]] = field(default_factory=lambda: Gathered(grouping.groups_inside, list))
    groups_of: Gathered[str, list[DeviceGroup]] = field(default_factory=lambda: Gathered(grouping.groups_of, list))
    presences: ByKey[Presence] = field(default_factory=lambda: ByKey(Presence, "device_id"))
    group_releases: Gathered[int, int | None] = field(default_factory=lambda: Gathered(grouping.released_firmware_ids, _nothing))
    last_activity: Gathered[int, datetime | None] = field(default_factory=lambda: Gathered(summarizing.last_activity, _nothing))
    customer_usage: Gathered[tuple[int, datetime | None], Usage] = field(default_factory=lambda: Gathered(summarizing.usage_of, Usage))
    devices: ByKey[Device] = field(default_factory=lambda: ByKey(Device))
    product_releases: Gathered[int, int | None] = field(default_factory=lambda: Gathered(releasing.product_releases, _nothing))
    decisions: Gathered[str, Decided | None] = field(default_factory=lambda: Gathered(fact_finding.decisions, _nothing))
    last_updates: Gathered[str, Update | None] = field(default_factory=lambda: Gathered(offering.last_updates, _nothing))
    versions: Gathered[tuple[int, int], Firmware | None] = field(default_factory=lambda: Gathered(fact_finding.versions, _nothing))
    running: Gathered[tuple[int, int], Running] = field(default_factory=lambda: Gathered(releasing.running, Running))
    released: Gathered[int, Released] = field(default_factory=lambda: Gathered(releasing.released, Released))
    _in_scope: DataLoader[str, Device | None] | None = None

    def in_scope(self, viewer: Viewer) -> DataLoader[str, Device | None]:
        """Devices by their ids, of those the viewer may see."""
        if self._in_scope is None:
            self._in_scope = DataLoader(load_fn=partial(_in_scope, viewer))
        return self._in_scope


async def _in_scope(viewer: Viewer, device_ids: list[str]) -> list[Device | None]:
    found = await fresh_devices(viewer, device_ids)
    return [found.get(device_id) for device_id in device_ids]


def _nothing() -> None:
    return None
