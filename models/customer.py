"""Customers: the end users of one product."""

from tortoise import fields
from tortoise.models import Model


class Customer(Model):
    """An end user of one product; owns devices."""

    id = fields.IntField(primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False, on_delete=fields.RESTRICT)
    username = fields.CharField(254)
    username_key = fields.CharField(254)  # NFKC, casefold
    external_id = fields.CharField(254, null=True)  # the maker's own key for this person
    password_hash = fields.CharField(200, null=True)
    created_at = fields.DatetimeField()

    class Meta:
        table = "customer"
        unique_together = (("product", "username_key"), ("product", "external_id"))
