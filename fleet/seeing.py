"""What a viewer sees of devices: the one decision behind lists, counts, single rows and running streams.

A team sees its products whole, unless somebody was granted groups in one: then those, with all below them, and nothing beside.
A customer sees the ACTIVE devices that are theirs, and those in groups granted to them.
Source: details, "Groups as walls"; vocabulary, "Groups".
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from tortoise.expressions import Q, Subquery
from tortoise.queryset import QuerySet

from auth.viewer import Viewer
from models.device import Device, DeviceState, GroupMembership
from models.sql import numbers

_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody sees of one product: the fingerprint by which streams may share what they read.

    Equal ones see the same devices, and the same entries of the product's log, whoever looks.
    """

    product_id: int | None  # None: a person's own kits, which are in no product
    groups: frozenset[int] | None = None  # None: every device, and what is published in the product's own name
    customer_id: int | None = None

    @property
    def is_whole(self) -> bool:
        return self.groups is None

    async def visible(self, device_ids: Collection[str]) -> set[str]:
        """Those of the devices that are seen now."""
        if self.groups is None or not device_ids:
            return set(device_ids)
        found = self.devices(device_ids, self.groups)
        return set(await found.values_list("device_id", flat=True))  # type: ignore[arg-type]  # Tortoise types a flat list as tuples

    def devices(self, device_ids: Collection[str], groups: frozenset[int]) -> QuerySet[Device]:
        """The rows of those that are seen now by somebody who sees `groups`, and what is theirs, alone."""
        seen = _in_groups(groups) if self.customer_id is None else _a_customers(self.customer_id, groups)
        return Device.filter(seen, product_id=self.product_id, device_id__in=list(device_ids))


def sight(viewer: Viewer, product_id: int | None) -> Sight:
    """Of a product the viewer has reached."""
    if viewer.customer is not None:
        return Sight(product_id, _of_customer(viewer), viewer.customer.id)
    walls = viewer.walls_in(product_id)
    return Sight(product_id, walls.groups if walls else None)


def products_seen(viewer: Viewer, *, organization: str = "product__organization_id", product: str = "product_id") -> Q:
    """What is of products that are there for the viewer, in a table that has their ids under these names.

    Raises Unauthenticated for nobody: to them it is said that a token is missing, whether the thing exists or not.
    """
    viewer.must_be_somebody()
    reach = viewer.reach
    seen = _one_of(organization, reach.organization_ids)
    if reach.hidden:
        seen &= ~_one_of(product, reach.hidden)
    if not reach.products:
        return seen
    others = _one_of(product, reach.products)
    return seen | others if reach.organization_ids else others


def products_seen_in_sql(viewer: Viewer, *, first: int) -> tuple[str, list[str]]:
    """The same of the table `product` as a condition in SQL, and its three values, which begin at the place `first`."""
    viewer.must_be_somebody()
    teams, hidden, others = (f"ANY(${first + place}::text::bigint[])" for place in range(3))
    condition = f"(product.organization_id = {teams} AND NOT product.id = {hidden} OR product.id = {others})"
    return condition, [numbers(ids) for ids in viewer.reach]


def devices_seen(viewer: Viewer) -> Q:
    """The devices of products the viewer belongs to, a customer's among all there are."""
    if viewer.customer is not None:
        return _a_customers(viewer.customer.id, _of_customer(viewer))
    seen = products_seen(viewer)
    if viewer.granted:
        inside = reduce(or_, (walls.groups for walls in viewer.granted.values()))
        seen &= ~Q(product_id__in=list(viewer.granted)) | _in_groups(inside)
    return seen


def _one_of(column: str, ids: Collection[int]) -> Q:
    condition: dict[str, Any] = {f"{column}__in": list(ids)}
    return Q(**condition)


def _a_customers(customer_id: int, groups: frozenset[int]) -> Q:
    theirs = Q(owner_id=customer_id)
    return Q(state=DeviceState.ACTIVE) & (theirs | _in_groups(groups) if groups else theirs)


def _in_groups(groups: frozenset[int]) -> Q:
    return Q(device_id__in=Subquery(GroupMembership.filter(group_id__in=list(groups)).values("device_id")))


def _of_customer(viewer: Viewer) -> frozenset[int]:
    """The groups granted to a customer: of their own product, which is the only one they can be granted any in."""
    return reduce(or_, (granted.groups for granted in viewer.granted.values()), _NOTHING)
