"""How often one caller may ask: a token bucket per key, in this process; several processes may share one through Redis."""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from errors import RateLimited

KEYS_MAX = 100_000  # about 15 MB; the longest unused go first, so a flood of addresses forgets quiet ones, never itself


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left in a bucket. `resets_at` is when it is full again."""

    limit: int
    remaining: int
    resets_at: datetime

    def headers(self) -> dict[str, str]:
        """RateLimit headers; the reset is in seconds from now."""
        seconds = max(0, round((self.resets_at - datetime.now(UTC)).total_seconds()))
        return {"RateLimit-Limit": str(self.limit), "RateLimit-Remaining": str(self.remaining), "RateLimit-Reset": str(seconds)}


class Rate(Protocol):
    """What the doors ask; Buckets answers from memory, another class may answer from Redis."""

    async def take(self, key: str) -> Allowance:
        """Take one. Raises RateLimited, and takes nothing, when none is left."""


class Buckets:
    """`count` per `seconds` for each key, spent at once or evenly."""

    def __init__(self, count: int, seconds: float, *, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._seconds = seconds
        self._what = what
        self._clock = clock
        self._full_at: dict[str, float] = {}  # key -> when its bucket is full again; the least recently used first

    async def take(self, key: str) -> Allowance:
        """Take one. Raises RateLimited, and takes nothing, when none is left."""
        now, one = self._clock(), self._seconds / self._count
        full_at = max(self._full_at.pop(key, now), now)
        self._make_room()
        if full_at + one - now > self._seconds + one / 2:
            self._full_at[key] = full_at
            retry_after = round(full_at + one - now - self._seconds, 3)
            message = f"Too many {self._what}: at most {self._count} in {self._seconds:g} s. Try again in {max(1, round(retry_after))} s."
            raise RateLimited(message, retry_after=max(retry_after, 0.001))
        self._full_at[key] = full_at + one
        missing = full_at + one - now
        resets_at = datetime.now(UTC) + timedelta(seconds=missing)
        return Allowance(self._count, int((self._seconds - missing) / one + 0.5), resets_at)

    def _make_room(self) -> None:
        while len(self._full_at) >= KEYS_MAX:
            del self._full_at[next(iter(self._full_at))]


def address_key(host: str | None) -> str:
    """The address as a key: an IPv6 caller owns its whole /64, so that is what counts."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or "unknown"
    if address.version == 6:
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
