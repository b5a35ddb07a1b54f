"""Customers: the end users of one product, what was mailed to them, and the codes they take devices with."""

from datetime import datetime, timedelta
from enum import StrEnum

from tortoise import fields
from tortoise.models import Model

WRONG_IN_A_ROW = 5  # tries at an activation code before a pause
WRONG_IN_ALL = 10  # and before nothing but a new code helps
ACTIVATION_PAUSE = timedelta(minutes=15)


class ActivationState(StrEnum):
    UNUSED = "UNUSED"
    USED = "USED"
    LOCKED = "LOCKED"


class Customer(Model):
    """An end user of one product; owns devices.

    The activation code stands here as it is: the team lists it, and with 4 characters no hash would hide it.
    """

    id = fields.IntField(primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False, on_delete=fields.RESTRICT)
    username = fields.CharField(254)
    username_key = fields.CharField(254)  # NFKC, casefold
    external_id = fields.CharField(254, null=True)  # the maker's own key for this person
    email = fields.CharField(254, null=True)  # where letters go
    email_verified_at = fields.DatetimeField(null=True)
    password_hash = fields.CharField(200, null=True)
    created_at = fields.DatetimeField()
    last_seen_at = fields.DatetimeField(null=True)  # the last use of a token that is deleted by now

    activation_code = fields.CharField(4, null=True)
    activation_used_at = fields.DatetimeField(null=True)
    activation_wrong_in_row = fields.IntField(default=0, db_default=0)
    activation_wrong_in_all = fields.IntField(default=0, db_default=0)
    activation_paused_until = fields.DatetimeField(null=True)

    class Meta:
        table = "customer"
        unique_together = (("product", "username_key"), ("product", "external_id"), ("product", "activation_code"))

    def activation_at(self, now: datetime) -> ActivationState | None:
        """None: they have no code."""
        if self.activation_code is None:
            return None
        if self.activation_used_at is not None:
            return ActivationState.USED
        paused = self.activation_paused_until is not None and now < self.activation_paused_until
        return ActivationState.LOCKED if paused or self.activation_wrong_in_all >= WRONG_IN_ALL else ActivationState.UNUSED


class MailedProof(Model):
    """A token in a letter to a customer: whoever shows it reads the mail of `email`. Of a purpose, and good once."""

    digest = fields.CharField(64, primary_key=True)
    customer = fields.ForeignKeyField("models.Customer", related_name=False, db_index=True)
    purpose = fields.CharField(8)  # password | email
    email = fields.CharField(254)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "mailed_proof"


class ClaimCode(Model):
    """What a device shows at its hello to become the customer's. Good once, and only until the end of its day."""

    digest = fields.CharField(64, primary_key=True)
    customer = fields.ForeignKeyField("models.Customer", related_name=False, db_index=True)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    spends_activation = fields.BooleanField(default=False)  # made in a private beta: its claim uses the activation code up
    spent_at = fields.DatetimeField(null=True)
    device_id = fields.CharField(24, null=True)  # on which it was spent

    class Meta:
        table = "claim_code"
