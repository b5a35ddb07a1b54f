"""A parent, its children and what hangs on them: everything a migration can lose."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class Mood(StrEnum):
    CALM = "CALM"


class Parent(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(160, unique=True)
    region = fields.CharField(20, db_index=True)
    mood = fields.CharField(16, default=Mood.CALM)
    seen_at = fields.DatetimeField(null=True)
    note = fields.CharField(40, null=True)

    class Meta:
        table = "sample_parent"
        unique_together = (("region", "name"),)
        indexes = (("region", "seen_at"),)


class Child(Model):
    id = fields.IntField(primary_key=True)
    parent = fields.ForeignKeyField("models.Parent", related_name=False, on_delete=fields.CASCADE, db_index=True)
    label = fields.CharField(40)
    extra = fields.JSONField(null=True)

    class Meta:
        table = "sample_child"
        unique_together = (("parent", "label"),)
