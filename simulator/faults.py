"""Scripted faults: what a device does wrong, how, and how many times."""

from collections.abc import Iterable
from typing import Final

FAULTS: Final = {
    "drop-at": "cut both connections at that byte of a download, once: drop-at=50000",
    "wrong-hash": "corrupt what was downloaded; wrong-hash=2: only the first two times",
    "crash-after-boot": "come back from an update with the old version; crash-after-boot=2: only twice",
    "falls-back": "boot that version, crash soon after its hello, and come back with the one before: falls-back=2",
    "never-ack": "say nothing about updates and fetch none",
    "never-answer": "answer no call and no read",
    "slow": "wait that many seconds after each 16 KiB of a download: slow=0.05",
    "flap": "drop the connection after that many seconds, again and again: flap=5",
    "flood": "publish as fast as told to, whatever rate the server asks for",
}
_AMOUNTS: Final = ("drop-at", "slow", "flap", "falls-back")  # their number is an amount, not how many times


class Faults:
    """What is still to go wrong. `Faults(["slow=0.05", "wrong-hash=1"])`; ValueError for a fault that does not exist."""

    __slots__ = ("_amount", "_times")

    def __init__(self, scripted: Iterable[str] = ()) -> None:
        self._amount: dict[str, float] = {}
        self._times: dict[str, float] = {}
        for fault in scripted:
            name, _, number = fault.partition("=")
            if name not in FAULTS or ((name in _AMOUNTS) and not number):
                raise ValueError(f"{fault!r} is not a fault; there are: " + "; ".join(f"{name}: {what}" for name, what in FAULTS.items()))
            if name in _AMOUNTS:
                self._amount[name] = float(number)
            self._times[name] = 1 if name == "drop-at" else float(number) if number and name not in _AMOUNTS else float("inf")

    def has(self, name: str) -> bool:
        return self._times.get(name, 0) > 0

    def strikes(self, name: str) -> bool:
        """Whether it goes wrong now; uses up one of its times."""
        if not self.has(name):
            return False
        self._times[name] -= 1
        return True

    def amount(self, name: str) -> float:
        return self._amount.get(name, 0.0)
