"""Parents and children."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="Parent",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("name", fields.CharField(unique=True, max_length=80)),
                ("region", fields.CharField(db_index=True, max_length=20)),
                ("mood", fields.CharField(default="CALM", max_length=16)),
                ("seen_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "sample_parent",
                "app": "models",
                "unique_together": (("region", "name"),),
                "indexes": [Index(fields=["region", "seen_at"])],
                "pk_attr": "id",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Child",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "parent",
                    fields.ForeignKeyField(
                        "models.Parent",
                        source_field="parent_id",
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("label", fields.CharField(max_length=40)),
                ("extra", fields.JSONField(null=True)),
            ],
            options={"table": "sample_child", "app": "models", "unique_together": (("parent", "label"),), "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
