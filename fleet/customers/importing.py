"""Importing customers: a list of user names becomes accounts, each with an activation code."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from auth.spelling import require_text
from auth.viewer import Viewer
from billing.access import require_active
from errors import AlreadyExists, InvalidInput
from fleet.auditing import record
from fleet.customers.accounts import NAME_MAX, address_in, name_key
from fleet.customers.activating import fresh_codes
from fleet.products.defining import lock, subject
from fleet.refusing import RejectedCustomer
from models.customer import Customer
from models.organization import Organization
from models.product import Product
from models.sql import rows
from models.transaction import transaction
from settings import IDS_MAX

FILE_MAX_LINES = 10_000
FILE_MAX_BYTES = 4 * NAME_MAX * FILE_MAX_LINES
SHOWN = 100  # characters of a line that is shown again


@dataclass(frozen=True, slots=True)
class Imported:
    """Customers in the order of their lines, their codes at hand, and the lines that made none."""

    created: Sequence[Customer]
    rejected: Sequence[RejectedCustomer]


async def import_usernames(product: Product, usernames: Sequence[str], *, by: Viewer) -> Imported:
    """Make a customer with an activation code of each name. Raises InvalidInput for more than 250: those come in a file."""
    _must_import(product, by)
    if not 1 <= len(usernames) <= IDS_MAX:
        raise InvalidInput(f"Give 1 to {IDS_MAX} user names in one call; more come in a file.", path=("usernames",))
    return await _import(product, usernames, by)


async def import_file(product: Product, chunks: AsyncIterator[bytes], *, by: Viewer) -> Imported:
    """The same for a text file with one name a line; blank lines, line endings and a BOM don't matter.

    Raises InvalidInput for what is not UTF-8, or has more than 10,000 lines.
    """
    _must_import(product, by)
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > FILE_MAX_BYTES:
            raise _too_long()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InvalidInput("The file is not UTF-8 text.", path=("file",)) from None
    if len(lines) > FILE_MAX_LINES:
        raise _too_long()
    return await _import(product, lines, by)


def _must_import(product: Product, by: Viewer) -> None:
    organization: Organization = product.organization
    by.must("customer.write", organization.id, product.id)
    require_active(organization)


async def _import(product: Product, lines: Sequence[str], by: Viewer) -> Imported:
    rejected: list[RejectedCustomer] = []
    ids: list[int] = []
    named, now = _named(lines, rejected), datetime.now(UTC)
    async with transaction():
        await lock(product)
        codes = await fresh_codes(product, len(named))
        for (line, name, key), code in zip(named, codes, strict=True):
            found = await rows(
                "INSERT INTO customer (product_id, username, username_key, email, activation_code, created_at)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING id",
                [product.id, name, key, address_in(name), code, now],
            )
            if found:
                ids.append(found[0]["id"])
            else:
                rejected.append(RejectedCustomer(line, name, AlreadyExists("The product has a customer of this name.")))
        created = await Customer.filter(id__in=ids).order_by("id")
        if created:
            organization: Organization = product.organization
            names = [customer.username for customer in created]
            await record(by, "customer.imported", subject(product), organization_id=organization.id, usernames=names)
    return Imported(created, sorted(rejected, key=lambda each: each.line))


def _named(lines: Sequence[str], rejected: list[RejectedCustomer]) -> list[tuple[int, str, str]]:
    """Line, name and key of each name that could be one; a name that an earlier line has is rejected."""
    named, seen = [], set()
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            name = require_text(text, path=("usernames",), max_length=NAME_MAX)
            key = name_key(name)
        except InvalidInput as refusal:
            rejected.append(RejectedCustomer(line, text.strip()[:SHOWN], refusal))
            continue
        if key in seen:
            rejected.append(RejectedCustomer(line, name, AlreadyExists("An earlier line has this name.")))
            continue
        seen.add(key)
        named.append((line, name, key))
    return named


def _too_long() -> InvalidInput:
    return InvalidInput(f"A file has at most {FILE_MAX_LINES} lines: divide it.", path=("file",))
