"""Rows by key, gathered into one query for all that an operation asks for at the same moment."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from tortoise.models import Model

from auth.viewer import Viewer
from fleet.customers import consenting
from fleet.devices import summarizing
from fleet.devices.counting import Kind
from fleet.devices.summarizing import Usage
from fleet.events.following import fresh_devices
from fleet.firmware import fact_finding, offering, releasing
from fleet.firmware.releasing import Released, Running
from fleet.products import grouping
from fleet.rollouts import steering
from fleet.rollouts.steering import Counts
from fleet.team import entrusting
from models.account import User
from models.customer import Customer
from models.device import Device, DeviceGroup, Presence
from models.firmware import Firmware
from models.organization import Organization, ProductRole
from models.product import Product
from models.rollout import RolloutStage
from models.whole_rows import by_key
from resolvers.gathering import Gathered

T = TypeVar("T")
Row = TypeVar("Row", bound=Model)


class ByKey(Generic[Row]):
    """Loads rows of one table by primary key; a key that is None, or names nothing, gives None."""

    def __init__(self, table: type[Row]) -> None:
        # Not a method of this: the two would keep each other until a full collection.
        self._rows: Gathered[Any, Row | None] = _or_none(partial(by_key, table, table._meta.db_pk_column))

    async def load(self, key: object) -> Row | None:
        return await self._rows.load(key)

    async def load_all(self, keys: Sequence[object]) -> list[Row | None]:
        """For each key its row, in the same order."""
        return await self._rows.load_all(keys)

    def learn(self, row: Row) -> None:
        """A row that somebody has read already."""
        self._rows.learn(row.pk, row)


def _or_none(find: Callable[[list[Any]], Awaitable[Mapping[Any, T]]]) -> Gathered[Any, T | None]:
    """Gives None for a key that `find` leaves out, and for None."""
    gathered: Gathered[Any, T | None] = Gathered(find, _nothing)
    gathered.learn(None, None)
    return gathered


def _made(make: Callable[[], T]) -> cached_property[T]:
    """When it is first asked for: an operation needs few of them."""
    return cached_property(lambda _: make())


class Loaders:
    """What one operation reads by key."""

    users = _made(lambda: ByKey(User))
    organizations = _made(lambda: ByKey(Organization))
    products = _made(lambda: ByKey(Product))
    firmwares = _made(lambda: ByKey(Firmware))
    customers = _made(lambda: ByKey(Customer))
    groups = _made(lambda: ByKey(DeviceGroup))
    groups_inside = _made(lambda: Gathered[int, list[DeviceGroup]](grouping.groups_inside, list))
    groups_of = _made(lambda: Gathered[str, list[DeviceGroup]](grouping.groups_of, list))
    presences = _made(lambda: ByKey(Presence))
    group_releases = _made(lambda: Gathered(grouping.released_firmware_ids, _nothing))
    consents = _made(lambda: Gathered[int, list[consenting.Consent]](consenting.consents_of, list))
    product_roles = _made(lambda: Gathered[int, list[ProductRole]](entrusting.roles_of, list))
    kinds = _made(lambda: Gathered[tuple[int, frozenset[int] | None], list[Kind]](summarizing.kinds_of, list))
    last_activity = _made(lambda: Gathered(summarizing.last_activity, _nothing))
    customer_usage = _made(lambda: Gathered(summarizing.usage_of, Usage))
    devices = _made(lambda: ByKey(Device))
    product_releases = _made(lambda: Gathered(releasing.product_releases, _nothing))
    decisions = _made(lambda: Gathered(fact_finding.decisions, _nothing))
    last_updates = _made(lambda: Gathered(offering.last_updates, _nothing))
    versions = _made(lambda: _or_none(fact_finding.versions))
    running = _made(lambda: Gathered(releasing.running, Running))
    released = _made(lambda: Gathered(releasing.released, Released))
    rollout_stages = _made(lambda: Gathered[int, list[RolloutStage]](steering.stages, list))
    rollout_counts = _made(lambda: Gathered[int, dict[int, Counts]](steering.counts, dict))

    def __init__(self) -> None:
        self._in_scope: Gathered[str, Device | None] | None = None

    def in_scope(self, viewer: Viewer) -> Gathered[str, Device | None]:
        """Devices by their ids, of those the viewer may see."""
        if self._in_scope is None:
            self._in_scope = Gathered(partial(fresh_devices, viewer), _nothing)
        return self._in_scope


def _nothing() -> None:
    return None
