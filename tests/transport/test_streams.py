"""Shared streams: one execution for all who would get the same, and for each of them exactly the log, wherever they join and leave."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from auth.credentials import issue
from auth.tokens import Kind
from models.account import Token
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupMembership
from models.organization import Member
from realtime import log
from realtime.fanout import Reading
from realtime.log import Entry, NewEntry
from resolvers.live import LiveStream
from tests.connected import ID, a_device, a_product, order, until
from tests.house import HouseTester
from tests.transport.following import Follower, Followers, followers
from transport.wire import TextLane

PRODUCT = 1094
STATUS = "subscription ($p: Int!) { deviceStatus(productId: $p) { cursor change device { deviceId } } }"


async def publish(tester: HouseTester, *names: str, device_id: str = ID) -> list[Entry]:
    now = datetime.now(UTC)
    entries = [NewEntry(PRODUCT, "event", name, now, device_id, "x") for name in names]
    return await asyncio.gather(*(tester.house.flusher.publish(entry) for entry in entries))


@pytest.fixture
async def token(tester: HouseTester) -> str:
    found = await tester.owner()
    await a_device(await a_product(tester))
    return found


def names(follower: Follower) -> list[str]:
    return [message["event"]["name"] for message in follower.messages]


# ── what is shared ──
@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every message that was executed."""
    from transport.documents import Subscribed

    messages, execute = [], Subscribed.execute

    async def counted(self: Subscribed, message: object) -> Any:
        messages.append(message)
        return await execute(self, message)

    monkeypatch.setattr(Subscribed, "execute", counted)
    return messages


def all_shared(*all: Follower) -> bool:
    return all[0].is_shared and all_same([follower.subscription._stream for follower in all])


def all_same(values: list[object]) -> bool:
    return all(value is values[0] for value in values)


async def test_an_event_is_executed_once_for_all_who_see_it_alike_whoever_they_are(
    tester: HouseTester, token: str, executed: list[object]
) -> None:
    tokens = [token, await tester.member(token, "bob", "VIEWER"), await tester.member(token, "eve", "ADMIN")]
    async with followers(tester) as all_of_them:
        followed = [await all_of_them.follow(token=tokens[n % 3], operation_id=f"id-{n}", productId=PRODUCT) for n in range(30)]
        await until(lambda: all_shared(*followed))
        await publish(tester, "a", "b")
        await until(lambda: [len(each.messages) for each in followed] == [2] * 30)

        assert len(executed) == 2
        assert [message["id"] for message in followed[7].sink.heard] == ["id-7"] * 2
        assert {tuple(names(each)) for each in followed} == {("a", "b")}


async def test_what_depends_on_who_asks_is_shared_by_one_persons_sockets_alone(tester: HouseTester, token: str) -> None:
    other = await tester.member(token, "bob", "OWNER")
    async with followers(tester) as all_of_them:
        mine = [await all_of_them.follow(STATUS, token, p=PRODUCT) for _ in range(2)]
        theirs = await all_of_them.follow(STATUS, other, p=PRODUCT)
        await until(lambda: all(each.is_shared for each in (*mine, theirs)))

        assert mine[0].subscription._stream is mine[1].subscription._stream
        assert mine[0].subscription._stream is not theirs.subscription._stream


async def test_a_customer_shares_no_stream_with_the_team_for_they_see_their_own_time_alone(tester: HouseTester, token: str) -> None:
    query = "subscription ($d: DeviceID!) { deviceStatus(deviceId: $d) { cursor change } }"
    device, now = await Device.get(device_id=ID).select_related("product"), datetime.now(UTC)
    customer = await Customer.create(product=device.product, username="cara", username_key="cara", created_at=now)
    await Device.filter(device_id=ID).update(owner_id=customer.id, state="ACTIVE")
    minted, _ = await issue(Kind.CUSTOMER, owner=customer, now=now)
    async with followers(tester) as all_of_them:
        ours, theirs = await all_of_them.follow(query, token, d=ID), await all_of_them.follow(query, minted.text, d=ID)
        await until(lambda: ours.is_shared and theirs.is_shared)

        assert ours.subscription._stream is not theirs.subscription._stream


@pytest.mark.parametrize("different", [{"namePrefix": "x"}, {"productId": 2000}], ids=["prefix", "product"])
async def test_other_variables_are_another_stream(tester: HouseTester, token: str, different: dict[str, Any]) -> None:
    await a_product(tester, 2000)
    async with followers(tester) as all_of_them:
        one = await all_of_them.follow(token=token, productId=PRODUCT)
        other = await all_of_them.follow(token=token, **{"productId": PRODUCT} | different)
        await until(lambda: one.is_shared and other.is_shared)

        assert one.subscription._stream is not other.subscription._stream


async def test_a_cursor_that_is_used_for_more_than_the_place_to_begin_keeps_streams_apart(tester: HouseTester, token: str) -> None:
    query = """subscription ($p: Int!, $after: Cursor) { events(productId: $p, after: $after) {
      cursor event { device { events(after: $after) { totalCount } } } } }"""
    first, second = [str(entry.cursor) for entry in await publish(tester, "a", "b")]
    async with followers(tester) as all_of_them:
        one = await all_of_them.follow(query, token, p=PRODUCT, after=first)
        other = await all_of_them.follow(query, token, p=PRODUCT, after=second)
        await until(lambda: one.is_shared and other.is_shared)

        assert one.subscription._stream is not other.subscription._stream


async def test_a_stream_ends_with_its_last_follower(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all_of_them:
        followed = [await all_of_them.follow(token=token, productId=PRODUCT) for _ in range(3)]
        await until(lambda: all_shared(*followed))
        for each in followed:
            await each.stop()

        assert len(all_of_them.fanout) == 0
        assert tester.house.dispatcher._topics == {}


# ── who may ──
async def test_a_viewer_who_may_no_longer_follow_ends_and_the_others_of_the_stream_go_on(tester: HouseTester, token: str) -> None:
    bob = await tester.member(token, "bob", "VIEWER")
    async with followers(tester) as all_of_them:
        his, hers = await all_of_them.follow(token=bob, productId=PRODUCT), await all_of_them.follow(token=token, productId=PRODUCT)
        await until(lambda: all_shared(his, hers))
        await Member.filter(role="VIEWER").delete()
        await until(his.task.done)
        await publish(tester, "secret")
        await until(lambda: names(hers) == ["secret"])

        assert names(his) == []
        assert getattr(his.task.exception(), "code", None) == "NOT_FOUND"


async def test_a_revoked_token_hears_nothing_a_second_later_though_its_stream_is_busy(tester: HouseTester, token: str) -> None:
    bob = await tester.member(token, "bob", "VIEWER")
    async with followers(tester) as all_of_them:
        his, hers = await all_of_them.follow(token=bob, productId=PRODUCT), await all_of_them.follow(token=token, productId=PRODUCT)
        await until(lambda: all_shared(his, hers))
        await Token.filter(user__email="bob@example.com").update(revoked_at=datetime.now(UTC))
        for number in range(60):
            await publish(tester, f"n{number}")
            await asyncio.sleep(0.05)

        assert getattr(his.task.exception(), "code", None) == "UNAUTHENTICATED"
        assert len(names(his)) <= 45
        assert names(hers) == [f"n{number}" for number in range(60)]


async def test_a_device_that_leaves_the_group_is_not_heard_any_more_in_the_shared_stream(tester: HouseTester, token: str) -> None:
    query = 'subscription ($p: Int!) { events(productId: $p, group: "kitchen") { cursor event { name } } }'
    product = (await Device.get(device_id=ID).select_related("product")).product
    group = await DeviceGroup.create(product=product, name="kitchen", path="kitchen", created_at=datetime.now(UTC))
    await GroupMembership.create(group=group, device_id=ID)
    async with followers(tester) as all_of_them:
        followed = [await all_of_them.follow(query, token, p=PRODUCT) for _ in range(2)]
        await until(lambda: all_shared(*followed))
        await publish(tester, "in")
        await until(lambda: [names(each) for each in followed] == [["in"]] * 2)
        await GroupMembership.all().delete()
        (out,) = await publish(tester, "out")
        stream = followed[0].subscription._stream
        assert stream is not None
        await until(lambda: stream.position >= out.position)
        await GroupMembership.create(group=group, device_id=ID)
        await publish(tester, "in again")
        await until(lambda: [names(each) for each in followed] == [["in", "in again"]] * 2)


# ── gaps, slow readers, flaps ──
async def test_a_restored_database_is_told_to_every_follower_and_the_stream_goes_on(tester: HouseTester, token: str) -> None:
    await publish(tester, "a")
    async with followers(tester) as all_of_them:
        followed = [await all_of_them.follow(token=token, productId=PRODUCT) for _ in range(3)]
        await until(lambda: all_shared(*followed))
        await log.begin_new_epoch()
        await until(lambda: [len(each.messages) for each in followed] == [1] * 3)
        await until(lambda: all_shared(*followed))
        await publish(tester, "b")
        await until(lambda: [len(each.messages) for each in followed] == [2] * 3)

        assert [each.messages[0]["gap"]["reason"] for each in followed] == ["RESTORED"] * 3
        assert [each.messages[1]["event"]["name"] for each in followed] == ["b"] * 3


async def test_a_full_socket_leaves_the_stream_holds_nobody_up_and_comes_back_to_it(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all_of_them:
        slow, quick = [await all_of_them.follow(token=token, productId=PRODUCT) for _ in range(2)]
        await until(lambda: all_shared(slow, quick))
        slow.sink.fill()
        await until(lambda: not slow.is_shared)
        await publish(tester, *(f"n{number}" for number in range(100)))
        await until(lambda: len(quick.messages) == 100)
        while_full = len(slow.messages)
        slow.sink.drain()
        await until(lambda: all_shared(slow, quick))
        await publish(tester, "last")
        await until(lambda: len(slow.messages) == 101)

        assert while_full == 0
        assert names(slow) == names(quick)


async def test_flaps_are_merged_for_a_slow_reader_alone_and_the_last_state_arrives(tester: HouseTester, token: str) -> None:
    product = (await Device.get(device_id=ID).select_related("product")).product
    await a_device(product, "0" * 24)
    async with followers(tester) as all_of_them:
        slow, quick = [await all_of_them.follow(STATUS, token, p=PRODUCT) for _ in range(2)]
        await until(lambda: all_shared(slow, quick))
        slow.sink.fill()
        await until(lambda: not slow.is_shared)
        for name in ("ONLINE", "OFFLINE", "LOCKED", "ONLINE", "OFFLINE"):
            await order(product, name, ID, kind="status")
        await order(product, "ONLINE", "0" * 24, kind="status")
        await until(lambda: len(quick.messages) == 6)
        slow.sink.drain()
        await until(lambda: len(slow.messages) >= 3)

        assert [each["change"] for each in quick.messages] == ["ONLINE", "OFFLINE", "LOCKED", "ONLINE", "OFFLINE", "ONLINE"]
        assert [(each["change"], each["device"]["deviceId"]) for each in slow.messages] == [
            ("LOCKED", ID), ("OFFLINE", ID), ("ONLINE", "0" * 24),
        ]  # fmt: skip


async def test_a_snapshot_is_each_followers_own(tester: HouseTester, token: str) -> None:
    query = "subscription ($d: DeviceID!) { deviceStatus(deviceId: $d) { change } }"
    product = (await Device.get(device_id=ID).select_related("product")).product
    async with followers(tester) as all_of_them:
        early = await all_of_them.follow(query, token, d=ID)
        await until(lambda: early.is_shared)
        await order(product, "LOCKED", ID, kind="status")
        await until(lambda: len(early.messages) == 2)
        late = await all_of_them.follow(query, token, d=ID)
        await until(lambda: all_shared(early, late))
        await order(product, "UNLOCKED", ID, kind="status")
        await until(lambda: len(late.messages) == 2 and len(early.messages) == 3)

        assert [each["change"] for each in early.messages] == ["SNAPSHOT", "LOCKED", "UNLOCKED"]
        assert [each["change"] for each in late.messages] == ["SNAPSHOT", "UNLOCKED"]


async def _in_step(all_of_them: Followers, tester: HouseTester, token: str) -> Follower:
    """A follower whose messages are written at once: graphql-core has answered the first, and the second has been compiled."""
    one = await all_of_them.follow(token=token, productId=PRODUCT)
    await until(lambda: one.is_shared)
    for count, name in enumerate(("first", "second"), 1):
        await publish(tester, name)
        await until(lambda count=count: len(one.messages) == count)
        await until(lambda: one.subscription._stream and one.subscription._stream.is_in_step)
    return one


async def test_what_comes_during_a_round_waits_for_company_and_is_written_in_one_go(
    tester: HouseTester, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    write, hand_on = TextLane.write, Reading._hand_on
    is_over, has_rested = asyncio.Event(), asyncio.Event()

    async def long_round(self: Reading, entries: Any) -> None:
        await hand_on(self, entries)
        await is_over.wait()

    async def long_rest(self: Reading, worked_s: float) -> None:
        await has_rested.wait()

    async with followers(tester) as all_of_them:
        one = await _in_step(all_of_them, tester, token)
        monkeypatch.setattr(TextLane, "write", lambda self, followed, items: [writes.append(len(items)), write(self, followed, items)])
        monkeypatch.setattr(Reading, "_hand_on", long_round)
        monkeypatch.setattr(Reading, "rest", long_rest)
        await publish(tester, "alone")
        await until(lambda: names(one)[-1] == "alone")
        await publish(tester, "meanwhile")
        is_over.set()
        await publish(tester, "company")
        has_rested.set()
        await until(lambda: len(one.messages) == 5)

        assert writes == [1, 2]


async def test_what_comes_alone_waits_for_nobody(tester: HouseTester, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def rest(self: Reading, worked_s: float) -> None:
        rests.append(worked_s)

    async with followers(tester) as all_of_them:
        one = await _in_step(all_of_them, tester, token)
        monkeypatch.setattr(Reading, "rest", rest)
        for count in (3, 4, 5):
            await publish(tester, str(count))
            await until(lambda count=count: len(one.messages) == count)

        assert rests == []


# ── what goes wrong inside ──
async def test_a_database_that_is_away_for_a_moment_costs_nobody_a_message(
    tester: HouseTester, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, messages = 0, LiveStream.messages

    async def away_at_first(self: LiveStream[Any], entries: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionError("the database is away")
        return await messages(self, entries)

    monkeypatch.setattr(LiveStream, "messages", away_at_first)
    async with followers(tester) as all_of_them:
        followed = [await all_of_them.follow(token=token, productId=PRODUCT) for _ in range(3)]
        await until(lambda: all_shared(*followed))
        await publish(tester, "a")
        await until(lambda: [names(each) for each in followed] == [["a"]] * 3)

        assert tries == 2


async def test_what_was_prepared_by_one_whose_view_changed_meanwhile_is_shown_to_nobody(
    tester: HouseTester, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followers(tester) as all_of_them:
        first, second = [await all_of_them.follow(token=token, productId=PRODUCT) for _ in range(2)]
        await until(lambda: all_shared(first, second))
        stream = first.subscription._stream
        assert stream is not None
        prepare = first.subscription.prepare

        async def promoted_meanwhile(entries: Any) -> Any:
            items = [item._replace(payload=b'{"data":{"events":"secret"}}') for item in await prepare(entries)]
            monkeypatch.setattr(
                type(first.subscription), "view", property(lambda self: "other" if self is first.subscription else stream._view)
            )
            stream._send_away([first.subscription])
            return items

        monkeypatch.setattr(first.subscription, "prepare", promoted_meanwhile)
        await publish(tester, "a")
        await until(lambda: names(second) == ["a"])
        await until(lambda: names(first) == ["a"])


async def test_a_stream_that_fails_leaves_each_follower_its_own_answer(
    tester: HouseTester, token: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: Any) -> Any:
        raise ValueError("a mistake of ours")

    async with followers(tester) as all_of_them:
        followed = [await all_of_them.follow(token=token, productId=PRODUCT) for _ in range(2)]
        await until(lambda: all_shared(*followed))
        monkeypatch.setattr(followed[0].subscription, "prepare", fails)
        await publish(tester, "a", "b")
        await until(lambda: [names(each) for each in followed] == [["a", "b"]] * 2)

    assert [record.message for record in caplog.records if record.exc_info] == ["A stream failed; its followers go on alone."]
