"""Counts of devices in groups, kept by triggers: at every level, and each device once however many groups below it stands in.

Whether a device that joins a group is new to the groups above depends on its other memberships. On PostgreSQL its row is held while
that is looked up, so that two who move the same device do it one after the other; on SQLite one writes at a time.
A group keeps its parent for life: the groups above it are written down once.
"""

# ruff: noqa: E501, RUF012 - Tortoise's form: plain lists on the class; SQL is cut where it reads best.
from tortoise import migrations

from migrations._steps import InSql

FILL = (
    """INSERT INTO group_above (group_id, above_id)
         WITH RECURSIVE above (group_id, above_id) AS (
           SELECT id, id FROM device_group
           UNION ALL
           SELECT above.group_id, device_group.parent_id FROM above JOIN device_group ON device_group.id = above.above_id
            WHERE device_group.parent_id IS NOT NULL)
         SELECT group_id, above_id FROM above""",
    """INSERT INTO group_tally (group_id, devices)
         SELECT id, (SELECT COUNT(DISTINCT membership.device_id)
                       FROM group_above AS inside JOIN group_membership AS membership ON membership.group_id = inside.group_id
                      WHERE inside.above_id = device_group.id)
           FROM device_group""",
)
BEGIN_ABOVE = """
          INSERT INTO group_above (group_id, above_id)
          SELECT NEW.id, NEW.id UNION ALL SELECT NEW.id, above_id FROM group_above WHERE group_id = NEW.parent_id;"""
EMPTY = "DELETE FROM group_membership WHERE group_id = OLD.id;"  # while the groups above it are still known

# ── PostgreSQL ──
# Lists as arrays: their plan is the same index whether one device moves or twenty thousand.
POSTGRES = (
    *FILL,
    f"CREATE FUNCTION begin_group() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {BEGIN_ABOVE} RETURN NULL; END $$",
    "CREATE TRIGGER group_begins AFTER INSERT ON device_group FOR EACH ROW EXECUTE FUNCTION begin_group()",
    f"CREATE FUNCTION empty_group() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {EMPTY} RETURN OLD; END $$",
    "CREATE TRIGGER group_ends BEFORE DELETE ON device_group FOR EACH ROW EXECUTE FUNCTION empty_group()",
    "CREATE FUNCTION refuse_parent() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'A group keeps its parent.' USING ERRCODE = 'check_violation'; END $$",
    """CREATE TRIGGER group_stays BEFORE UPDATE OF parent_id ON device_group FOR EACH ROW
         WHEN (OLD.parent_id IS DISTINCT FROM NEW.parent_id) EXECUTE FUNCTION refuse_parent()""",
    """CREATE FUNCTION tally_groups() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NOT EXISTS (SELECT 1 FROM changed) THEN RETURN NULL; END IF;
          PERFORM 1 FROM device WHERE device_id = ANY(ARRAY(SELECT device_id FROM changed)) ORDER BY device_id FOR NO KEY UPDATE;
          INSERT INTO group_tally (group_id, devices)
          SELECT above_id, COUNT(*) * CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END
            FROM (SELECT above.above_id
                    FROM (SELECT group_id, device_id, 1 AS changed, 0 AS there FROM changed
                          UNION ALL
                          SELECT group_id, device_id, 0, 1 FROM group_membership
                           WHERE device_id = ANY(ARRAY(SELECT device_id FROM changed))) AS way
                    JOIN group_above AS above ON above.group_id = way.group_id
                   GROUP BY above.above_id, way.device_id
                  HAVING SUM(changed) > 0 AND SUM(there) = CASE TG_OP WHEN 'INSERT' THEN SUM(changed) ELSE 0 END) AS turned
           GROUP BY above_id;
          RETURN NULL; END $$""",
    """CREATE TRIGGER group_joined AFTER INSERT ON group_membership REFERENCING NEW TABLE AS changed
         FOR EACH STATEMENT EXECUTE FUNCTION tally_groups()""",
    """CREATE TRIGGER group_left AFTER DELETE ON group_membership REFERENCING OLD TABLE AS changed
         FOR EACH STATEMENT EXECUTE FUNCTION tally_groups()""",
)
BACK_POSTGRES = (
    *(f"DROP TRIGGER {name} ON device_group" for name in ("group_begins", "group_ends", "group_stays")),
    *(f"DROP TRIGGER {name} ON group_membership" for name in ("group_joined", "group_left")),
    *(f"DROP FUNCTION {name}()" for name in ("begin_group", "empty_group", "refuse_parent", "tally_groups")),
    "DELETE FROM group_tally",
    "DELETE FROM group_above",
)


# ── SQLite ──
def _turn(row: str, number: int) -> str:
    """Add to every group that `row`, OLD or NEW, is the device's only way into."""
    return f"""
        UPDATE group_tally SET devices = devices + {number}
         WHERE group_id IN (SELECT above_id FROM group_above WHERE group_id = {row}.group_id)
           AND NOT EXISTS (SELECT 1 FROM group_membership AS other JOIN group_above AS above ON above.group_id = other.group_id
                            WHERE other.device_id = {row}.device_id AND other.id <> {row}.id AND above.above_id = group_tally.group_id);"""


SQLITE = (
    *FILL,
    f"""CREATE TRIGGER group_begins AFTER INSERT ON device_group BEGIN {BEGIN_ABOVE}
          INSERT INTO group_tally (group_id, devices) VALUES (NEW.id, 0); END""",
    f"CREATE TRIGGER group_ends BEFORE DELETE ON device_group BEGIN {EMPTY} END",
    """CREATE TRIGGER group_stays BEFORE UPDATE OF parent_id ON device_group WHEN OLD.parent_id IS NOT NEW.parent_id
         BEGIN SELECT RAISE(ABORT, 'A group keeps its parent.'); END""",
    f"CREATE TRIGGER group_joined AFTER INSERT ON group_membership BEGIN {_turn('NEW', 1)} END",
    f"CREATE TRIGGER group_left AFTER DELETE ON group_membership BEGIN {_turn('OLD', -1)} END",
)
BACK_SQLITE = (
    *(f"DROP TRIGGER {name}" for name in ("group_begins", "group_ends", "group_stays", "group_joined", "group_left")),
    "DELETE FROM group_tally",
    "DELETE FROM group_above",
)


class Migration(migrations.Migration):
    dependencies = [("models", "0002_counts_of_devices")]
    operations = [InSql(sqlite=SQLITE, postgres=POSTGRES, back_sqlite=BACK_SQLITE, back_postgres=BACK_POSTGRES)]
