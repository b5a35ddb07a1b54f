"""Everything that is stored, row by row: to show that nothing moved, and that no secret is among it."""

from models.sql import is_sqlite, rows

Stored = dict[str, list[str]]  # by table, each row as text, in the order of their texts

# What moves whatever comes of a request: when its token was used, what a try costs whoever tries too often, the process's beat.
_ALWAYS_MOVES = {"token": "last_used_at"}
_NOT_OF_THE_ACT = ("throttle", "server_process")


async def everything() -> Stored:
    """Every row of every table."""
    return {table: [str(row) for row in found] for table, found in (await _tables()).items()}


async def whatever_a_refusal_must_leave_alone() -> Stored:
    """Every row that only an act may change: compare before and after."""
    tables = await _tables()
    for table in _NOT_OF_THE_ACT:
        tables.pop(table)
    for table, column in _ALWAYS_MOVES.items():
        for row in tables[table]:
            row.pop(column)
    return {table: sorted(str(row) for row in found) for table, found in tables.items()}


async def _tables() -> dict[str, list[dict[str, object]]]:
    return {name: await rows(f'SELECT * FROM "{name}"') for name in await _names()}


async def _names() -> list[str]:
    catalog = "SELECT name FROM sqlite_master WHERE type = 'table'" if is_sqlite() else _POSTGRES_TABLES
    return [str(row["name"]) for row in await rows(f"{catalog} ORDER BY name")]


_POSTGRES_TABLES = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
