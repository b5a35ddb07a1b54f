"""Counts of a day that outlive the log: error events by device, events and calls by customer."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from models.sql import execute_many, is_sqlite, rows
from realtime.log import Entry, NewEntry

ERROR_NAMES = ("error", "exception")  # an event whose name begins so, in any case, is an error


def is_error(name: str) -> bool:
    return name.lower().startswith(ERROR_NAMES)


def is_error_in_sql(name: str) -> str:
    """The same, where `name` is a column."""
    return "(" + " OR ".join(f"lower({name}) LIKE '{beginning}%'" for beginning in ERROR_NAMES) + ")"


def counts(entry: Entry | NewEntry, owner: int | None) -> bool:
    """Whether count() has anything to add for it."""
    return owner is not None or (entry.device_id is not None and is_error(entry.name))


async def count(entries: Sequence[tuple[Entry, int | None]]) -> None:
    """Add newly stored events, each with the customer who owns its device, in the transaction that stores them."""
    errors: Counter[tuple[int, date, str, str]] = Counter()
    events: Counter[tuple[int, date, int]] = Counter()
    last: dict[tuple[Any, ...], datetime] = {}
    for entry, owner in entries:
        day = entry.published_at.date()
        if entry.device_id is not None and is_error(entry.name):
            error = (entry.product_number, day, entry.name, entry.device_id)
            errors[error] += 1
            last[error] = max(last.get(error, entry.published_at), entry.published_at)
        if owner is not None:
            usage = (entry.product_number, day, owner)
            events[usage] += 1
            last[usage] = max(last.get(usage, entry.published_at), entry.published_at)
    # In one order everywhere, so that two processes cannot wait for each other.
    if errors:
        await _add_errors([(*key, errors[key], last[key]) for key in sorted(errors)])
    if events:
        await _add_usage([(*key, events[key], 0, last[key]) for key in sorted(events)])


async def count_call(product_number: int, customer_id: int, now: datetime) -> None:
    """One function call or variable read of a customer's device. Not in a transaction that appends to the log."""
    await _add_usage([(product_number, now.date(), customer_id, 0, 1, now)])


_ERRORS = """
    INSERT INTO error_tally (product_number, day, name, device_id, count, last_at) {rows}
    ON CONFLICT (product_number, day, name, device_id)
    DO UPDATE SET count = error_tally.count + excluded.count,
                  last_at = CASE WHEN excluded.last_at > error_tally.last_at THEN excluded.last_at ELSE error_tally.last_at END"""

# A customer who was deleted meanwhile is left out.
_USAGE = """
    INSERT INTO usage_tally (product_number, day, customer_id, events, calls, last_at) {rows}
    ON CONFLICT (product_number, day, customer_id)
    DO UPDATE SET events = usage_tally.events + excluded.events, calls = usage_tally.calls + excluded.calls,
                  last_at = CASE WHEN excluded.last_at > usage_tally.last_at THEN excluded.last_at ELSE usage_tally.last_at END"""


async def _add_errors(records: Sequence[tuple[Any, ...]]) -> None:
    if is_sqlite():
        await execute_many(_ERRORS.format(rows="VALUES ($1, $2, $3, $4, $5, $6)"), records)
        return
    said = "SELECT * FROM unnest($1::int[], $2::date[], $3::text[], $4::text[], $5::int[], $6::timestamptz[])"
    await rows(_ERRORS.format(rows=said), [list(column) for column in zip(*records, strict=True)])


async def _add_usage(records: Sequence[tuple[Any, ...]]) -> None:
    if is_sqlite():
        one = "SELECT $1, $2, $3, $4, $5, $6 WHERE EXISTS (SELECT 1 FROM customer WHERE id = $3)"
        await execute_many(_USAGE.format(rows=one), records)
        return
    said = """SELECT said.* FROM unnest($1::int[], $2::date[], $3::int[], $4::int[], $5::int[], $6::timestamptz[])
                     AS said (product_number, day, customer_id, events, calls, last_at)
                JOIN customer ON customer.id = said.customer_id"""
    await rows(_USAGE.format(rows=said), [list(column) for column in zip(*records, strict=True)])
