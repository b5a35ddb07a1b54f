"""Hashes passwords with argon2id in a small pool of threads, at the same price for accounts that do not exist."""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from errors import RateLimited

PASSES = 2
MEMORY_KIB = 19 * 1024  # the memory of four at once is 76 MiB
THREADS = 4
WAITING_MAX = 256  # hashes waiting or under way in one process: some seconds of work; what comes on top is refused
MAX_BYTES = 1024  # of a password, before and after normalization

_Result = TypeVar("_Result")
_hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
_room = BoundedSemaphore(WAITING_MAX)

# A hash nobody can have the password of, with the price of a real one: salt and tag are all zero bits.
_NOBODY = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${'A' * 22}${'A' * 43}"


async def hash_password(password: str) -> str:
    """The hash to store, about 97 characters with its parameters; about 25 ms of one core, in a thread.

    Ask password_strength.require_strong first. Raises RateLimited when too many wait.
    """
    return await _in_pool(lambda: _hasher.hash(_prepared(password)))


async def verify_password(password: str, stored_hash: str) -> bool:
    """Whether `password` is the one behind `stored_hash`. Raises RateLimited when too many wait."""
    return await _in_pool(lambda: _is_behind(stored_hash, password))


async def verify_nobody(password: str) -> bool:
    """False, after the time verify_password takes: log-in asks this where there is no account, so that time tells nothing."""
    return await verify_password(password, _NOBODY)


async def _in_pool(work: Callable[[], _Result]) -> _Result:
    if not _room.acquire(blocking=False):
        raise RateLimited("Too many people are logging in at this moment: try again in a few seconds.", retry_after=3.0)
    try:
        future = _pool.submit(work)
    except BaseException:
        _room.release()
        raise
    # The room is given back when the work ends, or is taken out of the queue, even if nobody waits for it any more.
    future.add_done_callback(lambda _: _room.release())
    return await asyncio.wrap_future(future)


def _is_behind(stored_hash: str, password: str) -> bool:
    too_long = len(password.encode(errors="surrogatepass")) > MAX_BYTES
    try:
        return _hasher.verify(stored_hash, b"" if too_long else _prepared(password)) and not too_long
    except (VerificationError, InvalidHashError):
        return False


def _prepared(password: str) -> bytes:
    """The bytes that are hashed: the same for every way a keyboard may compose the same characters (NFKC)."""
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")
