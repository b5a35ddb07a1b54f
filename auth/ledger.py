"""The throttle's times in the database, so that every server process counts the same tries."""

from datetime import datetime

from models.sql import execute, read_time, rows


class TableLedger:
    """auth.throttle.Ledger over the table `throttle`; every call is one statement of its own."""

    async def read(self, key: str) -> datetime | None:
        found = await rows("SELECT paid_at FROM throttle WHERE key = $1", [key])
        return read_time(found[0]["paid_at"]) if found else None

    async def swap(self, key: str, *, old: datetime | None, new: datetime) -> bool:
        if old is None:
            return await execute("INSERT INTO throttle (key, paid_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", [key, new]) == 1
        return await execute("UPDATE throttle SET paid_at = $1 WHERE key = $2 AND paid_at = $3", [new, key, old]) == 1


async def forget_paid(now: datetime) -> int:
    """Delete the rows whose time has passed: they mean nothing any more."""
    return await execute("DELETE FROM throttle WHERE paid_at < $1", [now])
