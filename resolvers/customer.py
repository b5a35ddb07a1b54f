"""Doors of customers, and of whose a device is."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet import claiming, enrolling, scope, summarizing
from models.customer import Customer
from models.device import Device
from models.global_ids import number_of
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, given, page

Answer = Mapping[str, Any]


async def create_customer(context: Context, *, product_id: int, username: str, **details: Any) -> Answer:
    product = await scope.product(context.viewer, product_id)
    return {"customer": await enrolling.create_customer(product, username, **details, by=context.viewer)}


async def delete_customer(context: Context, *, id: str) -> None:
    customer = await scope.customer(context.viewer, number_of("Customer", id))
    await enrolling.delete_customer(customer, by=context.viewer)


async def assign_device(context: Context, *, device_id: str, customer_id: str) -> Answer:
    device = await scope.device(context.viewer, device_id)
    customer = await scope.customer(context.viewer, number_of("Customer", customer_id, path=("customerId",)), field="customerId")
    return {"device": await claiming.assign_device(device, customer, by=context.viewer)}


async def unclaim_device(context: Context, *, device_id: str) -> Answer:
    device = await scope.device(context.viewer, device_id)
    return {"device": await claiming.unclaim_device(device, by=context.viewer)}


# ── reading ──
async def customers(product: Product, context: Context, first: int | None, after: str | None, filter: object) -> Page[Customer]:
    _must_read(product, context)
    return await page(
        scope.customers(context.viewer, product, **given(filter)), Slice.of(first, after), list_name=f"customers:{product.id}"
    )


async def by_id(context: Context, id: str) -> Customer:
    customer = await scope.customer(context.viewer, number_of("Customer", id))
    _must_read(customer.product, context)
    return customer


async def product_of(customer: Customer, context: Context) -> Product | None:
    return await context.loaders.products.load(customer.product_id)  # type: ignore[attr-defined]  # a Tortoise column


async def devices(customer: Customer, context: Context, first: int | None, after: str | None) -> Page[Device]:
    product = await context.loaders.products.load(customer.product_id)  # type: ignore[attr-defined]  # a Tortoise column
    if product is not None:
        context.viewer.must("device.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
    found = scope.devices(context.viewer).filter(owner_id=customer.id)
    return await page(found, Slice.of(first, after), list_name=f"customer:{customer.id}", order=Order(("device_id",)))


def activation(customer: Customer, context: Context) -> str | None:
    """Nobody has an activation code before there are private betas."""
    return None


async def last_active_at(customer: Customer, context: Context) -> datetime | None:
    walls = context.viewer.walls_in(customer.product_id)  # type: ignore[attr-defined]  # a Tortoise column
    known = walls is None or await summarizing.is_all_inside(customer.id, walls.groups)
    return await context.loaders.last_activity.load(customer.id) if known else None


def _must_read(product: Product, context: Context) -> None:
    context.viewer.must("customer.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
