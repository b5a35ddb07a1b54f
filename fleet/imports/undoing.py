"""Taking an import back: what it created goes, what it moved returns to where it was."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from auth.viewer import Viewer
from billing.access import require_active
from errors import InvalidInput
from fleet import jobs
from fleet.auditing import record
from fleet.house import House
from fleet.imports.importing import ANNOUNCED_LINES, AT_ONCE_GRACE, run_import
from fleet.imports.pieces import Former, unpack
from fleet.imports.verdicts import KEY, RESTORED
from fleet.telling import SENT_AWAY, order, status
from models.importing import Import, ImportPiece, ImportState, ImportVerdict
from models.log import DeviceChange
from models.organization import Organization
from models.product import Product
from models.sql import execute, execute_many, rows
from models.transaction import retrying, transaction
from realtime import log
from realtime.log import NewEntry

AT_ONCE = 5_000  # devices deleted by one statement, which may take five seconds


async def undo_import(row: Import, *, house: House, by: Viewer) -> Import:
    """Restore what was before the import. A large one is undone by a job; it is done when `undone_at` is set.

    A device that connected, got an owner or a key since stays. Undoing again changes nothing.
    Raises InvalidInput for a dry run and while the import runs.
    """
    product: Product = row.product
    organization: Organization = product.organization
    by.must("device.import", organization.id, product.id)
    require_active(organization)
    if row.dry_run:
        raise InvalidInput("A dry run has changed nothing: there is nothing to undo.", path=("importId",))
    if row.state == ImportState.RUNNING:
        raise InvalidInput("The import is still running; undo it when it has finished.", path=("importId",))
    if row.state == ImportState.UNDONE:
        return row
    now, at_once = datetime.now(UTC), row.processed <= house.settings.import_piece_lines
    async with transaction():
        await jobs.put_down(jobs.IMPORT, {"import": row.id, "undo": True}, due_at=now + AT_ONCE_GRACE if at_once else now)
        team = organization.id
        await record(by, "device.import_undone", f"product:{product.number}", organization_id=team, **{"import": row.id})
    if at_once:
        await run_undo(row.id)
        await row.refresh_from_db()
    return row


async def take_up(payload: Mapping[str, object], house: House) -> None:
    """What the job "import" does."""
    import_id = int(str(payload["import"]))
    await (run_undo(import_id) if payload.get("undo") else run_import(import_id, house))


async def run_undo(import_id: int) -> None:
    """Undo what is left; every piece is one transaction, and a second run finds nothing left to do."""
    row = await Import.filter(id=import_id).exclude(state=ImportState.RUNNING).select_related("product").first()
    if row is None or row.state == ImportState.UNDONE:
        return
    places = await rows("SELECT first_line FROM import_piece WHERE job_id = $1 ORDER BY first_line DESC", [import_id])
    for place in places:
        await retrying(lambda: _undo_piece(row, place["first_line"]))  # noqa: B023  it is awaited right here
    await Import.filter(id=import_id).update(state=ImportState.UNDONE, undone_at=datetime.now(UTC))


async def _undo_piece(row: Import, first_line: int) -> None:
    judged = unpack(await ImportPiece.get(job_id=row.id, first_line=first_line))
    moved = [former for former in judged.formers if "state" in former]
    were_there = {former["id"] for former in moved}
    added = [line.device_id for line in judged.rows() if line.verdict == ImportVerdict.ADDED]
    async with transaction():
        gone = await _delete(row, sorted(each for each in added if each and each not in were_there))
        back = await _restore(row, moved)
        await _unforce(row, [former["id"] for former in judged.formers if former.keys() == {"id", "forced"}])
        await _leave([former for former in judged.formers if "joined" in former])
        await log.append(*_news(row, gone, back))


async def _delete(row: Import, ids: list[str]) -> list[str]:
    """Devices it created that nobody has used since. Their rows are held first: a hello at this moment is then seen, or waits.

    What is found by a long list is found by nothing else: beside other conditions PostgreSQL may come to take those, of a table it
    knows little of yet, and go through the list for every row. Deleted in steps: for each device four tables are looked through.
    """
    held = (
        "SELECT device_id, (owner_id IS NULL AND user_owner_id IS NULL AND public_key IS NULL AND secret IS NULL) AS unused FROM device"
        " WHERE device_id = ANY($1) AND import_id = $2 AND product_id = $3 ORDER BY device_id FOR UPDATE"
    )
    unused = [each["device_id"] for each in await rows(held, [ids, row.id, row.product.id]) if each["unused"]]
    heard_of = {each["device_id"] for each in await rows("SELECT device_id FROM presence WHERE device_id = ANY($1)", [unused])}
    gone = [device_id for device_id in unused if device_id not in heard_of]
    for start in range(0, len(gone), AT_ONCE):
        await execute("DELETE FROM device WHERE device_id = ANY($1)", [gone[start : start + AT_ONCE]])
    return gone


async def _restore(row: Import, moved: Sequence[Former]) -> list[str]:
    held = await rows(
        "SELECT device_id, owner_id FROM device WHERE device_id = ANY($1) AND import_id = $2 AND product_id = $3"
        " ORDER BY device_id FOR UPDATE",
        [[former["id"] for former in moved], row.id, row.product.id],
    )
    owners = {each["device_id"]: each["owner_id"] for each in held}
    back = [former for former in moved if former["id"] in owners and owners[former["id"]] == former["owner_id"]]
    columns = ", ".join(f"{name} = ${place}" for place, name in enumerate(RESTORED, start=2))
    sql = f"UPDATE device SET {columns} WHERE device_id = $1"
    await execute_many(sql, [(former["id"], *(former[name] for name in RESTORED)) for former in back])
    keys = ", ".join(f"{name} = ${place}" for place, name in enumerate(KEY, start=2))
    lost = [(former["id"], *former["key"]) for former in back if "key" in former]
    await execute_many(f"UPDATE device SET {keys} WHERE device_id = $1", lost)
    for former in back:
        await _return_to_groups(row, former)
    return [former["id"] for former in back]


async def _return_to_groups(row: Import, former: Former) -> None:
    if former["product_id"] != row.product.id:
        await execute("DELETE FROM group_membership WHERE device_id = $1", [former["id"]])
    sql = (
        "INSERT INTO group_membership (group_id, device_id) SELECT id, $1 FROM device_group WHERE id = ANY($2)"
        " ON CONFLICT (group_id, device_id) DO NOTHING"
    )
    await execute(sql, [former["id"], former["groups"]])


async def _unforce(row: Import, ids: list[str]) -> None:
    await execute("UPDATE device SET forced = FALSE WHERE device_id = ANY($1) AND product_id = $2", [ids, row.product.id])


async def _leave(joined: Sequence[Former]) -> None:
    for former in joined:
        await execute("DELETE FROM group_membership WHERE device_id = $1 AND group_id = $2", [former["id"], former["joined"]])


def _news(row: Import, gone: list[str], back: list[str]) -> list[NewEntry]:
    number, now = row.product.number, datetime.now(UTC)
    news = [order(each, number, "close", now, data=SENT_AWAY) for each in back]
    if row.total <= ANNOUNCED_LINES:
        news += [status(each, number, DeviceChange.REMOVED, now) for each in [*gone, *back]]
    return news
