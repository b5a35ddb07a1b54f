"""The devices that a rollout has under way, few among all it has touched: asked for before every offer.

An index of the rollout and the state would do for a planner that knows how rare these states are; SQLite's does not, and reads them all.
"""

# ruff: noqa: RUF012 - Tortoise's form: plain lists on the class.
from tortoise import migrations

from migrations._steps import InSql

INDEX = ("CREATE INDEX rollout_device_under_way ON rollout_device (rollout_id) WHERE state IN ('OFFERED', 'WATCHED')",)
BACK = ("DROP INDEX rollout_device_under_way",)


class Migration(migrations.Migration):
    dependencies = [("models", "0003_counts_of_groups")]

    operations = [InSql(sqlite=INDEX, postgres=INDEX, back_sqlite=BACK, back_postgres=BACK)]
