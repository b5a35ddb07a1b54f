"""Roles in one product: what a member may do in it, where that is not what they may do in the rest of the organization."""

from collections.abc import Mapping, Sequence

from auth.viewer import RANK, Viewer
from billing.access import require_active
from errors import Forbidden, InvalidInput, NotFound
from fleet.auditing import record
from fleet.scope import products
from fleet.team.founding import lock
from models.organization import Member, Organization, ProductRole, Role
from models.product import Product
from models.sql import execute
from models.transaction import transaction
from settings import IDS_MAX


async def set_role(product: Product, member: Member, role: Role, *, by: Viewer) -> Member:
    """Let the member's role in this product be another than in the organization, stronger or weaker; NONE hides the product from them.

    It counts at once, in running streams too; the same role again changes nothing.
    Raises NotFound for somebody of another organization, Forbidden for one's own role and for a role above one's own, InvalidInput
    where it would take from an owner or admin, who have every product.
    """
    organization = _must(product, member, by)
    async with transaction():
        await lock(organization)
        before = await _held(product, member, organization, by)
        require_power_over(role, organization, by)
        require_no_less(role, Role(member.role), path=("role",))
        if role != before:
            await execute(
                "INSERT INTO product_role (member_id, product_id, role) VALUES ($1, $2, $3)"
                " ON CONFLICT (member_id, product_id) DO UPDATE SET role = excluded.role",
                [member.id, product.id, role],
            )
            await _record(by, "product_role.set", product, member, before=before, after=role)
    return member


async def remove_role(product: Product, member: Member, *, by: Viewer) -> Member:
    """Let the member's role in the organization count in this product again; where they had no other, nothing changes.

    Raises NotFound, Forbidden as set_role does.
    """
    organization = _must(product, member, by)
    async with transaction():
        await lock(organization)
        before = await _held(product, member, organization, by)
        if before is not None:
            await ProductRole.filter(member_id=member.id, product_id=product.id).delete()
            await _record(by, "product_role.removed", product, member, before=before, after=None)
    return member


async def offered(viewer: Viewer, roles: Sequence[tuple[int, Role]], *, field: str) -> list[tuple[Product, Role]]:
    """The products of these productIds with the roles in them, organizations at hand; `field` is the input's list that names them.

    Raises InvalidInput for more than 250, NotFound for a product that is not there for the viewer.
    """
    if len(roles) > IDS_MAX:
        raise InvalidInput(f"Name at most {IDS_MAX} products in one call.", path=(field,))
    numbers = [number for number, _ in roles]
    found = {row.number: row for row in await products(viewer).filter(number__in=numbers)} if numbers else {}
    for place, number in enumerate(numbers):
        if number not in found:
            raise NotFound(f"There is no product {number} for you.", path=(field, str(place), "productId"))
    return [(found[number], role) for number, role in roles]


async def take_up(member: Member, offered: Mapping[int, Role]) -> None:
    """The roles in products, by the id of their rows, with which somebody was invited. Call it where the seat is taken."""
    await ProductRole.bulk_create([ProductRole(member=member, product_id=product, role=role) for product, role in offered.items()])


async def end_weaker(member: Member) -> None:
    """End what would take from the role the member has in the organization from now on, if that gives them every product."""
    if RANK[Role(member.role)] >= RANK[Role.ADMIN]:
        weaker = [role for role in Role if RANK[role] < RANK[Role(member.role)]]
        await ProductRole.filter(member_id=member.id, role__in=weaker).delete()


async def roles_of(member_ids: list[int]) -> dict[int, list[ProductRole]]:
    """The roles in products that each of these members has, the oldest product first; a member without any is left out."""
    found: dict[int, list[ProductRole]] = {}
    for row in await ProductRole.filter(member_id__in=member_ids).order_by("product_id"):
        found.setdefault(row.member_id, []).append(row)  # type: ignore[attr-defined]  # a Tortoise column
    return found


async def reread(member: Member) -> None:
    """Their role as it is now. Raises NotFound for who has left."""
    fresh = await Member.filter(id=member.id).first()
    if fresh is None:
        raise NotFound("This member has left already.", path=("memberId",))
    member.role = fresh.role


def require_power_over(role: Role, organization: Organization, by: Viewer, *, path: Sequence[str] = ("role",)) -> None:
    """Nobody gives, or takes, a role above their own. Raises Forbidden."""
    mine = by.role_in(organization.id)
    if mine is None or RANK[role] > RANK[mine]:
        raise Forbidden(f"Only an {role} can do this with an {role}.", reason=role, path=tuple(path))


def require_no_less(role: Role, of_team: Role, *, path: Sequence[str]) -> None:
    """An owner's or admin's role in the organization gives them every product. Raises InvalidInput for less."""
    if RANK[of_team] >= RANK[Role.ADMIN] and RANK[role] < RANK[of_team]:
        raise InvalidInput(f"An {of_team} has every product: give them a weaker role in the organization first.", path=tuple(path))


def _must(product: Product, member: Member, by: Viewer) -> Organization:
    organization: Organization = product.organization
    by.must("member.write", organization.id)
    require_active(organization)
    if member.organization.id != organization.id:
        raise NotFound("The product's team has nobody by this id.", path=("memberId",))
    if by.user is not None and by.user.id == member.user.id:
        raise Forbidden("Nobody gives a role to themselves.", reason="OWN_ROLE", path=("memberId",))
    return organization


async def _held(product: Product, member: Member, organization: Organization, by: Viewer) -> Role | None:
    """The role they have in the product now, if it is one of its own. Raises Forbidden for somebody above whoever asks."""
    await reread(member)
    row = await ProductRole.filter(member_id=member.id, product_id=product.id).first()
    held = Role(row.role) if row is not None else None
    for each in (Role(member.role), held):
        if each is not None:
            require_power_over(each, organization, by)
    return held


async def _record(by: Viewer, action: str, product: Product, member: Member, *, before: Role | None, after: Role | None) -> None:
    subject, detail = f"user:{member.user.email}", {"product": product.number, "before": before, "after": after}
    await record(by, action, subject, organization_id=product.organization.id, **detail)
