"""How much one caller may ask: a token bucket per key, in this process; shared_rates.py keeps one for all processes."""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

from errors import RateLimited

KEYS_MAX = 100_000  # about 15 MB; the longest unused go first, so a flood of addresses forgets quiet ones, never itself


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left in a bucket, just asked for. It is full again in `missing_s` seconds."""

    limit: int
    remaining: int
    missing_s: float

    @property
    def resets_at(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.missing_s)

    def headers(self) -> dict[str, str]:
        """RateLimit headers; the reset is in seconds from now."""
        seconds = round(self.missing_s)
        return {"RateLimit-Limit": str(self.limit), "RateLimit-Remaining": str(self.remaining), "RateLimit-Reset": str(seconds)}


class Rate(Protocol):
    """What the doors ask; Buckets answers from memory, SharedBuckets from Redis."""

    async def take(self, key: str, amount: int = 1) -> Allowance:
        """Take that much. Raises RateLimited, and takes nothing, when less is left."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`count` per `seconds` for each key, spent at once or evenly. `what` is what is counted, for the refusal's sentence."""

    count: int
    seconds: float
    what: str

    def allowance(self, missing_s: float) -> Allowance:
        """What is left in a bucket that is full again in `missing_s` seconds."""
        remaining = int((self.seconds - missing_s) * self.count / self.seconds + 0.5)
        return Allowance(self.count, remaining, missing_s)

    def refusal(self, retry_after_s: float) -> RateLimited:
        sentence = f"Too many {self.what}: at most {self.count} in {self.seconds:g} s. Try again in {max(1, round(retry_after_s))} s."
        return RateLimited(sentence, retry_after=max(round(retry_after_s, 3), 0.001))


def when_to_come_back(refusal: RateLimited) -> dict[str, str]:
    """The header that says so, in whole seconds."""
    return {"Retry-After": str(max(1, round(refusal.retry_after)))}


class Buckets:
    """The buckets of this process alone."""

    def __init__(self, limit: Limit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._full_at: dict[str, float] = {}  # key -> when its bucket is full again; the least recently used first

    async def take(self, key: str, amount: int = 1) -> Allowance:
        """Take that much. Raises RateLimited, and takes nothing, when less is left."""
        limit, now = self._limit, self._clock()
        one = limit.seconds / limit.count
        full_at = max(self._full_at.pop(key, now), now)
        missing = full_at + amount * one - now
        is_refused = missing > limit.seconds + one / 2
        self._make_room()
        self._full_at[key] = full_at if is_refused else now + missing
        if is_refused:
            raise limit.refusal(missing - limit.seconds)
        return limit.allowance(missing)

    def _make_room(self) -> None:
        while len(self._full_at) >= KEYS_MAX:
            del self._full_at[next(iter(self._full_at))]


@lru_cache(maxsize=4096)
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
