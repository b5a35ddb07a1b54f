"""The rows a viewer can reach: every read on somebody's behalf begins here, and a stranger's row is NotFound."""

import re
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from auth.viewer import Viewer
from errors import InvalidInput, NotFound
from models.account import ApiUser, Token, User
from models.customer import Customer
from models.device import Device, DeviceGroup
from models.firmware import Firmware
from models.operations import AuditEntry
from models.organization import Invitation, InvitationState, Member, Organization
from models.product import Product

Row = TypeVar("Row", bound=Model)
Found = TypeVar("Found")

_DEVICE_ID = re.compile(r"[0-9a-fA-F]{24}\Z")


async def organization(viewer: Viewer, slug: str) -> Organization:
    return await _one(organizations(viewer).filter(slug=slug), "There is no organization {} for you.", slug)


async def organization_by_id(viewer: Viewer, id: int) -> Organization:
    return await _one(organizations(viewer).filter(id=id), "There is no such organization for you.")


def organizations(viewer: Viewer) -> QuerySet[Organization]:
    return Organization.filter(id__in=_organization_ids(viewer))


async def organization_of(viewer: Viewer, user: User) -> Organization | None:
    """The user's organization, if the viewer belongs to it too; of several the oldest."""
    shared = Member.filter(user_id=user.id, organization_id__in=_organization_ids(viewer))
    seat = await shared.order_by("organization_id").select_related("organization").first()
    return seat.organization if seat else None


async def member(viewer: Viewer, id: int) -> Member:
    """A seat in one of the viewer's organizations, user and organization at hand."""
    query = Member.filter(id=id, organization_id__in=_organization_ids(viewer)).select_related("organization", "user")
    return await _one(query, "There is no such member for you.")


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


async def api_user(viewer: Viewer, id: int) -> ApiUser:
    query = ApiUser.filter(id=id, organization_id__in=_organization_ids(viewer)).select_related("organization")
    return await _one(query, "There is no such API user for you.")


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
    return await _one(products(viewer).filter(number=number), "There is no product {} for you.", str(number))


async def product_by_id(viewer: Viewer, id: int) -> Product:
    return await _one(products(viewer).filter(id=id), "There is no such product for you.")


async def product_by_slug(viewer: Viewer, slug: str) -> Product:
    return await _one(products(viewer).filter(slug=slug), "There is no product {} for you.", slug)


def products(viewer: Viewer) -> QuerySet[Product]:
    """The products of the viewer's organizations; for a machine bound to one, that one."""
    bound = viewer.bound_product_id
    reachable = Product.filter(id=bound) if bound else Product.filter(organization_id__in=_organization_ids(viewer))
    return reachable.select_related("organization")


async def device(viewer: Viewer, device_id: str) -> Device:
    """The device, with its product and organization at hand."""
    return await _one(devices(viewer).filter(device_id=device_key(device_id)), "There is no device {} for you.", device_id)


def devices(viewer: Viewer) -> QuerySet[Device]:
    """Devices of the viewer's products, and a person's own kits that are in no product."""
    mine = Q(product__organization_id__in=_organization_ids(viewer))
    if viewer.bound_product_id:
        mine = Q(product_id=viewer.bound_product_id)
    if viewer.user is not None:
        mine |= Q(product_id=None, user_owner_id=viewer.user.id)
    if viewer.customer is not None:
        mine = Q(owner_id=viewer.customer.id, state="ACTIVE")
    return Device.filter(mine).select_related("product__organization")


async def firmware(viewer: Viewer, product_number: int, version: int) -> Firmware:
    """The product's firmware of this version, product and organization at hand."""
    found = Firmware.filter(product__in=products(viewer), product__number=product_number, version=version)
    query = found.select_related("product__organization")
    return await _one(query, "The product has no firmware version {}.", str(version))


async def customer(viewer: Viewer, id: int) -> Customer:
    query = Customer.filter(id=id, product__in=products(viewer)).select_related("product__organization")
    return await _one(query, "There is no such customer for you.")


async def group(product: Product, path: str) -> DeviceGroup:
    """The group of an already reached product by its path, or by its name alone while only one group bears it."""
    found = await DeviceGroup.filter(product_id=product.id, path=path).first()
    if found is None and "/" not in path:
        bearing = await DeviceGroup.filter(product_id=product.id, name=path).limit(2)
        found = bearing[0] if len(bearing) == 1 else None
    if found is None:
        raise NotFound(f"The product has no group {path}; give its whole path.", path=("group",))
    return found


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


def _organization_ids(viewer: Viewer) -> list[int]:
    """Raises Unauthenticated for nobody: to them it is said that a token is missing, whether the thing exists or not."""
    viewer.must_be_somebody()
    return list(viewer.organization_ids)


async def _one(query: QuerySet[Row], sentence: str, named: str = "") -> Row:
    row = await query.first()
    if row is None:
        raise NotFound(sentence.format(named))
    return row
