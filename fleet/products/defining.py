"""Products: defining one, its number for life, and what can be changed of it."""

import secrets
from datetime import UTC, datetime

from auth.spelling import require_text, slug_base
from auth.tokens import Kind, mint
from auth.viewer import Viewer
from billing.access import require_active
from errors import InvalidInput
from firmware_formats.platforms import Platform
from fleet.auditing import Json, differing, record
from fleet.firmware import approving
from fleet.house import House
from models.organization import Organization
from models.product import Product
from models.sql import is_sqlite, rows
from models.transaction import transaction

NUMBER_MIN = 1000  # what is lower can be a platform's id
NUMBER_MAX = 65534  # 16 bits of firmware; all of them set means "none"
DESCRIPTION_MAX = 2000  # characters
ONE_AT_A_TIME = 0x50726F64  # "Prod": the advisory lock of whoever gives out numbers and slugs


async def create_product(organization: Organization, name: str, *, platform: Platform, description: str = "", by: Viewer) -> Product:
    """Define a product; it gets the number that its firmware has compiled in, and that no other product ever had.

    Raises InvalidInput when all numbers are given out.
    Source: guide, "Defining a product" and "Your Product ID".
    """
    by.must("product.create", organization.id)
    require_active(organization)
    title, about = require_text(name, path=("name",)), _require_description(description)
    async with transaction():
        await _take_turns()
        product = await Product.create(
            number=await _next_number(),
            slug=await _free_slug(title),
            organization=organization,
            name=title,
            description=about,
            platform=Platform(platform),
            created_at=datetime.now(UTC),
        )
        await record(by, "product.created", subject(product), organization_id=organization.id, name=title, platform=platform)
    return product


async def update_product(
    product: Product,
    *,
    name: str | None = None,
    description: str | None = None,
    allow_generic_firmware: bool | None = None,
    auto_approve: bool | None = None,
    releases_need_approval: bool | None = None,
    locks_without_approval: int | None = None,
    house: House,
    by: Viewer,
) -> Product:
    """Change what is given; slug, number and platform stay. What is the same already is no change and leaves no trace.

    What needs a second person is taken back, or made less, by an owner alone, and every owner and admin is told. Raises Forbidden.
    """
    organization: Organization = product.organization
    by.must("product.update", organization.id, product.id)
    require_active(organization)
    wanted: dict[str, Json] = {
        "name": None if name is None else require_text(name, path=("name",)),
        "description": None if description is None else _require_description(description),
        "allow_generic_firmware": allow_generic_firmware,
        "auto_approve": auto_approve,
        "releases_need_approval": releases_need_approval,
        "locks_without_approval": locks_without_approval,
    }
    async with transaction():
        await lock(product)
        before, changes = differing(product, {key: value for key, value in wanted.items() if value is not None})
        await approving.demand(product, changes, house=house, by=by)
        if changes:
            product.update_from_dict(changes)
            await product.save(update_fields=list(changes))
            await record(by, "product.updated", subject(product), organization_id=organization.id, before=before, after=changes)
    return product


async def rotate_provisioning_key(product: Product, *, house: House, by: Viewer) -> str:
    """A new key with which the product's devices prove, at first contact, that they were made for it; shown once.

    The old one ends at once. The server must compute with it, so it is stored sealed and not as a hash.
    """
    organization: Organization = product.organization
    by.must("product.rotate_key", organization.id, product.id)
    require_active(organization)
    minted = mint(Kind.PROVISIONING_KEY)
    product.provisioning_key = house.sealer.seal(minted.text, context=provisioning_context(product))
    async with transaction():
        await product.save(update_fields=["provisioning_key"])
        action = "product.provisioning_key_rotated"
        await record(by, action, subject(product), organization_id=organization.id, prefix=minted.shown_prefix)
    return minted.text


def provisioning_context(product: Product) -> str:
    """Where the sealed provisioning key belongs: whoever opens it must name the same."""
    return f"product/{product.number}/provisioning"


def subject(product: Product) -> str:
    """How the audit names it."""
    return f"product:{product.number}"


async def lock(product: Product) -> None:
    """Hold the product's row and read it again: whoever changes it, its answers or its groups waits here.

    The key is not locked, so devices and customers can be added meanwhile.
    """
    held = await Product.filter(id=product.id).select_for_update(no_key=True).get()
    for column in Product._meta.db_fields:
        setattr(product, column, getattr(held, column))


def _require_description(text: str) -> str:
    return require_text(text, path=("description",), max_length=DESCRIPTION_MAX, min_length=0)


async def _take_turns() -> None:
    """Products are made rarely, so they are made one after the other, over all server processes; SQLite has one writer anyway."""
    if not is_sqlite():
        await rows("SELECT pg_advisory_xact_lock($1)", [ONE_AT_A_TIME])


async def _next_number() -> int:
    # Above every product there is, never in a gap: firmware in the field may still report the number of one that is gone.
    (highest,) = await rows("SELECT MAX(number) AS number FROM product")
    number = NUMBER_MIN if highest["number"] is None else highest["number"] + 1
    if number > NUMBER_MAX:
        raise InvalidInput(f"This server has given out every product id from {NUMBER_MIN} to {NUMBER_MAX}.")
    return int(number)


async def _free_slug(title: str) -> str:
    base = slug_base(title) or "product"
    slug = base
    while await Product.filter(slug=slug).exists():
        slug = f"{base}-{secrets.token_hex(2)}"
    return slug
