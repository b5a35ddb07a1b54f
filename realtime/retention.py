"""Purging the log: what is older than the retention, or more than the rows allowed; readers that were behind are told of the gap."""

from datetime import datetime, timedelta

from models.sql import execute, rows
from models.transaction import transaction
from realtime import log
from settings import Settings

PIECE = 10_000  # entries a transaction: the writers wait no longer than that takes


async def purge(settings: Settings, now: datetime) -> int:
    """Remove what has passed; the number of entries removed. Any process may run it, at any time."""
    await log.state()  # makes the row in which the border is kept
    border = max(await _older_than(now - timedelta(seconds=settings.log_retention_s)), await _beyond(settings.log_max_rows))
    removed = 0
    while piece := await _purge_piece(border):
        removed += piece
    return removed


async def _older_than(cutoff: datetime) -> int:
    """The end of the old part: everything before the first entry that is young enough.

    Not the last one that is too old: the entry of a server whose clock was wrong for a moment would take all before it along.
    In one statement: what is appended between two would be young, and part of the end that the second finds.
    """
    found = await rows(
        "SELECT COALESCE((SELECT position FROM log_entry WHERE published_at >= $1 ORDER BY position LIMIT 1) - 1,"
        " (SELECT position FROM log_entry ORDER BY position DESC LIMIT 1), 0) AS position",
        [cutoff],
    )
    position: int = found[0]["position"]
    return position


async def _beyond(max_rows: int) -> int:
    found = await rows("SELECT position FROM log_entry ORDER BY position DESC LIMIT 1 OFFSET $1", [max_rows])
    return found[0]["position"] if found else 0


async def _purge_piece(border: int) -> int:
    """The border and the removal are one commit, so whoever misses an entry sees the border as well."""
    async with transaction():
        last = await rows(
            "SELECT max(position) AS position FROM"
            f" (SELECT position FROM log_entry WHERE position <= $1 ORDER BY position LIMIT {PIECE}) AS piece",
            [border],
        )
        if last[0]["position"] is None:
            return 0
        through: int = last[0]["position"]
        await execute("UPDATE log_state SET purged_through = $1 WHERE id = 1 AND purged_through < $1", [through])
        return await execute("DELETE FROM log_entry WHERE position <= $1", [through])
