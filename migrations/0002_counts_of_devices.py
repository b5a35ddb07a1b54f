"""Counts of devices, kept by triggers: every statement that adds, changes or removes a device or its presence adds its part.

On PostgreSQL each change appends a row, so that two transactions never wait for each other's counts; on SQLite, where one writes at a
time, it is added to the one row there is. What a presence row copies from its device is written while the device's row is locked,
always device first: so both agree at every commit, whoever comes first.
A later step that rebuilds `device` or `presence` on SQLite drops these triggers with the old table, and has to make them again.
"""

# ruff: noqa: E501, RUF012 - Tortoise's form: plain lists on the class; SQL is cut where it reads best.
from tortoise import migrations

from migrations._steps import InSql

KIND = "product_id, state, firmware_version, proven"

FILL = (
    """UPDATE presence SET product_id = device.product_id, state = device.state, firmware_version = device.firmware_version,
              proven = device.proven FROM device WHERE device.device_id = presence.device_id""",
    f"""INSERT INTO device_tally ({KIND}, devices, online)
        SELECT device.product_id, device.state, device.firmware_version, device.proven, COUNT(*), COUNT(CASE WHEN presence.online THEN 1 END)
          FROM device LEFT JOIN presence ON presence.device_id = device.device_id
         WHERE device.product_id IS NOT NULL GROUP BY 1, 2, 3, 4""",
)

# ── PostgreSQL ──
POSTGRES = (
    *FILL,
    f"""CREATE FUNCTION tally_devices() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO device_tally ({KIND}, devices, online)
          SELECT {KIND}, COUNT(*) * CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END, 0
            FROM changed WHERE product_id IS NOT NULL GROUP BY {KIND};
          RETURN NULL; END $$""",
    """CREATE TRIGGER tally_added AFTER INSERT ON device REFERENCING NEW TABLE AS changed
         FOR EACH STATEMENT EXECUTE FUNCTION tally_devices()""",
    """CREATE TRIGGER tally_removed AFTER DELETE ON device REFERENCING OLD TABLE AS changed
         FOR EACH STATEMENT EXECUTE FUNCTION tally_devices()""",
    f"""CREATE FUNCTION tally_device() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO device_tally ({KIND}, devices, online)
          SELECT * FROM (VALUES (OLD.product_id, OLD.state, OLD.firmware_version, OLD.proven, -1, 0),
                                (NEW.product_id, NEW.state, NEW.firmware_version, NEW.proven, 1, 0)) AS part ({KIND}, devices, online)
           WHERE part.product_id IS NOT NULL;
          UPDATE presence SET product_id = NEW.product_id, state = NEW.state, firmware_version = NEW.firmware_version, proven = NEW.proven
           WHERE device_id = NEW.device_id;
          RETURN NULL; END $$""",
    f"""CREATE TRIGGER tally_changed AFTER UPDATE OF {KIND} ON device FOR EACH ROW
         WHEN ((OLD.product_id, OLD.state, OLD.firmware_version, OLD.proven)
               IS DISTINCT FROM (NEW.product_id, NEW.state, NEW.firmware_version, NEW.proven))
         EXECUTE FUNCTION tally_device()""",
    f"""CREATE FUNCTION copy_device() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          SELECT {KIND} INTO NEW.product_id, NEW.state, NEW.firmware_version, NEW.proven
            FROM device WHERE device_id = NEW.device_id FOR SHARE;
          RETURN NEW; END $$""",
    "CREATE TRIGGER presence_copies BEFORE INSERT ON presence FOR EACH ROW EXECUTE FUNCTION copy_device()",
    f"""CREATE FUNCTION tally_presence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF TG_OP <> 'INSERT' AND OLD.online AND OLD.product_id IS NOT NULL THEN
            INSERT INTO device_tally ({KIND}, devices, online) VALUES (OLD.product_id, OLD.state, OLD.firmware_version, OLD.proven, 0, -1);
          END IF;
          IF TG_OP <> 'DELETE' AND NEW.online AND NEW.product_id IS NOT NULL THEN
            INSERT INTO device_tally ({KIND}, devices, online) VALUES (NEW.product_id, NEW.state, NEW.firmware_version, NEW.proven, 0, 1);
          END IF;
          RETURN NULL; END $$""",
    "CREATE TRIGGER tally_came AFTER INSERT ON presence FOR EACH ROW WHEN (NEW.online) EXECUTE FUNCTION tally_presence()",
    "CREATE TRIGGER tally_went AFTER DELETE ON presence FOR EACH ROW WHEN (OLD.online) EXECUTE FUNCTION tally_presence()",
    """CREATE TRIGGER tally_turned AFTER UPDATE ON presence FOR EACH ROW
         WHEN ((OLD.online OR NEW.online) AND (OLD.online, OLD.product_id, OLD.state, OLD.firmware_version, OLD.proven)
               IS DISTINCT FROM (NEW.online, NEW.product_id, NEW.state, NEW.firmware_version, NEW.proven))
         EXECUTE FUNCTION tally_presence()""",
)
BACK_POSTGRES = (
    *(f"DROP TRIGGER {name} ON device" for name in ("tally_added", "tally_removed", "tally_changed")),
    *(f"DROP TRIGGER {name} ON presence" for name in ("presence_copies", "tally_came", "tally_went", "tally_turned")),
    *(f"DROP FUNCTION {name}()" for name in ("tally_devices", "tally_device", "copy_device", "tally_presence")),
    "DELETE FROM device_tally",
)


# ── SQLite ──
def _add(row: str, column: str, number: int, when: str = "TRUE") -> str:
    """The statements of a trigger that add to the count of the kind that `row`, OLD or NEW, is of."""
    same = f"product_id = {row}.product_id AND state = {row}.state AND firmware_version IS {row}.firmware_version AND proven = {row}.proven"
    return f"""
        INSERT INTO device_tally ({KIND}, devices, online)
          SELECT {row}.product_id, {row}.state, {row}.firmware_version, {row}.proven, 0, 0
           WHERE {row}.product_id IS NOT NULL AND {when} AND NOT EXISTS (SELECT 1 FROM device_tally WHERE {same});
        UPDATE device_tally SET {column} = {column} + {number} WHERE {same} AND {when};"""


COPY = f"""
        UPDATE presence SET ({KIND}) = (SELECT {KIND} FROM device WHERE device_id = NEW.device_id) WHERE device_id = NEW.device_id;"""
SQLITE = (
    *FILL,
    f"CREATE TRIGGER tally_added AFTER INSERT ON device BEGIN {_add('NEW', 'devices', 1)} END",
    f"CREATE TRIGGER tally_removed AFTER DELETE ON device BEGIN {_add('OLD', 'devices', -1)} END",
    f"""CREATE TRIGGER tally_changed AFTER UPDATE OF {KIND} ON device
         WHEN (OLD.product_id, OLD.state, OLD.firmware_version, OLD.proven) IS NOT (NEW.product_id, NEW.state, NEW.firmware_version, NEW.proven)
         BEGIN {_add("OLD", "devices", -1)} {_add("NEW", "devices", 1)} {COPY} END""",
    f"CREATE TRIGGER presence_copies AFTER INSERT ON presence BEGIN {COPY} END",
    f"CREATE TRIGGER tally_went AFTER DELETE ON presence WHEN OLD.online BEGIN {_add('OLD', 'online', -1)} END",
    f"""CREATE TRIGGER tally_turned AFTER UPDATE OF online, {KIND} ON presence
         WHEN (OLD.online, OLD.product_id, OLD.state, OLD.firmware_version, OLD.proven)
              IS NOT (NEW.online, NEW.product_id, NEW.state, NEW.firmware_version, NEW.proven)
         BEGIN {_add("OLD", "online", -1, "OLD.online")} {_add("NEW", "online", 1, "NEW.online")} END""",
)
BACK_SQLITE = (
    *(
        f"DROP TRIGGER {name}"
        for name in ("tally_added", "tally_removed", "tally_changed", "presence_copies", "tally_went", "tally_turned")
    ),
    "DELETE FROM device_tally",
)


class Migration(migrations.Migration):
    dependencies = [("models", "0001_every_table_of_the_first_version")]
    operations = [InSql(sqlite=SQLITE, postgres=POSTGRES, back_sqlite=BACK_SQLITE, back_postgres=BACK_POSTGRES)]
