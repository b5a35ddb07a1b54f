"""How organizations pay: a mirror of the payment provider's side, and what was decided and told because of it."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class BillingPlan(StrEnum):
    TEAM_MONTHLY = "TEAM_MONTHLY"
    TEAM_ANNUAL = "TEAM_ANNUAL"


class BillingMode(StrEnum):
    STRIPE = "STRIPE"
    SANDBOX = "SANDBOX"
    OFF = "OFF"


class CardSetupFlow(StrEnum):
    HOSTED = "HOSTED"
    ELEMENTS = "ELEMENTS"


class BillingAccount(Model):
    """A customer at the payment provider: first a person's who is about to found an organization, then the organization's.

    The state that decides access stands on the organization; what stands here of the provider is shown, and never decides.
    """

    id = fields.IntField(primary_key=True)
    organization = fields.OneToOneField("models.Organization", related_name=False, null=True)
    user = fields.ForeignKeyField("models.User", related_name=False, null=True, db_index=True, on_delete=fields.SET_NULL)
    mode = fields.CharField(8)  # "stripe" | "sandbox": rows of one are never used in the other
    customer_id = fields.CharField(64, unique=True, null=True)
    plan = fields.CharField(16, default=BillingPlan.TEAM_MONTHLY)
    previous_state = fields.CharField(16, null=True)  # where INCOMPLETE goes back to
    trial_granted_at = fields.DatetimeField(null=True)  # once, for ever
    # ── the current subscription, as it was last fetched ──
    subscription_id = fields.CharField(64, null=True)
    item_id = fields.CharField(64, null=True)
    provider_status = fields.CharField(32, null=True)
    quantity = fields.IntField(default=0)
    trial_ends_at = fields.DatetimeField(null=True)
    current_period_end = fields.DatetimeField(null=True)
    cancel_at = fields.DatetimeField(null=True)
    access_until = fields.DatetimeField(null=True)  # forward on payment only
    failed_attempts = fields.IntField(default=0)
    next_payment_attempt = fields.DatetimeField(null=True)
    locked_subscription_id = fields.CharField(64, null=True)  # nothing told of it moves the state again
    # ── the card: never its number ──
    payment_method_id = fields.CharField(64, null=True)
    card_brand = fields.CharField(32, null=True)
    card_last4 = fields.CharField(4, null=True)
    card_exp_month = fields.IntField(null=True)
    card_exp_year = fields.IntField(null=True)
    # ── the outbox of seats: one job at a time ──
    seats_version = fields.IntField(default=0)  # raised with every change of the team
    seats_job_due_at = fields.DatetimeField(null=True)
    seats_sent_at = fields.DatetimeField(null=True)
    acts = fields.IntField(default=0)  # counts what people asked for, for idempotency keys
    last_idempotency_key = fields.CharField(80, null=True)  # of the last re-activation that was paid
    version = fields.BigIntField(default=0)  # raised with every change, for billingChanged

    class Meta:
        table = "billing_account"


class CardSetup(Model):
    """A card on its way to the provider. The client secret is handed out once and stored nowhere."""

    id = fields.IntField(primary_key=True)
    account = fields.ForeignKeyField("models.BillingAccount", related_name=False, db_index=True)
    flow = fields.CharField(8)
    setup_intent_id = fields.CharField(64, unique=True, null=True)
    checkout_session_id = fields.CharField(80, unique=True, null=True)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    completed_at = fields.DatetimeField(null=True)  # its card has been taken

    class Meta:
        table = "card_setup"


class Invoice(Model):
    """An invoice as it was last fetched, its lines included."""

    id = fields.IntField(primary_key=True)
    account = fields.ForeignKeyField("models.BillingAccount", related_name=False)
    invoice_id = fields.CharField(64, unique=True)
    subscription_id = fields.CharField(64, null=True)
    number = fields.CharField(64, null=True)
    total = fields.IntField()  # cents; negative: a credit
    amount_due = fields.IntField()
    currency = fields.CharField(3)
    status = fields.CharField(16)  # draft | open | paid | uncollectible | void
    attempts = fields.IntField(default=0)
    next_attempt_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField()
    pays_until = fields.DatetimeField(null=True)  # the latest end of a period among its lines
    hosted_url = fields.CharField(2000, null=True)
    lines = fields.JSONField()  # [{description, amount, quantity, proration}]

    class Meta:
        table = "invoice"
        indexes = (("account_id", "created_at", "id"),)


class BillingEvent(Model):
    """An event of the provider that has taken effect; the key is what makes it take effect once."""

    event_id = fields.CharField(255, primary_key=True)
    kind = fields.CharField(80)
    account = fields.ForeignKeyField("models.BillingAccount", related_name=False, null=True, db_index=True)
    handled = fields.BooleanField()  # False: it was none of ours
    created_at = fields.DatetimeField()  # the provider's clock
    received_at = fields.DatetimeField()

    class Meta:
        table = "billing_event"


class BillingNotice(Model):
    """Something the team was told; a second telling of the same is refused by the key."""

    id = fields.IntField(primary_key=True)
    account = fields.ForeignKeyField("models.BillingAccount", related_name=False, db_index=True)
    kind = fields.CharField(32)
    about = fields.CharField(80)  # the invoice or subscription
    attempt = fields.IntField(default=0)
    created_at = fields.DatetimeField()

    class Meta:
        table = "billing_notice"
        unique_together = (("kind", "about", "attempt"),)
