"""Names may be longer."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0001_parents_and_children")]

    initial = False

    operations = [
        ops.AlterField(
            model_name="Parent",
            name="name",
            field=fields.CharField(unique=True, max_length=160),
        ),
    ]
