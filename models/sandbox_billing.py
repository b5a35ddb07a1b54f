"""What the billing sandbox keeps: objects in the vendor's form, answers given under an idempotency key, webhook deliveries."""

from tortoise import fields
from tortoise.models import Model


class SandboxObject(Model):
    """One object as the wire shows it. Times are whole seconds since 1970, as on the wire."""

    number = fields.BigIntField(primary_key=True)  # in the order of making: lists go by it
    id = fields.CharField(80, unique=True)
    type = fields.CharField(40)
    customer = fields.CharField(80, null=True)
    clock = fields.CharField(80, null=True)  # the test clock it lives on; null = the clock on the wall
    created = fields.BigIntField()
    due_at = fields.BigIntField(null=True)  # when its next thing happens, on its clock; null = nothing will by itself
    body = fields.JSONField()
    hidden = fields.JSONField()  # what the wire does not show

    class Meta:
        table = "sandbox_object"
        indexes = (("type", "customer"), ("customer",), ("clock", "due_at"))


class SandboxReply(Model):
    """The answer given under an idempotency key, to be given again."""

    key = fields.CharField(255, primary_key=True)
    fingerprint = fields.CharField(64)  # SHA-256 of method, path and parameters: another request may not use the key
    status = fields.IntField()
    body = fields.JSONField()
    created = fields.BigIntField()

    class Meta:
        table = "sandbox_reply"
        indexes = (("created",),)


class SandboxDelivery(Model):
    """One event on its way to one webhook endpoint; kept until it was answered with 2xx or given up."""

    id = fields.BigIntField(primary_key=True)
    event = fields.CharField(80)
    endpoint = fields.CharField(80)
    attempts = fields.IntField(default=0)
    first_at = fields.BigIntField()
    due_at = fields.BigIntField(null=True)  # of the clock on the wall; null = over
    delivered_at = fields.BigIntField(null=True)
    status = fields.IntField(null=True)  # of the last answer; 0 = nobody answered

    class Meta:
        table = "sandbox_delivery"
        indexes = (("due_at", "id"), ("event",))
