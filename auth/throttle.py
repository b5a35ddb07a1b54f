"""Slows down whoever guesses or asks too often, over all processes, aliases and sockets, by one stored time for each key.

The time is when the key's debt will be paid: each try adds `every_s` to it, and the clock pays it back second by second.
While the debt is below `at_once` tries, a try goes ahead. So in any stretch of time there are at most `at_once` tries and
one more for each `every_s` of it, whatever the rhythm: no window begins anew, and nothing saved up is let loose at its end.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

from errors import RateLimited

ROUNDS_MAX = 50  # lost races for one key before giving up; only a try that goes ahead makes another lose, so few happen


@dataclass(frozen=True, slots=True)
class Allowance:
    """How often something may be tried: `at_once` times without a pause, then once every `every_s` seconds."""

    key: str  # at most 64 characters; says what for, and of whom only a hash
    at_once: int
    every_s: float


def guesses_at(account: str) -> Allowance:
    """Wrong passwords, tokens or codes for one account, e.g. "user/ada@analytical.example": 100 in any 15 minutes at most.

    Slowed from the 11th on. The account need not exist: what is unknown is slowed alike.
    """
    return Allowance(_key("guess/account", account), at_once=10, every_s=10.0)


def guesses_from(address: str) -> Allowance:
    """The same numbers for one network address, whatever accounts it tries."""
    return Allowance(_key("guess/address", network_of(address)), at_once=10, every_s=10.0)


def sign_ups_from(address: str) -> Allowance:
    """10 an hour, since the answer tells whether an account exists."""
    return _hourly("sign-up", network_of(address), 10)


def resets_for(account: str) -> Allowance:
    """Mails that one address is sent because somebody asked for a new password: 10 an hour."""
    return _hourly("reset/account", account, 10)


def resets_from(address: str) -> Allowance:
    """10 an hour from one network address."""
    return _hourly("reset/address", network_of(address), 10)


def invitations_of(inviter: str) -> Allowance:
    """20 an hour of one person, since the answer tells whether an account exists."""
    return _hourly("invite", inviter, 20)


def wait_s(allowance: Allowance, paid_at: datetime | None, now: datetime) -> float:
    """Seconds until the next try may go ahead; 0.0 = now. `paid_at` None = never tried."""
    debt = _after_one(allowance, paid_at, now) - now
    return max(0.0, (debt - timedelta(seconds=allowance.at_once * allowance.every_s)).total_seconds())


class Ledger(Protocol):
    """Where the times are kept. Outside any transaction of the try itself, which may roll back: the count must not.

    A row whose time has passed means nothing any more and may be deleted whenever it suits.
    """

    async def read(self, key: str) -> datetime | None: ...

    async def swap(self, key: str, *, old: datetime | None, new: datetime) -> bool:
        """Store `new` if the time is still `old` (None: if there is no row), in one statement; whether it was."""
        ...


class Throttle:
    """Counts tries in a ledger. One for each process; with `lifted` (RATE_LIMITS=off) it lets everything through."""

    def __init__(self, ledger: Ledger, *, lifted: bool = False) -> None:
        self._ledger = ledger
        self._lifted = lifted

    async def take(self, *allowances: Allowance, now: datetime) -> None:
        """Count a try against every allowance, before it is made: of many at the same time no more go ahead than may.

        Raises RateLimited with the longest wait, and then nothing is counted: who hammers is not kept out for longer.
        Give it back when it turns out not to count: the password was right.
        """
        if self._lifted:
            return
        for index, allowance in enumerate(allowances):
            wait = await self._take_one(allowance, now)
            if wait > 0:
                await self.give_back(*allowances[:index], now=now)
                others = [wait_s(other, await self._ledger.read(other.key), now) for other in allowances[index + 1 :]]
                raise RateLimited("Too many tries: wait, then try again.", retry_after=max(wait, *others, 0.0))

    async def takes(self, *allowances: Allowance, now: datetime) -> bool:
        """take(), for whoever must not notice that there were too many: whether it was counted."""
        try:
            await self.take(*allowances, now=now)
        except RateLimited:
            return False
        return True

    async def give_back(self, *allowances: Allowance, now: datetime) -> None:
        """Undo one take."""
        if self._lifted:
            return
        for allowance in allowances:
            for _ in range(ROUNDS_MAX):
                paid_at = await self._ledger.read(allowance.key)
                if paid_at is None or paid_at <= now:
                    break
                if await self._ledger.swap(allowance.key, old=paid_at, new=paid_at - timedelta(seconds=allowance.every_s)):
                    break

    async def _take_one(self, allowance: Allowance, now: datetime) -> float:
        """0.0 when counted, otherwise the seconds to wait."""
        for _ in range(ROUNDS_MAX):
            paid_at = await self._ledger.read(allowance.key)
            if wait := wait_s(allowance, paid_at, now):
                return wait
            if await self._ledger.swap(allowance.key, old=paid_at, new=_after_one(allowance, paid_at, now)):
                return 0.0
        return 1.0


def network_of(address: str) -> str:
    """What counts as one sender: an IPv4 address, or the /64 an IPv6 host can choose its addresses from."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address  # a Unix socket, or the name a test client gives itself
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)


def _hourly(purpose: str, subject: str, times: int) -> Allowance:
    return Allowance(_key(purpose, subject), at_once=times, every_s=3600 / times)


def _key(purpose: str, subject: str) -> str:
    """Addresses of people who may not even have an account stay out of the table: a hash of 160 bits stands for them."""
    return f"{purpose}/{sha256(subject.casefold().encode(errors='replace')).hexdigest()[:40]}"


def _after_one(allowance: Allowance, paid_at: datetime | None, now: datetime) -> datetime:
    return max(now, paid_at or now) + timedelta(seconds=allowance.every_s)
