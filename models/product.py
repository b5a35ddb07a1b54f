"""Products and the answers to their configuration questions."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class AuthMethod(StrEnum):
    """Who keeps the accounts of a product's customers, and how they log in: the answer to the question AUTH_METHOD."""

    SIMPLE = "SIMPLE"
    SELF_MANAGED = "SELF_MANAGED"
    TWO_LEGGED = "TWO_LEGGED"
    OAUTH = "OAUTH"


AUTH_METHOD = "auth_method"


class Product(Model):
    """A fleet with one platform. `number` is what the API calls productId and what firmware has compiled in."""

    id = fields.IntField(primary_key=True)
    number = fields.IntField(unique=True)  # 1000..65534: fits 16 bits, and no platform id can pass for it
    organization = fields.ForeignKeyField("models.Organization", related_name=False, db_index=True, on_delete=fields.RESTRICT)
    slug = fields.CharField(80, unique=True)
    name = fields.CharField(100)
    description = fields.TextField(default="")
    platform = fields.CharField(16)
    created_at = fields.DatetimeField()
    manufacturing_started_at = fields.DatetimeField(null=True)
    last_version = fields.IntField(default=0)  # the highest version ever uploaded, deleted ones included
    release_sequence = fields.IntField(default=0)  # grows with every release and withdrawal: compare-and-set
    provisioning_key = fields.TextField(null=True)  # sealed (auth/sealing.py); null until first rotated
    allow_generic_firmware = fields.BooleanField(default=False)
    releases_need_approval = fields.BooleanField(default=False)  # no version goes to the fleet before a second person has said so
    locks_without_approval = fields.IntField(default=10)  # while it is demanded: devices that may be locked to one version all the same
    auto_approve = fields.BooleanField(default=False)  # quarantined devices owned by nobody or by a member

    class Meta:
        table = "product"


class Answer(Model):
    id = fields.IntField(primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False)
    key = fields.CharField(40)
    answer = fields.TextField()
    answered_at = fields.DatetimeField()

    class Meta:
        table = "answer"
        unique_together = (("product", "key"),)
