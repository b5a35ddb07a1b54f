"""The seam of shared streams: random joins, leaves, full sockets and purges against a plain model of the log."""

import asyncio
import dataclasses
import random
from datetime import UTC, datetime

import pytest

from realtime import log, retention
from realtime.cursor import parse
from tests.connected import a_device, a_product, until
from tests.house import HouseTester
from tests.transport.following import Follower, Followers, followers
from tests.transport.test_streams import PRODUCT, publish


@pytest.fixture
async def token(tester: HouseTester) -> str:
    found = await tester.owner()
    await a_device(await a_product(tester))
    return found


class Model:
    """What was published, and what therefore each follower has to have heard."""

    def __init__(self, tester: HouseTester, all: Followers, token: str, seed: int) -> None:
        self.tester, self.all, self.token = tester, all, token
        self.chance = random.Random(seed)
        self.published: dict[int, tuple[str, str]] = {}  # position → name, cursor
        self.begun: dict[Follower, tuple[int, str]] = {}  # position, prefix

    async def publish(self) -> None:
        wanted = [f"{self.chance.choice('ab')}{self.chance.random()}" for _ in range(self.chance.choice((1, 1, 2, 7, 60)))]
        for entry in await publish(self.tester, *wanted):
            self.published[entry.position] = entry.name, str(entry.cursor)

    async def join(self) -> None:
        prefix, place = self.chance.choice(("", "", "a")), self.chance.choice(sorted(self.published))
        after = self.chance.choice((self.published[place][1], None))
        head = (await log.head(PRODUCT)).position
        follower = await self.all.follow(token=self.token, productId=PRODUCT, namePrefix=prefix or None, after=after)
        self.begun[follower] = (place if after else head), prefix

    async def leave(self) -> None:
        follower = self.chance.choice(list(self.begun))
        await follower.stop()
        self.check(follower, is_whole=False)
        del self.begun[follower]

    async def fill(self) -> None:
        self.chance.choice(list(self.begun)).sink.fill()

    async def drain(self) -> None:
        self.chance.choice(list(self.begun)).sink.drain()

    async def purge(self) -> None:
        settings = dataclasses.replace(self.tester.house.settings, log_max_rows=self.chance.choice((30, 80)))
        await retention.purge(settings, datetime.now(UTC))

    async def wait(self) -> None:
        await asyncio.sleep(self.chance.choice((0, 0, 0.001, 0.01)))

    def check(self, follower: Follower, *, is_whole: bool = True) -> None:
        """In order, nothing twice, and between two messages nothing that was published, unless a gap says so."""
        at, prefix = self.begun[follower]
        places = {cursor: position for position, (_, cursor) in self.published.items()}
        wanted = [position for position, (name, _) in sorted(self.published.items()) if name.startswith(prefix)]
        for message in follower.messages:
            if message["gap"] is not None:
                at = max(at, parse(message["gap"]["to"]).position)
                continue
            position = places[message["cursor"]]
            assert next(each for each in wanted if each > at) == position, "lost, repeated or out of order"
            at = position
        if is_whole:
            assert not [each for each in wanted if each > at], "the end is missing"

    async def settle(self) -> None:
        """Until all have heard the end and are in a stream, and a moment more for what comes twice."""
        for follower in self.begun:
            follower.sink.drain()
        await until(lambda: all(follower.is_shared and self.is_at_the_end(follower) for follower in self.begun))
        await asyncio.sleep(0.1)

    def is_at_the_end(self, follower: Follower) -> bool:
        begun, prefix = self.begun[follower]
        places = {cursor: position for position, (_, cursor) in self.published.items()}
        told = (parse(each["gap"]["to"]).position if each["gap"] else places[each["cursor"]] for each in follower.messages)
        wanted = (position for position, (name, _) in self.published.items() if name.startswith(prefix))
        return max(told, default=begun) >= max(wanted, default=0)


@pytest.mark.parametrize("seed", range(5))
async def test_whoever_joins_leaves_or_reads_slowly_hears_exactly_the_log(tester: HouseTester, token: str, seed: int) -> None:
    """The heart: random joins anywhere, leaves, full sockets and purges, with a memory so small that the database is read too."""
    tester.house.dispatcher._ring_size = 40
    async with followers(tester, tick_s=(0.0, 0.001, 0.03, 0.03, 0.1)[seed]) as all:
        model = Model(tester, all, token, seed)
        await model.publish()
        for _ in range(3):
            await model.join()
        acts = [model.publish] * 6 + [model.join] * 2 + [model.wait] * 4 + [model.fill] * 2 + [model.drain] * 2 + [model.leave, model.purge]
        for _ in range(120):
            if not model.begun:
                await model.join()
            await model.chance.choice(acts)()
        await model.settle()
        await model.publish()
        await model.settle()

        for follower in model.begun:
            model.check(follower)
        joined = {follower.subscription._stream for follower in model.begun}
        assert len(joined) == len({prefix for _, prefix in model.begun.values()}), "one stream for each prefix"
