"""The rows a viewer can reach: every read on somebody's behalf begins here, and a stranger's row is NotFound."""

import re
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from tortoise.expressions import Q, Subquery
from tortoise.models import Model
from tortoise.queryset import QuerySet

from auth.spelling import same_name_key
from auth.viewer import Viewer
from errors import Forbidden, InvalidInput, NotFound
from fleet.refusing import Rejected, require_some
from fleet.seeing import devices_seen, products_seen, products_seen_in_sql, sight
from models.account import ApiUser, Token, User
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupGrant
from models.firmware import Firmware, Update
from models.importing import Import
from models.oauth import OAuthClient
from models.operations import AuditEntry
from models.organization import Invitation, InvitationState, Member, Organization, SigningKey
from models.product import Product
from models.rollout import Rollout
from models.sql import tuples
from models.whole_rows import at_hand, join_wanted

Row = TypeVar("Row", bound=Model)
Found = TypeVar("Found")

_DEVICE_ID = re.compile(r"[0-9a-fA-F]{24}\Z")


async def organization(viewer: Viewer, slug: str) -> Organization:
    return await _one(organizations(viewer).filter(slug=slug), "There is no organization {} for you.", slug)


async def organization_by_id(viewer: Viewer, id: int) -> Organization:
    return await _one(organizations(viewer).filter(id=id), "There is no such organization for you.")


def organizations(viewer: Viewer) -> QuerySet[Organization]:
    return Organization.filter(id__in=_known_organization_ids(viewer))


async def organization_of(viewer: Viewer, user: User) -> Organization | None:
    """The user's organization, if the viewer belongs to it too; of several the oldest."""
    shared = Member.filter(user_id=user.id, organization_id__in=_known_organization_ids(viewer))
    seat = await shared.order_by("organization_id").select_related("organization").first()
    return seat.organization if seat else None


async def member(viewer: Viewer, id: int, *, field: str | None = None) -> Member:
    """A seat in one of the viewer's organizations, or their own; user and organization at hand. `field` is the input's name for it."""
    of_team, own = Q(organization_id__in=_organization_ids(viewer)), Q(id__in=[seat.id for seat in viewer.members.values()])
    query = Member.filter(of_team | own, id=id).select_related("organization", "user")
    return await _one(query, "There is no such member for you.", path=(field,) if field else ())


async def invitation(viewer: Viewer, id: int) -> Invitation:
    """An invitation of one of the viewer's organizations."""
    query = Invitation.filter(id=id, organization_id__in=_organization_ids(viewer)).select_related("organization")
    return await _one(query, "There is no such invitation for you.")


async def own_invitation(viewer: Viewer, id: int) -> Invitation:
    """An invitation addressed to the viewer's own e-mail address."""
    user = viewer.must_be_user("members:write")
    query = Invitation.filter(id=id, email_key=user.email_key).select_related("organization")
    return await _one(query, "There is no such invitation for you.")


async def own_invitations(viewer: Viewer) -> list[Invitation]:
    """What the viewer may still accept or decline, oldest first; none for machines and customers."""
    if viewer.user is None:
        return []
    user, now = viewer.must_be_user("account:read"), datetime.now(UTC)
    return await Invitation.filter(email_key=user.email_key, state=InvitationState.PENDING, expires_at__gt=now).order_by("id")


async def own_tokens(viewer: Viewer) -> list[Token]:
    """The viewer's living tokens, log-in sessions among them, oldest first."""
    user = viewer.must_be_user("account:read")
    living = Q(expires_at=None) | Q(expires_at__gt=datetime.now(UTC))
    return await Token.filter(living, user_id=user.id, revoked_at=None).order_by("id")


async def api_user(viewer: Viewer, id: int, *, field: str | None = None) -> ApiUser:
    query = api_users(viewer).filter(id=id).select_related("organization")
    return await _one(query, "There is no such API user for you.", path=(field,) if field else ())


def api_users(viewer: Viewer) -> QuerySet[ApiUser]:
    """Those of the viewer's organizations, but for one that is bound to a product which is not there for the viewer."""
    there = Q(product_id=None) | products_seen(viewer, organization="organization_id")
    return ApiUser.filter(there, organization_id__in=_organization_ids(viewer))


async def signing_key(viewer: Viewer, id: int) -> SigningKey:
    query = SigningKey.filter(id=id, organization_id__in=_organization_ids(viewer)).select_related("organization")
    return await _one(query, "There is no such signing key for you.")


async def oauth_client(viewer: Viewer, client_id: str) -> OAuthClient:
    """An app of one of the viewer's products, product and organization at hand."""
    query = OAuthClient.filter(_in_products(viewer), client_id=client_id).select_related("product__organization", "api_user")
    return await _one(query, "There is no such OAuth client for you.", path=("clientId",))


async def user(viewer: Viewer, id: int) -> User:
    """The viewer's own account, or that of somebody in one of their organizations."""
    if viewer.user is not None and viewer.user.id == id:
        return viewer.must_be_user("account:read")
    query = Member.filter(user_id=id, organization_id__in=_organization_ids(viewer)).select_related("user", "organization")
    seat = await _one(query, "There is no such person for you.")
    viewer.must("organization.read", seat.organization.id)
    account: User = seat.user
    return account


async def own_token(viewer: Viewer, id: int) -> Token:
    user = viewer.must_be_user("account:read")
    return await _one(Token.filter(id=id, user_id=user.id, revoked_at=None), "You have no such token.")


async def audit_entry(viewer: Viewer, id: int) -> AuditEntry:
    """An act in one of the viewer's organizations."""
    query = AuditEntry.filter(id=id, organization_id__in=_organization_ids(viewer))
    return await _one(query, "There is no such entry for you.")


def audit_entries(
    organization: Organization,
    *,
    action: str | None = None,
    actor: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[AuditEntry]:
    """An already reached organization's acts; since is inclusive, until exclusive."""
    asked = {"action": action, "actor": actor, "subject": subject, "at__gte": since, "at__lt": until}
    return AuditEntry.filter(organization_id=organization.id, **{name: value for name, value in asked.items() if value is not None})


async def product(viewer: Viewer, number: int) -> Product:
    """The product with this productId, its organization at hand."""
    return await _product(viewer, "number", number, f"There is no product {number} for you.")


async def product_of_customer(customer: Customer, number: int) -> Product:
    """The product a customer is one of, if that is its productId; its organization at hand."""
    query = Product.filter(id=customer.product_id, number=number).select_related("organization")  # type: ignore[attr-defined]  # a column
    return await _one(query, "There is no product {} for you.", str(number))


async def product_by_slug(viewer: Viewer, slug: str) -> Product:
    return await _product(viewer, "slug", slug, f"There is no product {slug} for you.")


async def product_by_id(viewer: Viewer, id: int) -> Product:
    return await _product(viewer, "id", id, "There is no such product for you.")


async def _product(viewer: Viewer, column: str, value: int | str, sentence: str) -> Product:
    """One of products(viewer), by a statement of our own: half of all requests begin here.

    A customer knows their own product, and is told that it is not theirs to manage. Raises Forbidden for that.
    """
    if viewer.customer is not None and await Product.filter(id=viewer.customer.product_id, **{column: value}).exists():  # type: ignore[attr-defined]
        raise Forbidden("Only the product's team can do this.")
    seen, values = products_seen_in_sql(viewer, first=2)
    both = join_wanted(product=Product, organization=Organization)
    found = await tuples(
        f"SELECT {both.selected} FROM product JOIN organization ON organization.id = product.organization_id"
        f" WHERE product.{column} = $1 AND {seen}",
        [value, *values],
    )
    if not found:
        raise NotFound(sentence)
    row, organization = both.rows(found[0])
    reached: Product = at_hand(row, organization=organization)
    return reached


async def product_to_enter(number: int) -> Product:
    """The product, for somebody who wants to become or prove to be its customer: its number is in every device, and no secret."""
    query = Product.filter(number=number).select_related("organization")
    return await _one(query, "There is no product {}.", str(number), path=("productId",))


def products(viewer: Viewer) -> QuerySet[Product]:
    """The products of the viewer's organizations as far as they are there for them; for a machine bound to one, that one."""
    return Product.filter(products_seen(viewer, organization="organization_id", product="id")).select_related("organization")


async def device(viewer: Viewer, device_id: str) -> Device:
    """The device, with its product and organization at hand."""
    return await _one(devices(viewer).filter(device_id=device_key(device_id)), "There is no device {} for you.", device_id)


async def devices_by_id(viewer: Viewer, device_ids: Sequence[str]) -> tuple[list[Device], list[Rejected]]:
    """Each device once, in the order given, with product and organization at hand; those the viewer cannot reach are rejected.

    Raises InvalidInput for no ids, or more than 250.
    """
    require_some(device_ids)
    wanted = list(dict.fromkeys(map(device_key, device_ids)))
    found = {device.device_id: device for device in await devices(viewer).filter(device_id__in=wanted)}
    missing = [Rejected(each, NotFound("There is no such device for you.")) for each in wanted if each not in found]
    return [found[each] for each in wanted if each in found], missing


def devices(viewer: Viewer) -> QuerySet[Device]:
    """What fleet.seeing shows the viewer, and a person's own kits that are in no product, or kept out of one."""
    mine = devices_seen(viewer)
    if viewer.user is not None:
        mine |= Q(user_owner_id=viewer.user.id) & (Q(product_id=None) | ~Q(state="ACTIVE"))
    return Device.filter(mine).select_related("product__organization")


def own_devices(viewer: Viewer) -> QuerySet[Device]:
    """What is the viewer's: a customer's devices, a person's own kits; for a machine, all it can reach."""
    return devices(viewer) if viewer.user is None else devices(viewer).filter(user_owner_id=viewer.user.id)


async def firmware(viewer: Viewer, product_number: int, version: int) -> Firmware:
    """The product's firmware of this version, product and organization at hand."""
    found = Firmware.filter(_in_products(viewer), product__number=product_number, version=version).select_related("product__organization")
    return await _one(found, "The product has no firmware version {}.", str(version))


async def firmware_by_id(viewer: Viewer, id: int) -> Firmware:
    query = Firmware.filter(_in_products(viewer), id=id).select_related("product__organization")
    return await _one(query, "There is no such firmware for you.")


async def update(viewer: Viewer, id: int) -> Update:
    """A try to bring a device to a version, its firmware, product and organization at hand."""
    missing = "There is no such update for you."
    query = Update.filter(_in_products(viewer, "firmware__product"), id=id).select_related("firmware__product__organization")
    row = await _one(query, missing)
    if viewer.walls_in(row.firmware.product.id) is not None:
        await _one(devices(viewer).filter(device_id=row.device_id), missing)  # type: ignore[attr-defined]  # a Tortoise column
    return row


async def rollout(viewer: Viewer, id: int, *, field: str = "id") -> Rollout:
    """A rollout of one of the viewer's products, product and organization at hand. `field` is the input's name for it."""
    query = Rollout.filter(_in_products(viewer), id=id).select_related("product__organization")
    return await _one(query, "There is no such rollout for you.", path=(field,))


async def readable_rollout(viewer: Viewer, id: int, *, field: str = "id") -> Rollout:
    """The same, for whoever may read rollouts. Raises Forbidden for the others."""
    row = await rollout(viewer, id, field=field)
    product: Product = row.product
    viewer.must("rollout.read", product.organization.id, product.id)
    return row


async def customer(viewer: Viewer, id: int, *, field: str = "id") -> Customer:
    """A customer of one of the viewer's products, product and organization at hand. `field` is the input's name for it."""
    missing = "There is no such customer for you."
    query = Customer.filter(_in_products(viewer), id=id).select_related("product__organization")
    row = await _one(query, missing, path=(field,))
    return await _one(customers(viewer, row.product).filter(id=id).select_related("product__organization"), missing, path=(field,))


async def acting_customer(
    viewer: Viewer, product: Product | None = None, *, customer_id: int | None = None, external_id: str | None = None
) -> Customer:
    """The customer an act is for, product and organization at hand: the viewer, where it is one and names nobody.

    The team names one by id, or by the external id within `product`. Raises InvalidInput unless it names exactly one.
    """
    if viewer.customer is not None and customer_id is None and external_id is None:
        own = Customer.filter(id=viewer.customer.id).select_related("product__organization")
        return await _one(own, "You are no customer any more.")
    if (customer_id is None) == (external_id is None):
        raise InvalidInput("Name the customer by customerId or by externalId, by exactly one of them.", path=("customerId",))
    if customer_id is not None:
        return await customer(viewer, customer_id, field="customerId")
    missing, path = "The product has no customer {} for you.", ("externalId",)
    query = Customer.filter(_in_products(viewer), external_id=external_id, product_id=product.id if product else None)
    row = await _one(query.select_related("product"), missing, external_id or "", path=path)
    seen = customers(viewer, row.product).filter(id=row.id).select_related("product__organization")
    return await _one(seen, missing, external_id or "", path=path)


def customers(
    viewer: Viewer, product: Product, *, search: str | None = None, has_device: bool | None = None, external_id: str | None = None
) -> QuerySet[Customer]:
    """An already reached product's customers; to somebody held inside groups those who own, or were granted, something in them.

    `search` is found anywhere in user name or external id, in any case, taken literally.
    """
    found = Customer.filter(product_id=product.id)
    owners = Subquery(devices(viewer).filter(product_id=product.id, owner_id__not_isnull=True).values("owner_id"))
    if walls := viewer.walls_in(product.id):
        let_in = GroupGrant.filter(group_id__in=list(walls.groups), customer_id__not_isnull=True).values("customer_id")
        found = found.filter(Q(id__in=owners) | Q(id__in=Subquery(let_in)))
    if search:
        found = found.filter(Q(username_key__contains=same_name_key(search)) | Q(external_id__icontains=search))
    if external_id is not None:
        found = found.filter(external_id=external_id)
    if has_device is not None:
        found = found.filter(id__in=owners) if has_device else found.filter(id__not_in=owners)
    return found


async def group_by_id(viewer: Viewer, id: int, *, field: str = "id") -> DeviceGroup:
    """A group of one of the viewer's products, product and organization at hand. `field` is the input's name for it."""
    missing = "There is no such group for you."
    query = DeviceGroup.filter(_in_products(viewer), id=id).select_related("product__organization")
    row = await _one(query, missing, path=(field,))
    return await _one(groups(viewer, row.product).filter(id=id).select_related("product__organization"), missing, path=(field,))


async def group(viewer: Viewer, product: Product, path: str, *, field: str = "group") -> DeviceGroup:
    """The group of an already reached product by its path, or by its name alone while only one group bears it.

    `field` is the input's name for it.
    """
    found = await groups(viewer, product).filter(path=path).first()
    if found is None and "/" not in path:
        bearing = await groups(viewer, product).filter(name=path).limit(2)
        found = bearing[0] if len(bearing) == 1 else None
    if found is None:
        raise NotFound(f"The product has no group {path[:80]!r}; give its whole path.", path=(field,))
    return found


def groups(viewer: Viewer, product: Product) -> QuerySet[DeviceGroup]:
    """An already reached product's groups, of which somebody who was granted some sees those and all below them."""
    found = DeviceGroup.filter(product_id=product.id)
    inside = sight(viewer, product.id).groups
    return found if inside is None else found.filter(id__in=list(inside))


async def device_import(viewer: Viewer, id: int) -> Import:
    """An import into one of the viewer's products, product and organization at hand."""
    missing = "There is no such import for you."
    query = Import.filter(_in_products(viewer), id=id).select_related("product__organization")
    row = await _one(query, missing)
    return await _one(imports(viewer, row.product).filter(id=id).select_related("product__organization"), missing)


async def readable_import(viewer: Viewer, id: int) -> Import:
    """The same, for whoever may read devices. Raises Forbidden for the others."""
    row = await device_import(viewer, id)
    product: Product = row.product
    viewer.must("device.read", product.organization.id, product.id)
    return row


def imports(viewer: Viewer, product: Product) -> QuerySet[Import]:
    """An already reached product's imports, which are the whole product's: none to whoever is held inside groups."""
    found = Import.filter(product_id=product.id)
    return found if viewer.walls_in(product.id) is None else found.filter(id=None)


async def or_null(found: Awaitable[Found]) -> Found | None:
    """The row, or None where it does not exist or may not be seen: the two look alike."""
    try:
        return await found
    except NotFound:
        return None


def device_key(device_id: str) -> str:
    """The id in lower case. Raises InvalidInput for anything but 24 hexadecimal digits."""
    if not _DEVICE_ID.match(device_id):
        raise InvalidInput("A device id is 24 hexadecimal digits.", path=("deviceId",))
    return device_id.lower()


def _in_products(viewer: Viewer, product: str = "product") -> Q:
    """The rows of products(viewer), for tables that have a product, or reach one by this path."""
    return products_seen(viewer, organization=f"{product}__organization_id", product=f"{product}_id")


def _organization_ids(viewer: Viewer) -> list[int]:
    """Raises Unauthenticated for nobody: to them it is said that a token is missing, whether the thing exists or not."""
    viewer.must_be_somebody()
    return list(viewer.organization_ids)


def _known_organization_ids(viewer: Viewer) -> list[int]:
    """Also those of which they know the name and no more: a person with the role NONE. Raises Unauthenticated for nobody."""
    return [*_organization_ids(viewer), *viewer.members]


async def _one(query: QuerySet[Row], sentence: str, named: str = "", *, path: tuple[str, ...] = ()) -> Row:
    row = await query.first()
    if row is None:
        raise NotFound(sentence.format(named), path=path)
    return row
