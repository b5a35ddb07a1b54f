"""Doors of customers, and of whose a device is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from auth.viewer import Viewer
from errors import CallerError, InvalidInput, NotFound
from fleet import scope
from fleet.customers import activating, consenting, enrolling, importing, passwords, signing_in, tokens
from fleet.devices import claim_codes, claiming, returning, summarizing
from models.customer import ActivationState, Customer
from models.device import Device
from models.global_ids import number_of
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, given, page
from resolvers.sent_files import chunks_of

Answer = Mapping[str, Any]


async def sign_up_customer(context: Context, *, product_id: int, username: str, password: str, email: str | None = None) -> Answer:
    product, house = await scope.product_to_enter(product_id), context.house
    session, token = await signing_in.sign_up(product, username, password, email=email, house=house, by=context.viewer)
    await context.become(session)
    return {"customer": session.customer, "token": token, "expires_at": session.expires_at}


async def log_in_customer(context: Context, *, product_id: int, username: str, password: str) -> Answer:
    product, house = await scope.product_to_enter(product_id), context.house
    session, token = await signing_in.log_in(product, username, password, house=house, by=context.viewer)
    await context.become(session)
    return {"customer": session.customer, "token": token, "expires_at": session.expires_at}


async def verify_customer_email(context: Context, *, verification_token: str) -> None:
    await passwords.verify_email(verification_token, house=context.house, by=context.viewer)


async def request_customer_password_reset(context: Context, *, product_id: int, username: str) -> None:
    product = await scope.product_to_enter(product_id)
    await passwords.request_reset(product, username, house=context.house, by=context.viewer)


async def reset_customer_password(context: Context, *, reset_token: str, new: str) -> None:
    await passwords.reset_password(reset_token, new, house=context.house, by=context.viewer)


async def change_customer_password(context: Context, *, current: str, new: str) -> None:
    await passwords.change_password(current, new, house=context.house, by=context.viewer)


async def request_customer_email_verification(context: Context, *, product_id: int, username: str) -> None:
    product = await scope.product_to_enter(product_id)
    await passwords.request_verification(product, username, house=context.house, by=context.viewer)


async def create_customer(context: Context, *, product_id: int, username: str, **details: Any) -> Answer:
    product = await scope.product(context.viewer, product_id)
    return {"customer": await enrolling.create_customer(product, username, **details, by=context.viewer)}


async def end_consent(context: Context, *, customer_id: str, client_id: str) -> Answer:
    customer = await scope.customer(context.viewer, _number(customer_id), field="customerId")
    await consenting.take_back(customer, client_id, by=context.viewer)
    return {"customer": customer}


async def delete_customer(context: Context, *, id: str) -> None:
    customer = await scope.customer(context.viewer, number_of("Customer", id))
    await enrolling.delete_customer(customer, by=context.viewer)


async def import_customers(context: Context, *, product_id: int, usernames: list[str] | None = None, file: Any = None) -> Answer:
    product = await scope.product(context.viewer, product_id)
    if (usernames is None) == (file is None):
        raise InvalidInput("Give the names as `usernames` or as `file`, as exactly one of them.", path=("usernames",))
    if usernames is not None:
        done = await importing.import_usernames(product, usernames, by=context.viewer)
    else:
        done = await importing.import_file(product, chunks_of(file), by=context.viewer)
    return {"created": done.created, "rejected": done.rejected, "errors": _errors_if_none(done)}


async def reissue_activation_code(context: Context, *, customer_id: str) -> Answer:
    customer = await scope.customer(context.viewer, _number(customer_id), field="customerId")
    return {"activation_code": await activating.reissue_activation_code(customer, by=context.viewer), "customer": customer}


async def create_customer_token(context: Context, *, customer_id: str, scopes: list[str], expires_at: datetime | None = None) -> Answer:
    customer, settings = await scope.customer(context.viewer, _number(customer_id), field="customerId"), context.house.settings
    token, text = await tokens.create_customer_token(
        customer, scopes=scopes, expires_at=expires_at, settings=settings, by=context.viewer
    )  # fmt: skip
    return {"token": text, "expires_at": token.expires_at}


async def create_claim_code(context: Context, *, product_id: int, activation_code: str | None = None, **whose: str | None) -> Answer:
    customer = await _acting(context, await _known_product(context, product_id), **whose)
    settings = context.house.settings
    code, ends = await claim_codes.create_claim_code(customer, activation_code=activation_code, settings=settings, by=context.viewer)
    return {"claim_code": code, "expires_at": ends}


async def claim_device(context: Context, *, device_id: str, activation_code: str | None = None, **whose: str | None) -> Answer:
    product = None if context.viewer.customer else (await scope.device(context.viewer, device_id)).product
    customer = await _acting(context, product, **whose)
    house, by = context.house, context.viewer
    return {"device": await claiming.claim_device(device_id, customer, activation_code=activation_code, house=house, by=by)}


async def assign_device(context: Context, *, device_id: str, **whose: str | None) -> Answer:
    device = await scope.device(context.viewer, device_id)
    customer = await _acting(context, device.product, **whose)
    return {"device": await claiming.assign_device(device, customer, by=context.viewer)}


async def unclaim_device(context: Context, *, device_id: str, **readied: Any) -> Answer:
    device = await scope.device(context.viewer, device_id)
    device = await returning.unclaim_device(device, **readied, by=context.viewer)
    return {"device": device if context.viewer.customer is None else None}


async def _acting(context: Context, product: Product | None, customer_id: str | None = None, external_id: str | None = None) -> Customer:
    number = None if customer_id is None else _number(customer_id)
    return await scope.acting_customer(context.viewer, product, customer_id=number, external_id=external_id)


async def _known_product(context: Context, product_id: int) -> Product:
    """A customer knows their own product, though they cannot read it."""
    own = context.viewer.customer
    product = await (scope.product_to_enter(product_id) if own else scope.product(context.viewer, product_id))
    if own is not None and own.product_id != product.id:  # type: ignore[attr-defined]  # a Tortoise column
        raise NotFound(f"There is no product {product_id} for you.", path=("productId",))
    return product


def _number(customer_id: str) -> int:
    return number_of("Customer", customer_id, path=("customerId",))


def _errors_if_none(done: importing.Imported) -> list[CallerError]:
    return [] if done.created else list({each.code: each.refusal for each in done.rejected}.values())


# ── reading ──
async def customers(product: Product, context: Context, first: int | None, after: str | None, filter: object) -> Page[Customer]:
    _must_read(product, context)
    return await page(
        scope.customers(context.viewer, product, **given(filter)), Slice.of(first, after), list_name=f"customers:{product.id}"
    )


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
    product: Any = await product_of(customer, context)
    if context.viewer.customer is not None:
        context.viewer.must_hold("devices:read")
    elif product is not None:
        context.viewer.must("device.read", product.organization_id, product.id)
    found = scope.devices(context.viewer).filter(owner_id=customer.id)
    return await page(found, Slice.of(first, after), list_name=f"customer:{customer.id}", order=Order(("device_id",)))


def activation(customer: Customer, context: Context) -> ActivationState | None:
    return customer.activation_at(datetime.now(UTC))


async def activation_code(customer: Customer, context: Context) -> str | None:
    product: Any = await product_of(customer, context)
    return customer.activation_code if context.viewer.may("customer.write", product.organization_id, product.id) else None


async def consents(customer: Customer, context: Context) -> list[consenting.Consent]:
    product: Any = await product_of(customer, context)
    _must_read(product, context)
    return await context.loaders.consents.load(customer.id) if await _is_known(customer, context) else []


async def usage(customer: Customer, context: Context, since: datetime | None) -> summarizing.Usage:
    if not await _is_known(customer, context):
        return summarizing.Usage(customer.id)
    return await context.loaders.customer_usage.load((customer.id, since))


async def last_active_at(customer: Customer, context: Context) -> datetime | None:
    return await context.loaders.last_activity.load(customer.id) if await _is_known(customer, context) else None


async def _is_known(customer: Customer, context: Context) -> bool:
    """Whether what the customer does may be told: to somebody held inside groups only where all they own is in them."""
    walls = context.viewer.walls_in(customer.product_id)  # type: ignore[attr-defined]  # a Tortoise column
    return walls is None or await summarizing.is_all_inside(customer.id, walls.groups)


def _must_read(product: Product, context: Context) -> None:
    context.viewer.must("customer.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
