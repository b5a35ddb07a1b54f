"""Reads of SQLite that are over in a moment, in the event loop's own thread: the way to another and back costs more than they do."""

import sqlite3
from collections.abc import Sequence
from typing import Any

TICK = 1000  # instructions of SQLite's machine
TICKS_MAX = 30  # a page of 100 rows takes about 5; more would hold up everybody else for more than a millisecond or two
SLOW_MAX = 1000  # statements remembered


class Reader:
    """A connection that only reads, and sees what is committed. Whatever takes longer is left to the other thread, and remembered."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=512)
        self.connection.execute("PRAGMA query_only = ON")
        self.connection.row_factory = sqlite3.Row
        self.connection.set_progress_handler(self._tick, TICK)
        self._ticks = 0
        self._slow: set[str] = set()

    def read(self, query: str, values: Sequence[Any], *, named: bool) -> list[Any] | None:
        """The rows of a SELECT, which know the names of their columns or are plain tuples; None for what has to be asked in the other
        thread."""
        if query in self._slow or self.connection.in_transaction or not query.lstrip().startswith("SELECT"):
            return None
        self._ticks = 0
        try:
            cursor = self.connection.cursor()
            if not named:
                cursor.row_factory = None  # whose values are reached in a third of the time
            return cursor.execute(query, values).fetchall()
        except sqlite3.OperationalError:  # it took too long, or the file is locked, or it is wrong: the other thread says so
            self._remember(query)
            return None

    def register(self, name: str, function: Any) -> None:
        """A function of one value that statements may use."""
        self.connection.create_function(name, 1, function, deterministic=True)

    def close(self) -> None:
        self.connection.close()

    def _tick(self) -> bool:
        self._ticks += 1
        return self._ticks > TICKS_MAX

    def _remember(self, query: str) -> None:
        if self._ticks > TICKS_MAX:
            if len(self._slow) >= SLOW_MAX:
                self._slow.clear()
            self._slow.add(query)
