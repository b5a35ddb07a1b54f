"""Wake-ups: "there may be something new", between the tasks of a process and between processes. A hint, never the truth.

Whoever listens reads the database at each hint and every second anyway, so a lost wake-up costs a second and nothing else.
Source: reliability, "Redis: a hint, never the truth".
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

# Called with the hint, or with None: something may have been missed, look at everything. Must neither wait nor raise.
Listener = Callable[[str | None], None]
# Called with entries of the log that this process has just committed; True: what it needs of them it has, and need not be woken.
Taker = Callable[[Sequence[Any]], bool]

LOG = "log"  # entries were appended
COMMANDS = "commands"  # a command waits for a process, or was answered; the hint says which
JOBS = "jobs"  # a job was put down


class Wakeup:
    """Wake-ups within one process; with one process, all that is needed."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}
        self._takers: list[Taker] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def notify(self, channel: str, hint: str = "") -> None:
        """Wake every listener of the channel, in every process. Never waits: sending goes on behind the caller's back."""
        self._ring(channel, hint)
        self._send_soon(channel, hint)

    def appended(self, entries: Sequence[Any]) -> None:
        """Entries were committed to the log: whoever reads it here may take them as they are, everybody else is woken."""
        taken = [take(entries) for take in self._takers]
        if not taken or not all(taken):
            self._ring(LOG, "")
        self._send_soon(LOG, "")

    def take(self, taker: Taker) -> Callable[[], None]:
        """Call `taker` with what is appended; the function returned ends that."""
        self._takers.append(taker)
        return lambda: self._takers.remove(taker)

    def listen(self, channel: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` at each hint; the function returned ends that."""
        listeners = self._listeners.setdefault(channel, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener) if listener in listeners else None

    def is_heard(self, channel: str) -> bool:
        """Whether anybody in this process listens."""
        return bool(self._listeners.get(channel))

    def _send_soon(self, channel: str, hint: str) -> None:
        """To the other processes; here are none."""

    def _ring(self, channel: str, hint: str | None) -> None:
        for listener in tuple(self._listeners.get(channel, ())):
            listener(hint)

    def _ring_everybody(self) -> None:
        for channel in tuple(self._listeners):
            self._ring(channel, None)


# ── this process's own ──
_installed: Wakeup | None = None


@contextmanager
def installed(chosen: Wakeup) -> Iterator[None]:
    """Meanwhile notify() and appended() go through this one."""
    global _installed
    before, _installed = _installed, chosen
    try:
        yield
    finally:
        _installed = before


def notify(channel: str, hint: str = "") -> None:
    """Through the process's wake-up. A process without one, such as a command, is found by the readers' own look every second."""
    if _installed is not None:
        _installed.notify(channel, hint)


def appended(entries: Sequence[Any]) -> None:
    """As notify(), of entries that were committed to the log."""
    if _installed is not None:
        _installed.appended(entries)
