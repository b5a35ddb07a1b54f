"""Organizations, their teams and invitations, and the audit."""

import strawberry
from strawberry.scalars import JSON

import resolvers.billing
import resolvers.organization as doors
import resolvers.signing
from models import operations
from models import organization as rows
from models.billing import BillingPlan
from models.organization import InvitationState
from schema.account import ApiUser, User
from schema.billing import Billing
from schema.fields import (
    AFTER,
    FIRST,
    Connection,
    DateTime,
    Input,
    KeyedInput,
    Node,
    Payload,
    argument,
    asked,
    described,
    enumeration,
    id_of,
    mutation,
    optional,
    outcome,
    resolved_by,
    rows_of,
)
from schema.product import Product
from schema.role import Role
from schema.signing import SigningKey

enumeration(
    InvitationState,
    "How an invitation stands.",
    PENDING="Open: it can be accepted or declined.",
    ACCEPTED="The person took the seat.",
    DECLINED="The person said no.",
    REVOKED="The team took it back.",
    EXPIRED="Nobody answered in time.",
)


@strawberry.type(description="A role in one product, in place of the one in the organization.")
class ProductRole:
    product: Product = resolved_by(doors.product_of, "The product.")
    role: Role = described("What they may do in it, and with everything in it.")


@strawberry.type(description="A person in an organization; each is a seat.")
class Member(Node):
    is_type_of = rows_of(rows.Member)
    id: strawberry.ID = id_of("Member")
    user: User = resolved_by(doors.user_of, "The person.")
    role: Role = described("What they may do in the organization, and in every product where they have no role of its own.")
    product_roles: list[ProductRole] = resolved_by(
        doors.product_roles, "Products in which they have another role, as far as you see them; the oldest product first."
    )
    joined_at: DateTime = described("When they accepted.")


@strawberry.type(description="An invitation to a person who has an account.")
class Invitation(Node):
    is_type_of = rows_of(rows.Invitation)
    id: strawberry.ID = id_of("Invitation")
    email: str = described("Whom it was sent to.")
    role: Role = described("What they will be.")
    product_roles: list[ProductRole] = resolved_by(
        doors.offered_roles, "Products in which they will have another role, as far as you see them."
    )
    organization: "Organization" = resolved_by(doors.organization_of, "Who invites.")
    invited_by: User | None = resolved_by(doors.invited_by, "The member who sent it; null if their account is gone.")
    state: InvitationState = resolved_by(doors.invitation_state, "Whether it is still open.")
    created_at: DateTime = described("When it was sent.")
    expires_at: DateTime = described("Until when it can be accepted.")


@strawberry.type(description="One act of somebody, as it was recorded with the act itself.")
class AuditEntry(Node):
    is_type_of = rows_of(operations.AuditEntry)
    id: strawberry.ID = id_of("AuditEntry")
    at: DateTime = described("When.")
    actor: str = described('Who: "user:ann@example.com", "api-user:ci", or the part of the server that acted.')
    action: str = described('What: "firmware.released".')
    subject: str = described('On what: "device:55ff…", "product:1094".')
    detail: JSON = described("Before and after, ids of lists; never a secret.")
    address: str | None = described("From which network address; null for the server's own acts.")


@strawberry.input(description="Which acts to list; what is absent does not matter.")
class AuditFilter:
    action: str | None = optional("Exactly this action.")
    actor: str | None = optional("Exactly this actor.")
    subject: str | None = optional("Exactly this subject.")
    since: DateTime | None = optional("From then on, inclusive.")
    until: DateTime | None = optional("Before then, exclusive.")


@strawberry.type(description="The team's account; it owns products.")
class Organization(Node):
    is_type_of = rows_of(rows.Organization)
    id: strawberry.ID = id_of("Organization")
    slug: str = described("Its name in addresses; unique, never changes.")
    name: str = described("Its name.")
    created_at: DateTime = described("When it was founded.")
    members: list[Member] = resolved_by(doors.members, "The team, the longest-standing first.")
    invitations: list[Invitation] = resolved_by(doors.invitations, "All invitations ever sent, oldest first.")
    api_users: list[ApiUser] = resolved_by(doors.api_users, "Machine accounts, oldest first.")
    signing_keys: list[SigningKey] = resolved_by(
        resolvers.signing.signing_keys, "Whose signatures on firmware it trusts, oldest first; none: firmware needs no signature."
    )

    billing: Billing = resolved_by(resolvers.billing.billing, "How it pays. Needs ADMIN; open also while the team has no access.")
    products: Connection[Product] = asked(doors.products, "Its products, oldest first.", first=FIRST, after=AFTER)
    audit_log: Connection[AuditEntry] = asked(
        doors.audit_log,
        "Who did what, newest first. Needs ADMIN.",
        first=FIRST,
        after=AFTER,
        filter=argument(AuditFilter | None, "Which acts; absent: all."),
    )


# ── inputs and payloads ──
@strawberry.input(description="A new organization.")
class CreateOrganizationInput(KeyedInput):
    name: str = described("Its name; the slug is made of it.")
    plan: BillingPlan | None = optional("What is paid once the free trial is over; absent: TEAM_MONTHLY.")
    card_setup_id: strawberry.ID | None = optional("A finished card setup of yours; absent: give a card later, where the server allows it.")


@strawberry.type(description="The organization, with whoever asked as its owner.")
class CreateOrganizationPayload(Payload):
    organization: Organization | None = outcome("The organization.")


@strawberry.input(description="Another name.")
class UpdateOrganizationInput(Input):
    slug: str = described("Which organization.")
    name: str = described("Its new name; the slug stays.")


@strawberry.type(description="The organization as it is now.")
class UpdateOrganizationPayload(Payload):
    organization: Organization | None = outcome("The organization.")


@strawberry.input(description="A role in one product.")
class ProductRoleInput:
    product_id: int = described("Which product.")
    role: Role = described("What they will be in it.")


@strawberry.input(description="Whom to invite.")
class InviteMemberInput(Input):
    organization: str = described("The organization's slug.")
    email: str = described("Exactly the address of the person's account.")
    role: Role | None = optional("What they will be; absent: ADMIN, full access.")
    product_roles: list[ProductRoleInput] | None = optional(
        "Products in which they will have another role; with the role NONE they see these alone. At most 250."
    )


@strawberry.type(description="The invitation; it has been mailed.")
class InviteMemberPayload(Payload):
    invitation: Invitation | None = outcome("The invitation.")


@strawberry.input(description="An invitation to you.")
class AcceptInvitationInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="Your seat.")
class AcceptInvitationPayload(Payload):
    member: Member | None = outcome("Your seat.")


@strawberry.input(description="An invitation to you.")
class DeclineInvitationInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The invitation, declined.")
class DeclineInvitationPayload(Payload):
    invitation: Invitation | None = outcome("The invitation.")


@strawberry.input(description="An open invitation of your organization.")
class RevokeInvitationInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The invitation, taken back.")
class RevokeInvitationPayload(Payload):
    invitation: Invitation | None = outcome("The invitation.")


@strawberry.input(description="Another role for a member.")
class ChangeMemberRoleInput(Input):
    member_id: strawberry.ID = described("The member's global id.")
    role: Role = described("What they will be.")


@strawberry.type(description="The member as they are now.")
class ChangeMemberRolePayload(Payload):
    member: Member | None = outcome("The member.")


@strawberry.input(description="A member's role in one product.")
class SetProductRoleInput(Input):
    product_id: int = described("In which product.")
    member_id: strawberry.ID = described("The member's global id.")
    role: Role = described("What they will be in it, at most what you are; NONE hides the product from them.")


@strawberry.type(description="The member as they are now.")
class SetProductRolePayload(Payload):
    member: Member | None = outcome("The member.")


@strawberry.input(description="Whose role in one product ends.")
class RemoveProductRoleInput(Input):
    product_id: int = described("In which product.")
    member_id: strawberry.ID = described("The member's global id.")


@strawberry.type(description="The member as they are now.")
class RemoveProductRolePayload(Payload):
    member: Member | None = outcome("The member.")


@strawberry.input(description="Who leaves; your own seat, too.")
class RemoveMemberInput(Input):
    member_id: strawberry.ID = described("The member's global id.")


@strawberry.type(description="The organization without them.")
class RemoveMemberPayload(Payload):
    organization: Organization | None = outcome("The organization without them; null also when you left it yourself.")


@strawberry.type
class OrganizationMutations:
    create_organization: CreateOrganizationPayload = mutation(
        doors.create_organization, CreateOrganizationInput, CreateOrganizationPayload, "Found an organization and become its owner."
    )
    update_organization: UpdateOrganizationPayload = mutation(
        doors.update_organization, UpdateOrganizationInput, UpdateOrganizationPayload, "Rename an organization. Needs ADMIN."
    )
    invite_member: InviteMemberPayload = mutation(
        doors.invite_member, InviteMemberInput, InviteMemberPayload, "Invite a person by e-mail. Needs ADMIN."
    )
    accept_invitation: AcceptInvitationPayload = mutation(
        doors.accept_invitation, AcceptInvitationInput, AcceptInvitationPayload, "Accept an invitation to you."
    )
    decline_invitation: DeclineInvitationPayload = mutation(
        doors.decline_invitation, DeclineInvitationInput, DeclineInvitationPayload, "Decline an invitation to you."
    )
    revoke_invitation: RevokeInvitationPayload = mutation(
        doors.revoke_invitation, RevokeInvitationInput, RevokeInvitationPayload, "Take an open invitation back. Needs ADMIN."
    )
    change_member_role: ChangeMemberRolePayload = mutation(
        doors.change_member_role, ChangeMemberRoleInput, ChangeMemberRolePayload, "Give a member another role. Needs ADMIN."
    )
    set_product_role: SetProductRolePayload = mutation(
        doors.set_product_role,
        SetProductRoleInput,
        SetProductRolePayload,
        "Give another member a role of its own in one product, at once, in place of what they are in the organization. Needs ADMIN of the"
        " organization.",
    )
    remove_product_role: RemoveProductRolePayload = mutation(
        doors.remove_product_role,
        RemoveProductRoleInput,
        RemoveProductRolePayload,
        "Let a member's role in the organization count in a product again, at once. Needs ADMIN of the organization.",
    )
    remove_member: RemoveMemberPayload = mutation(
        doors.remove_member,
        RemoveMemberInput,
        RemoveMemberPayload,
        "Take a member out of the team, or leave it. Needs ADMIN, except to leave.",
    )
