"""Rows by key, gathered into one query for all that an operation asks for at the same moment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from tortoise.models import Model

from auth.viewer import Viewer
from fleet import consenting, entrusting, fact_finding, grouping, offering, releasing, rollouts, summarizing
from fleet.counting import Kind
from fleet.fact_finding import Decided
from fleet.following import fresh_devices
from fleet.releasing import Released, Running
from fleet.rollouts import Counts
from fleet.summarizing import Usage
from models.account import User
from models.customer import Customer
from models.device import Device, DeviceGroup, Presence
from models.firmware import Firmware, Update
from models.organization import Organization, ProductRole
from models.product import Product
from models.rollout import RolloutStage
from models.whole_rows import by_key
from resolvers.gathering import Gathered

Row = TypeVar("Row", bound=Model)


class ByKey(Generic[Row]):
    """Loads rows of one table by primary key; a key that is None, or names nothing, gives None."""

    def __init__(self, table: type[Row]) -> None:
        # Not a method of this: the two would keep each other until a full collection.
        self._rows: Gathered[Any, Row | None] = Gathered(partial(by_key, table, table._meta.db_pk_column), _nothing)

    async def load(self, key: object) -> Row | None:
        return (await self.load_all([key]))[0]

    async def load_all(self, keys: Sequence[object]) -> list[Row | None]:
        """For each key its row, in the same order."""
        named = iter(await self._rows.load_all([key for key in keys if key is not None]))
        return [None if key is None else next(named) for key in keys]

    def learn(self, row: Row) -> None:
        """A row that somebody has read already."""
        self._rows.learn(row.pk, row)


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
    presences: ByKey[Presence] = field(default_factory=lambda: ByKey(Presence))
    group_releases: Gathered[int, int | None] = field(default_factory=lambda: Gathered(grouping.released_firmware_ids, _nothing))
    consents: Gathered[int, list[consenting.Consent]] = field(default_factory=lambda: Gathered(consenting.consents_of, list))
    product_roles: Gathered[int, list[ProductRole]] = field(default_factory=lambda: Gathered(entrusting.roles_of, list))
    kinds: Gathered[tuple[int, frozenset[int] | None], list[Kind]] = field(default_factory=lambda: Gathered(summarizing.kinds_of, list))
    last_activity: Gathered[int, datetime | None] = field(default_factory=lambda: Gathered(summarizing.last_activity, _nothing))
    customer_usage: Gathered[tuple[int, datetime | None], Usage] = field(default_factory=lambda: Gathered(summarizing.usage_of, Usage))
    devices: ByKey[Device] = field(default_factory=lambda: ByKey(Device))
    product_releases: Gathered[int, int | None] = field(default_factory=lambda: Gathered(releasing.product_releases, _nothing))
    decisions: Gathered[str, Decided | None] = field(default_factory=lambda: Gathered(fact_finding.decisions, _nothing))
    last_updates: Gathered[str, Update | None] = field(default_factory=lambda: Gathered(offering.last_updates, _nothing))
    versions: Gathered[tuple[int, int], Firmware | None] = field(default_factory=lambda: Gathered(fact_finding.versions, _nothing))
    running: Gathered[tuple[int, int], Running] = field(default_factory=lambda: Gathered(releasing.running, Running))
    released: Gathered[int, Released] = field(default_factory=lambda: Gathered(releasing.released, Released))
    rollout_stages: Gathered[int, list[RolloutStage]] = field(default_factory=lambda: Gathered(rollouts.stages, list))
    rollout_counts: Gathered[int, dict[int, Counts]] = field(default_factory=lambda: Gathered(rollouts.counts, dict))
    _in_scope: Gathered[str, Device | None] | None = None

    def in_scope(self, viewer: Viewer) -> Gathered[str, Device | None]:
        """Devices by their ids, of those the viewer may see."""
        if self._in_scope is None:
            self._in_scope = Gathered(partial(fresh_devices, viewer), _nothing)
        return self._in_scope


def _nothing() -> None:
    return None
