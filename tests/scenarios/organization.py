"""Scenarios of organizations, their teams and invitations."""

from models.global_ids import global_id
from models.organization import Member
from tests.scenarios.scenario import Input, mutation, reading
from tests.scenarios.stage import ACME, FAN, GUEST, Stage


@mutation("createOrganization", by=GUEST)
async def create_organization(stage: Stage) -> Input:
    return {"name": "Another"}


@mutation("updateOrganization")
async def update_organization(stage: Stage) -> Input:
    return {"slug": ACME, "name": "Apex"}


@mutation("inviteMember")
async def invite_member(stage: Stage) -> Input:
    return {"organization": ACME, "email": "guest@example.com", "role": "SUPPORT"}


@mutation("acceptInvitation", by=GUEST)
@mutation("declineInvitation", by=GUEST)
@mutation("revokeInvitation")
async def answer_invitation(stage: Stage) -> Input:
    made = await stage.owner("inviteMember", "invitation { id }", organization=ACME, email="guest@example.com")
    return {"id": made["invitation"]["id"]}


async def _spare_member(stage: Stage) -> str:
    """Not one of the cast: nobody of them may lose their seat."""
    await stage.tester.member(stage.tokens["OWNER"], "spare", "VIEWER")
    return global_id("Member", (await Member.get(user__email="spare@example.com")).id)


@mutation("changeMemberRole")
async def change_member_role(stage: Stage) -> Input:
    return {"memberId": await _spare_member(stage), "role": "SUPPORT"}


@mutation("setProductRole")
async def set_product_role(stage: Stage) -> Input:
    return {"productId": FAN, "memberId": await _spare_member(stage), "role": "SUPPORT"}


@mutation("removeProductRole")
async def remove_product_role(stage: Stage) -> Input:
    given = {"productId": FAN, "memberId": await _spare_member(stage)}
    await stage.owner("setProductRole", "clientMutationId", **given, role="SUPPORT")
    return given


@mutation("removeMember")
async def remove_member(stage: Stage) -> Input:
    return {"memberId": await _spare_member(stage)}


@reading("organization", "query ($slug: String!) { found: organization(slug: $slug) { name members { role } } }")
async def organization(stage: Stage) -> Input:
    return {"slug": ACME}


@reading("nodes", "query ($ids: [ID!]!) { found: nodes(ids: $ids) { id } }")
async def nodes(stage: Stage) -> Input:
    seat = await Member.filter(organization__slug=ACME).first()
    return {"ids": [global_id("Member", seat.pk)] if seat else []}
