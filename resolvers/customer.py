"""Doors of customers, and of whose a device is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from auth.viewer import Viewer
from fleet import claiming, customer_signing_in, enrolling, scope
from models.customer import ActivationState, Customer
from models.device import Device
from models.global_ids import number_of
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, given, page

Answer = Mapping[str, Any]


async def sign_up_customer(context: Context, *, product_id: int, username: str, password: str, email: str | None = None) -> Answer:
    product, house = await scope.product_to_enter(product_id), context.house
    session, token = await customer_signing_in.sign_up(product, username, password, email=email, house=house, by=context.viewer)
    await context.become(session)
    return {"customer": session.customer, "token": token, "expires_at": session.expires_at}


async def log_in_customer(context: Context, *, product_id: int, username: str, password: str) -> Answer:
    product, house = await scope.product_to_enter(product_id), context.house
    session, token = await customer_signing_in.log_in(product, username, password, house=house, by=context.viewer)
    await context.become(session)
    return {"customer": session.customer, "token": token, "expires_at": session.expires_at}


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
    return await page(scope.customers(product, **given(filter)), Slice.of(first, after), list_name=f"customers:{product.id}")


async def by_id(context: Context, id: str) -> Customer:
    number, own = number_of("Customer", id), context.viewer.customer
    if own is not None and own.id == number:
        return own
    customer = await scope.customer(context.viewer, number)
    _must_read(customer.product, context)
    return customer


def own_customer(viewer: Viewer, context: Context) -> Customer | None:
    return viewer.customer


async def product_of(customer: Customer, context: Context) -> Product | None:
    return await context.loaders.products.load(customer.product_id)  # type: ignore[attr-defined]  # a Tortoise column


async def devices(customer: Customer, context: Context, first: int | None, after: str | None) -> Page[Device]:
    product: Any = await context.loaders.products.load(customer.product_id)  # type: ignore[attr-defined]  # a Tortoise column
    is_own = context.viewer.customer is not None and context.viewer.customer.id == customer.id
    if is_own:
        context.viewer.must_hold("devices:read")
    elif product is not None:
        context.viewer.must("device.read", product.organization_id, product.id)
    found = scope.devices(context.viewer) if is_own else Device.filter(owner_id=customer.id)
    return await page(found, Slice.of(first, after), list_name=f"customer:{customer.id}", order=Order(("device_id",)))


def activation(customer: Customer, context: Context) -> ActivationState | None:
    return customer.activation_at(datetime.now(UTC))


async def last_active_at(customer: Customer, context: Context) -> datetime | None:
    return await context.loaders.last_activity.load(customer.id)


def _must_read(product: Product, context: Context) -> None:
    context.viewer.must("customer.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
