"""Organizations, the people in them, and the invitations that bring people in."""

from datetime import datetime
from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class Role(StrEnum):
    """What a member may do, in the organization or in one product, strongest first; the actions of each stand in auth/viewer.py."""

    OWNER = "OWNER"
    ADMIN = "ADMIN"
    DEVELOPER = "DEVELOPER"
    SUPPORT = "SUPPORT"
    VIEWER = "VIEWER"
    NONE = "NONE"


class InvitationState(StrEnum):
    PENDING = "PENDING"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"


class BillingState(StrEnum):
    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAST_DUE = "PAST_DUE"
    INCOMPLETE = "INCOMPLETE"
    LOCKED = "LOCKED"
    INACTIVE = "INACTIVE"
    EXEMPT = "EXEMPT"


# Source: guide, "Failed Payments" and "Cancelling a subscription": devices and customers go on, the team waits outside.
WITHOUT_ACCESS = (BillingState.LOCKED, BillingState.INACTIVE, BillingState.INCOMPLETE)


class Organization(Model):
    """The team's account; it owns products and is what pays."""

    id = fields.IntField(primary_key=True)
    slug = fields.CharField(80, unique=True)
    name = fields.CharField(100)
    billing_state = fields.CharField(16, default=BillingState.EXEMPT)
    created_at = fields.DatetimeField()

    class Meta:
        table = "organization"


class Member(Model):
    """A person in an organization. A seat is one of these rows, whatever the role."""

    id = fields.IntField(primary_key=True)
    organization = fields.ForeignKeyField("models.Organization", related_name=False)
    user = fields.ForeignKeyField("models.User", related_name=False, db_index=True)
    role = fields.CharField(16)
    joined_at = fields.DatetimeField()

    class Meta:
        table = "member"
        unique_together = (("organization", "user"),)


class ProductRole(Model):
    """A member's role in one product, in place of the one they have in the organization; an owner's or admin's is a stronger one."""

    id = fields.IntField(primary_key=True)
    member = fields.ForeignKeyField("models.Member", related_name=False)
    product = fields.ForeignKeyField("models.Product", related_name=False, db_index=True)
    role = fields.CharField(16)

    class Meta:
        table = "product_role"
        unique_together = (("member", "product"),)


class Invitation(Model):
    id = fields.IntField(primary_key=True)
    organization = fields.ForeignKeyField("models.Organization", related_name=False, db_index=True)
    email = fields.CharField(254)
    email_key = fields.CharField(254, db_index=True)  # what equality means for addresses: NFKC, casefold
    role = fields.CharField(16)
    product_roles = fields.JSONField(default=dict)  # a product's row id as text -> the role in it
    invited_by = fields.ForeignKeyField("models.User", related_name=False, null=True, on_delete=fields.SET_NULL)
    state = fields.CharField(16, default=InvitationState.PENDING)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()

    class Meta:
        table = "invitation"

    def state_at(self, now: datetime) -> InvitationState:
        """PENDING turns into EXPIRED by the clock alone; the row follows when somebody next touches it."""
        if self.state == InvitationState.PENDING and self.expires_at <= now:
            return InvitationState.EXPIRED
        return InvitationState(self.state)


class SigningKey(Model):
    """The public half of a key whose signatures on firmware the organization trusts. No row: firmware needs no signature."""

    id = fields.IntField(primary_key=True)
    organization = fields.ForeignKeyField("models.Organization", related_name=False)
    name = fields.CharField(100)
    public_key = fields.CharField(43)  # Ed25519, base64url
    created_at = fields.DatetimeField()

    class Meta:
        table = "signing_key"
        unique_together = (("organization", "public_key"),)
