"""Named streams: the server remembers how far each was delivered, once, for its newest subscriber, and never too far."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from errors import AlreadyExists, InvalidInput
from models.log import NamedStream
from realtime import log, named, retention
from realtime.log import NewEntry
from realtime.named import NamedStreams
from tests.connected import ID, a_device, a_product, until
from tests.house import HouseTester
from tests.transport.following import Follower, followers
from transport.documents import NotBegun

PRODUCT = 1094
QUERY = """subscription ($p: Int!, $stream: String, $after: Cursor) {
  events(productId: $p, stream: $stream, after: $after) { cursor event { name } gap { reason } } }"""
STATUS = "subscription ($p: Int!, $stream: String) { deviceStatus(productId: $p, stream: $stream) { cursor change } }"


@pytest.fixture
async def token(tester: HouseTester) -> str:
    found = await tester.owner()
    await a_device(await a_product(tester))
    return found


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "KEEP_S", 0.02)


async def publish(tester: HouseTester, *names: str, product: int = PRODUCT) -> None:
    for name in names:
        await tester.house.flusher.publish(NewEntry(product, "event", name, datetime.now(UTC), ID))


def names(follower: Follower) -> list[str]:
    return [message["event"]["name"] if message["event"] else message["gap"]["reason"] for message in follower.messages]


async def stored() -> str | None:
    return (await NamedStream.get()).cursor


async def head() -> str:
    return str(await log.head(PRODUCT))


async def test_a_named_stream_goes_on_where_it_was_delivered_to(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all:
        first = await all.follow(QUERY, token, p=PRODUCT, stream="mine")
        await until(lambda: first.is_shared)
        await publish(tester, "a", "b")
        await until(lambda: names(first) == ["a", "b"])
        end = await head()
        await until(lambda: _is(stored(), end))
        await first.stop()
        await publish(tester, "c")
        second = await all.follow(QUERY, token, p=PRODUCT, stream="mine")
        await publish(tester, "d")

        await until(lambda: names(second) == ["c", "d"])


async def _is(found, wanted: str) -> bool:  # type: ignore[no-untyped-def]  # any coroutine
    return bool(await found == wanted)


async def test_what_came_before_the_first_message_is_not_forgotten_either(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all:
        first = await all.follow(QUERY, token, p=PRODUCT, stream="mine")
        await first.stop()
        await publish(tester, "a")
        second = await all.follow(QUERY, token, p=PRODUCT, stream="mine")

        await until(lambda: names(second) == ["a"])


async def test_what_the_peer_did_not_acknowledge_comes_again(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all:
        first = await all.follow(QUERY, token, p=PRODUCT, stream="mine")
        await until(lambda: first.is_shared)
        await publish(tester, "a")
        end = await head()
        await until(lambda: _is(stored(), end))
        first.sink.has_acknowledged = False
        await publish(tester, "b")
        await until(lambda: names(first) == ["a", "b"])
        await asyncio.sleep(0.1)
        await first.stop()
        second = await all.follow(QUERY, token, p=PRODUCT, stream="mine")

        await until(lambda: names(second) == ["b"])


async def test_an_after_counts_more_and_moves_the_place(tester: HouseTester, token: str) -> None:
    await publish(tester, "a")
    start = await head()
    await publish(tester, "b", "c")
    async with followers(tester) as all:
        await (await all.follow(QUERY, token, p=PRODUCT, stream="mine")).stop()
        again = await all.follow(QUERY, token, p=PRODUCT, stream="mine", after=start)

        await until(lambda: names(again) == ["b", "c"])


async def test_names_belong_to_their_viewer_their_product_and_their_subscription(tester: HouseTester, token: str) -> None:
    bob = await tester.member(token, "bob", "VIEWER")
    await a_product(tester, 2000)
    async with followers(tester) as all:
        for query, whose, product in ((QUERY, token, PRODUCT), (QUERY, bob, PRODUCT), (QUERY, token, 2000), (STATUS, token, PRODUCT)):
            await all.follow(query, whose, p=product, stream="mine")
        await until(lambda: all_shared(all.all))

        assert await NamedStream.all().count() == 4
        assert not any(each.task.done() for each in all.all)


def all_shared(found: list[Follower]) -> bool:
    return all(each.is_shared for each in found)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same process", "another process"])
async def test_the_newest_subscriber_of_a_name_wins(tester: HouseTester, token: str, elsewhere: bool) -> None:
    there = dataclasses.replace(tester.house, named_streams=NamedStreams()) if elsewhere else tester.house
    async with followers(tester) as here, followers(dataclasses.replace(tester, house=there)) as other:
        old = await here.follow(QUERY, token, p=PRODUCT, stream="mine")
        await until(lambda: old.is_shared)
        new = await other.follow(QUERY, token, p=PRODUCT, stream="mine")
        await until(old.task.done)
        await publish(tester, "a")
        await until(lambda: names(new) == ["a"])

        error = old.task.exception()
        assert isinstance(error, AlreadyExists) and error.reason == "STREAM_TAKEN"
        assert names(old) == []
        end = await head()
        await until(lambda: _is(stored(), end))


@contextlib.contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(NotBegun) as found:
        yield
    assert isinstance((found.value.result.errors or [])[0].original_error, InvalidInput)


@pytest.mark.parametrize("name", ["", "x" * 65])
async def test_a_name_has_1_to_64_characters(tester: HouseTester, token: str, name: str) -> None:
    async with followers(tester) as all:
        with refused():
            await all.follow(QUERY, token, p=PRODUCT, stream=name)

    assert await NamedStream.all().count() == 0


async def test_a_viewer_has_at_most_100_names_and_goes_on_with_those(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all:
        for number in range(100):
            await all.follow(QUERY, token, p=PRODUCT, stream=f"n{number}")
        with refused():
            await all.follow(QUERY, token, p=PRODUCT, stream="one more")
        again = await all.follow(QUERY, token, p=PRODUCT, stream="n7")
        await until(lambda: again.is_shared)

    assert await NamedStream.all().count() == 100


async def test_a_named_stream_that_comes_back_too_late_hears_of_the_gap(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all:
        await publish(tester, "a")
        await (await all.follow(QUERY, token, p=PRODUCT, stream="mine")).stop()
        await publish(tester, "b", "c")
        await retention.purge(dataclasses.replace(tester.house.settings, log_max_rows=1), datetime.now(UTC))
        late = await all.follow(QUERY, token, p=PRODUCT, stream="mine")

        await until(lambda: names(late) == ["RETENTION", "c"])


async def test_a_name_is_forgotten_after_a_month_and_never_before_the_log_forgets(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all:
        await (await all.follow(QUERY, token, p=PRODUCT, stream="mine")).stop()
    now = datetime.now(UTC)

    assert await named.forget_unused(now + timedelta(days=29), timedelta(days=1)) == 0
    assert await named.forget_unused(now + timedelta(days=31), timedelta(days=16)) == 0
    assert await named.forget_unused(now + timedelta(days=31), timedelta(days=1)) == 1


async def test_a_stream_that_could_not_begin_holds_no_name(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all:
        with refused():
            await all.follow(QUERY, token, p=PRODUCT, stream="mine", after="no cursor")

    assert tester.house.named_streams._held == {}
