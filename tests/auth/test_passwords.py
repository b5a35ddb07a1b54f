"""Password hashes: their parameters, what they accept, their pool, and that an unknown account costs the same."""

import asyncio
import re
import threading

import pytest
from argon2 import Parameters, extract_parameters

from auth import passwords
from auth.passwords import hash_password, verify_nobody, verify_password
from errors import RateLimited

PASSWORD = "four geese walked to the printer"
real_hasher = passwords._hasher


async def test_a_hash_is_argon2id_with_two_passes_over_19_mib_and_a_salt_of_its_own():
    first, second = await hash_password(PASSWORD), await hash_password(PASSWORD)

    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", first)
    assert first != second


async def test_only_the_password_opens_its_hash():
    stored = await hash_password(PASSWORD)

    assert await verify_password(PASSWORD, stored)
    assert not await verify_password(PASSWORD + " ", stored)
    assert not await verify_password(PASSWORD.upper(), stored)
    assert not await verify_password("", stored)


async def test_the_same_characters_from_another_keyboard_open_it():
    stored = await hash_password("zw\u00f6lf boxk\u00e4mpfer jagen")

    assert await verify_password("zwo\u0308lf boxka\u0308mpfer jagen", stored)


async def test_nobody_can_log_in_to_no_account():
    assert not await verify_nobody("")
    assert not await verify_nobody(PASSWORD)


@pytest.mark.parametrize("text", ["\ud800", "\x00", "x" * 1_000_000, "\ufdfa" * 341])
async def test_any_text_is_but_a_wrong_password(text):
    assert not await verify_password(text, await hash_password(PASSWORD))


@pytest.mark.parametrize("stored", ["", "!", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv"])
async def test_a_damaged_hash_opens_to_nobody(stored):
    assert not await verify_password(PASSWORD, stored)


async def test_a_password_beyond_the_cap_never_opens_even_the_hash_of_the_empty_one():
    assert not await verify_password("x" * 1025, await hash_password(""))


class Watched:
    """The hasher, and what it was asked: of which price, and in which thread."""

    def __init__(self) -> None:
        self.prices: list[Parameters] = []
        self.threads: set[int] = set()

    def verify(self, stored: str, password: bytes) -> bool:
        self.prices.append(extract_parameters(stored))
        self.threads.add(threading.get_ident())
        return real_hasher.verify(stored, password)


async def test_an_unknown_account_costs_what_a_known_one_costs(monkeypatch):
    stored = await hash_password(PASSWORD)
    monkeypatch.setattr(passwords, "_hasher", watched := Watched())

    assert not await verify_password("wrong", stored)
    assert not await verify_nobody("wrong")

    known, unknown = watched.prices
    assert known == unknown


async def test_the_event_loop_goes_on_while_passwords_are_checked(monkeypatch):
    stored = await hash_password(PASSWORD)
    monkeypatch.setattr(passwords, "_hasher", watched := Watched())

    await verify_password(PASSWORD, stored)

    assert threading.get_ident() not in watched.threads
    assert len(watched.threads) == 1


async def test_at_most_four_are_hashed_at_once(monkeypatch):
    working, most = [], []
    all_four = threading.Barrier(4)

    def slow(password: bytes) -> str:
        working.append(1)
        most.append(len(working))
        all_four.wait(60)
        working.pop()
        return "hash"

    monkeypatch.setattr(passwords, "_hasher", type("Slow", (), {"hash": staticmethod(slow)}))
    await asyncio.gather(*(hash_password(PASSWORD) for _ in range(20)))

    assert len(most) == 20
    assert max(most) == 4


async def test_what_comes_on_top_of_a_full_queue_is_refused_and_the_room_comes_back():
    go_on = threading.Event()
    for _ in range(passwords.THREADS):
        passwords._pool.submit(go_on.wait)  # no hash ends, and makes room, while the queue fills
    waiting = [asyncio.create_task(hash_password(PASSWORD)) for _ in range(passwords.WAITING_MAX)]
    await asyncio.sleep(0)

    try:
        with pytest.raises(RateLimited) as refused:
            await asyncio.wait_for(verify_password(PASSWORD, ""), 60)
    finally:
        go_on.set()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    while passwords._pool._work_queue.qsize():
        await asyncio.sleep(0.01)

    assert refused.value.retry_after == 3.0
    assert await asyncio.gather(*(verify_nobody("x") for _ in range(20))) == [False] * 20
