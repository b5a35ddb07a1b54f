"""Named streams: how far each was delivered is remembered here, for clients that cannot keep a cursor.

A place is written lazily, once the peer is known to have what was sent up to it: after a crash or a cut some messages come again, none
is left out. Whoever takes a name takes it from the subscriber that had it, in whichever process that is.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from errors import AlreadyExists, InvalidInput
from models.sql import execute, is_sqlite, rows
from models.transaction import detached, transaction
from realtime.cursor import Cursor
from realtime.log import FAILURES

logger = logging.getLogger(__name__)

KEEP_S = 1.0  # between looks at what was delivered, and at who has the name
NAMES_MAX = 100  # of one owner
NAME_MAX = 64
FORGOTTEN_AFTER = timedelta(days=30)  # without a subscriber; longer than any log goes back, so that a late one still hears of its gap
TOUCH_EVERY = timedelta(days=1)


class Name(NamedTuple):
    """Whose stream of what, and what they call it."""

    owner: str
    product_number: int
    kind: str
    name: str


_TAKE = f"""
    WITH asked AS (SELECT CAST($1 AS text) AS owner, CAST($2 AS integer) AS product_number, CAST($3 AS text) AS kind,
                          CAST($4 AS text) AS name, CAST($5 AS text) AS holder, {{now}} AS used_at)
    INSERT INTO named_stream (owner, product_number, kind, name, holder, used_at)
    SELECT owner, product_number, kind, name, holder, used_at FROM asked
     WHERE (SELECT count(*) FROM named_stream AS one WHERE one.owner = asked.owner) < {NAMES_MAX}
        OR EXISTS (SELECT 1 FROM named_stream AS one
                    WHERE one.owner = asked.owner AND one.product_number = asked.product_number AND one.kind = asked.kind
                      AND one.name = asked.name)
    ON CONFLICT (owner, product_number, kind, name) DO UPDATE SET holder = excluded.holder, used_at = excluded.used_at
    RETURNING id, cursor"""


class Held:
    """A name in the hands of one subscriber. `cursor` is where its stream goes on; None if nobody has had it before."""

    def __init__(self, id: int, holder: str, cursor: str | None) -> None:
        self.id = id
        self.holder = holder
        self.cursor = cursor
        self._last: Callable[[], Cursor | None]
        self._mark: Callable[[], Callable[[], bool]]
        self._end: Callable[[Exception], None]
        self._marked: tuple[str, Callable[[], bool]] | None
        self.forget()

    def watch(self, last: Callable[[], Cursor | None], mark: Callable[[], Callable[[], bool]], end: Callable[[Exception], None]) -> None:
        """`last` is the cursor of what was sent last; `mark()` gives a question: has the peer everything that was sent before it?"""
        self._last, self._mark, self._end = last, mark, end

    def forget(self) -> None:
        """Whoever had it: they hold it too."""
        self.watch(lambda: None, lambda: lambda: False, lambda error: None)
        self._marked = None

    def look(self) -> bool:
        """Whether more has been delivered than was known; `cursor` then says how far."""
        has_more = self._marked is not None and self._marked[1]()
        if has_more and self._marked is not None:
            self.cursor, self._marked = self._marked[0], None
        last = self._last()
        if self._marked is None and last is not None and str(last) != self.cursor:
            self._marked = str(last), self._mark()
        return has_more

    def lose(self) -> None:
        self._end(AlreadyExists("Another subscriber follows the stream of this name now.", reason="STREAM_TAKEN"))


class NamedStreams:
    """Those that are followed in this process."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._touched_at = datetime.now(UTC)

    async def take(self, name: Name) -> Held:
        """Raises InvalidInput for a name that is none, and for one too many."""
        if not 1 <= len(name.name) <= NAME_MAX:
            raise InvalidInput(f"A stream's name has 1 to {NAME_MAX} characters.", path=("stream",))
        holder = secrets.token_hex(8)
        found = await rows(_TAKE.format(now="$6" if is_sqlite() else "$6::timestamptz"), [*name, holder, datetime.now(UTC)])
        if not found:
            raise InvalidInput(f"At most {NAMES_MAX} named streams: use one of those you have.", path=("stream",))
        held = Held(found[0]["id"], holder, found[0]["cursor"])
        before, self._held[held.id] = self._held.get(held.id), held
        if before is not None:
            before.lose()
        if self._keeping is None or self._keeping.done():
            self._keeping = detached(self._keep(), name="named streams")
        return held

    async def begin(self, held: Held, cursor: Cursor) -> None:
        """Remember where it begins: what comes after is owed to it from now on."""
        held.cursor = str(cursor)
        await self._write([held])

    async def release(self, held: Held) -> None:
        """The subscriber has gone; another one goes on from where it was."""
        if self._held.get(held.id) is held:
            del self._held[held.id]
        if held.look():
            await self._write([held])
        held.forget()

    async def _keep(self) -> None:
        while self._held:
            await asyncio.sleep(KEEP_S)
            try:
                await self._write([held for held in self._held.values() if held.look()])
                await self._let_go_of_lost()
            except FAILURES as error:
                logger.warning("How far named streams were delivered cannot be written: %s: %s", type(error).__name__, error)

    async def _write(self, changed: Sequence[Held]) -> None:
        if changed:
            now = datetime.now(UTC)
            async with transaction():
                for held in sorted(changed, key=lambda held: held.id):
                    await execute(
                        "UPDATE named_stream SET cursor = $1, used_at = $2 WHERE id = $3 AND holder = $4",
                        [held.cursor, now, held.id, held.holder],
                    )

    async def _let_go_of_lost(self) -> None:
        ours = list(self._held.values())
        if not ours:
            return
        found = await rows("SELECT id, holder FROM named_stream WHERE id = ANY($1)", [[held.id for held in ours]])
        holders = {row["id"]: row["holder"] for row in found}
        for held in ours:
            if holders.get(held.id) != held.holder and self._held.get(held.id) is held:
                del self._held[held.id]
                held.lose()
        now = datetime.now(UTC)
        if now - self._touched_at > TOUCH_EVERY:
            self._touched_at = now
            await execute("UPDATE named_stream SET used_at = $1 WHERE id = ANY($2)", [now, list(self._held)])


async def forget_unused(now: datetime, retention: timedelta) -> int:
    """Remove the names that nobody has followed for a month, or for twice as long as the log goes back; how many."""
    return await execute("DELETE FROM named_stream WHERE used_at < $1", [now - max(FORGOTTEN_AFTER, 2 * retention)])
