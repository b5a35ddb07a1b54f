"""A note on a parent, an index over some rows only, and the places where a test lets it crash."""

import os
import signal

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from migrations._steps import InSql


def crash_if_asked(apps, editor):
    """SAMPLE_CRASH is set by tests alone."""
    if os.environ.get("SAMPLE_CRASH") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("SAMPLE_CRASH") == "error":
        raise ZeroDivisionError("asked for")


async def orphan_if_asked(apps, editor):
    if os.environ.get("SAMPLE_CRASH") == "orphan":
        await editor.client.execute_query("DELETE FROM sample_parent WHERE id = 1")


class Migration(migrations.Migration):
    dependencies = [("models", "0002_longer_names")]

    initial = False

    operations = [
        ops.AddField(model_name="Parent", name="note", field=fields.CharField(null=True, max_length=40)),
        InSql(
            sqlite=['CREATE UNIQUE INDEX "one_note" ON "sample_parent" ("region") WHERE "note" = \'the; one\''],
            postgres=['CREATE UNIQUE INDEX "one_note" ON "sample_parent" ("region") WHERE "note" = \'the; one\''],
            back_sqlite=['DROP INDEX "one_note"'],
            back_postgres=['DROP INDEX "one_note"'],
        ),
        ops.RunPython(code=orphan_if_asked, reverse_code=ops.RunPython.noop),
        ops.RunPython(code=crash_if_asked, reverse_code=ops.RunPython.noop),
    ]
