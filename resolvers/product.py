"""Doors of products, their configuration, and the summary of their fleets."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from errors import BadRequest
from firmware_formats.platforms import Platform
from fleet import scope
from fleet.devices import summarizing
from fleet.devices.counting import Kind
from fleet.products import configuring, defining
from fleet.seeing import sight
from models.device import DeviceState
from models.global_ids import number_of
from models.organization import Organization, Role
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Slice

Answer = Mapping[str, Any]


async def create_product(context: Context, *, organization: str, name: str, platform: Platform, description: str | None = None) -> Answer:
    team = await scope.organization(context.viewer, organization)
    return {"product": await defining.create_product(team, name, platform=platform, description=description or "", by=context.viewer)}


async def update_product(context: Context, *, product_id: int, **changes: Any) -> Answer:
    product = await scope.product(context.viewer, product_id)
    return {"product": await defining.update_product(product, **changes, house=context.house, by=context.viewer)}


async def rotate_provisioning_key(context: Context, *, product_id: int) -> Answer:
    product = await scope.product(context.viewer, product_id)
    return {"provisioning_key": await defining.rotate_provisioning_key(product, house=context.house, by=context.viewer)}


async def answer_questions(context: Context, *, product_id: int, answers: list[Any]) -> Answer:
    product = await scope.product(context.viewer, product_id)
    given = [configuring.Given(each.key, each.answer) for each in answers]
    return {"product": await configuring.answer_questions(product, given, by=context.viewer)}


async def start_manufacturing(context: Context, *, product_id: int) -> Answer:
    product = await scope.product(context.viewer, product_id)
    return {"product": await configuring.start_manufacturing(product, by=context.viewer)}


# ── reading ──
async def product_or_null(context: Context, product_id: int | None, slug: str | None) -> Product | None:
    if (product_id is None) == (slug is None):
        raise BadRequest("Name the product by productId or by slug, by exactly one of them.")
    by_number = product_id is not None
    finding = scope.product(context.viewer, product_id or 0) if by_number else scope.product_by_slug(context.viewer, slug or "")
    return _readable(await scope.or_null(finding), context)


async def by_id(context: Context, id: str) -> Product | None:
    return _readable(await scope.product_by_id(context.viewer, number_of("Product", id)), context)


def _readable(product: Product | None, context: Context) -> Product | None:
    if product is not None:
        context.viewer.must("product.read", _organization_id(product), product.id)
        context.loaders.products.learn(product)
        context.loaders.organizations.learn(product.organization)
    return product


async def organization_of(product: Product, context: Context) -> Organization | None:
    return await context.loaders.organizations.load(_organization_id(product))


def my_role(product: Product, context: Context) -> Role | None:
    return context.viewer.role_in(_organization_id(product), product.id)


async def configuration(product: Product, context: Context) -> configuring.Configuration:
    context.viewer.must("product.read", _organization_id(product), product.id)
    return await configuring.configuration_of(product)


# ── the fleet: the summary's row is the product itself ──
def fleet(product: Product, context: Context) -> Product:
    context.viewer.must("device.read", _organization_id(product), product.id)
    return product


async def total(product: Product, context: Context) -> int:
    return summarizing.devices_in(await _kinds(product, context), DeviceState.ACTIVE)


async def quarantined(product: Product, context: Context) -> int:
    return summarizing.devices_in(await _kinds(product, context), DeviceState.QUARANTINED)


async def online(product: Product, context: Context) -> int:
    return summarizing.online_in(await _kinds(product, context))


async def customers_active(product: Product, context: Context, since: datetime | None) -> int:
    context.viewer.must("customer.read", _organization_id(product), product.id)
    return await summarizing.count_active_customers(product, since, inside=_inside(product, context))


async def customers_inactive(product: Product, context: Context, since: datetime | None) -> int:
    context.viewer.must("customer.read", _organization_id(product), product.id)
    return await summarizing.count_inactive_customers(product, since, inside=_inside(product, context))


async def usage(product: Product, context: Context, first: int | None, since: datetime | None) -> list[summarizing.Usage]:
    context.viewer.must("customer.read", _organization_id(product), product.id)
    return await summarizing.usage(product, most=Slice.of(first).size, since=since, inside=_inside(product, context))


async def customer_of(usage: summarizing.Usage, context: Context) -> Any:
    return await context.loaders.customers.load(usage.customer_id)


async def firmware_versions(product: Product, context: Context) -> list[summarizing.Running]:
    return summarizing.firmware_versions(await _kinds(product, context))


async def errors(product: Product, context: Context, first: int | None, since: datetime | None) -> list[summarizing.Failing]:
    context.viewer.must("event.read", _organization_id(product), product.id)
    return await summarizing.errors(product, most=Slice.of(first).size, since=since, inside=_inside(product, context))


async def _kinds(product: Product, context: Context) -> list[Kind]:
    """Read once for all the numbers of a summary."""
    return await context.loaders.kinds.load((product.id, _inside(product, context)))


def _inside(product: Product, context: Context) -> frozenset[int] | None:
    return sight(context.viewer, product.id).groups


def _organization_id(product: Product) -> int:
    return product.organization_id  # type: ignore[attr-defined,no-any-return]  # a Tortoise column
