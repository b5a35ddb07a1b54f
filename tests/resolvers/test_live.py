"""Subscriptions and the history they go on from: one log, no loss and no repeat, nobody who may not."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auth.viewer import Viewer
from fleet.events import publishing
from models.account import Token
from models.device import Device, DeviceGroup, GroupMembership
from models.organization import Member
from models.product import Product
from models.sql import execute
from realtime import log, retention
from realtime.log import NewEntry
from tests.connected import ID, a_device, a_product, order, subscribed
from tests.house import GraphQLFailed, HouseTester

OTHER = "0" * 24
EVENTS = """subscription ($productId: Int!, $deviceId: DeviceID, $group: String, $namePrefix: String, $after: Cursor) {
  events(productId: $productId, deviceId: $deviceId, group: $group, namePrefix: $namePrefix, after: $after) {
    cursor event { cursor deviceId name data } gap { from to reason } } }"""
STATUS = """subscription ($productId: Int, $deviceId: DeviceID, $group: String, $after: Cursor) {
  deviceStatus(productId: $productId, deviceId: $deviceId, group: $group, after: $after) {
    cursor change device { deviceId firmwareVersion } gap { reason to } } }"""
HISTORY = """query ($productId: Int, $first: Int, $after: Cursor, $last: Int, $before: Cursor, $filter: EventFilter) {
  product(productId: $productId) { events(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
    totalCount pageInfo { hasNextPage hasPreviousPage endCursor startCursor } nodes { cursor name } } } }"""


@dataclasses.dataclass
class Fleet:
    tester: HouseTester
    token: str
    product: Product
    counted: int = 0

    async def publish(self, *names: str, device_id: str = ID, product_number: int = 1094) -> None:
        """What devices publish, by way of the flusher."""
        for name in names:
            self.counted += 1
            entry = NewEntry(product_number, "event", name, datetime.now(UTC), device_id, str(self.counted))
            await self.tester.house.flusher.publish(entry)


@pytest.fixture
async def fleet(tester: HouseTester) -> Fleet:
    token = await tester.owner()
    product = await a_product(tester)
    await a_device(product)
    return Fleet(tester, token, product)


def names(messages: list[Any]) -> list[str]:
    return [message["event"]["name"] for message in messages]


# ── following ──
async def test_a_stream_begins_now_and_gets_each_event_in_order(fleet: Fleet) -> None:
    await fleet.publish("before")
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094) as stream:
        await fleet.publish("a", "b")
        messages = await stream.take(2)
        await fleet.publish("c")
        messages.append(await stream.next())

        assert names(messages) == ["a", "b", "c"]
        assert [message["event"]["cursor"] for message in messages] == [message["cursor"] for message in messages]
        assert messages[0]["event"]["deviceId"] == ID
        assert [message["gap"] for message in messages] == [None] * 3
        assert await stream.is_silent()


async def test_replay_goes_on_live_without_loss_or_repeat_under_concurrent_publishing(fleet: Fleet) -> None:
    """Each subscriber begins at another place while eight publishers are at work, and must end with exactly what came after it."""

    async def publish(publisher: int) -> None:
        for number in range(60):
            await fleet.publish(f"p{publisher}-{number}")

    async def follow(after: str) -> list[str]:
        async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=after) as stream:
            found: list[str] = []
            while not found or found[-1] != "end":
                found += names([await stream.next()])
        return found

    await fleet.publish("start")
    start = str(await log.head(1094))
    publishing_ = [asyncio.create_task(publish(publisher)) for publisher in range(8)]
    followers = []
    for _ in range(6):
        followers.append(asyncio.create_task(follow(start)))
        await asyncio.sleep(0.02)
    await asyncio.gather(*publishing_)
    await fleet.publish("end")
    seen = await asyncio.wait_for(asyncio.gather(*followers), 60)

    stored = [entry.name for page in [await log.read_after(0)] for entry in page.entries][1:]
    assert len(stored) == 481
    assert [each == stored for each in seen] == [True] * 6


async def test_history_hands_over_to_the_stream_at_its_last_cursor(fleet: Fleet) -> None:
    await fleet.publish("a", "b")
    page = (await fleet.tester.ask(HISTORY, fleet.token, productId=1094, first=1))["product"]["events"]
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=page["pageInfo"]["endCursor"]) as stream:
        await fleet.publish("c")

        assert [node["name"] for node in page["nodes"]] == ["a"]
        assert names(await stream.take(2)) == ["b", "c"]


async def test_a_stream_narrows_to_device_prefix_and_group(fleet: Fleet) -> None:
    top = await DeviceGroup.create(product=fleet.product, name="emea", path="emea", created_at=datetime.now(UTC))
    below = await DeviceGroup.create(product=fleet.product, parent=top, name="h7", path="emea/h7", created_at=datetime.now(UTC))
    other, always = await a_device(fleet.product, OTHER), await a_device(fleet.product, "1" * 24)
    await GroupMembership.create(group=below, device=always)
    token, tester = fleet.token, fleet.tester
    async with (
        subscribed(tester, EVENTS, token, productId=1094, deviceId=OTHER.upper()) as by_device,
        subscribed(tester, EVENTS, token, productId=1094, namePrefix="door/") as by_name,
        subscribed(tester, EVENTS, token, productId=1094, group="emea") as by_group,
    ):
        await fleet.publish("door/a")
        await fleet.publish("Door/b", device_id=OTHER)
        await fleet.publish("inside", device_id=always.device_id)
        seen = [await by_group.next()]  # membership counts as it is when an entry is read: all before has been
        await GroupMembership.create(group=below, device=other)
        await fleet.publish("door/c", device_id=OTHER)
        seen.append(await by_group.next())
        await GroupMembership.filter(device=other).delete()
        await fleet.publish("door/d", device_id=OTHER)
        await fleet.publish("inside", device_id=always.device_id)
        seen.append(await by_group.next())
        await GroupMembership.create(group=top, device=other)
        await fleet.publish("end", device_id=OTHER)
        seen.append(await by_group.next())

        assert names(await by_device.take(4)) == ["Door/b", "door/c", "door/d", "end"]
        assert names(await by_name.take(3)) == ["door/a", "door/c", "door/d"]
        assert names(seen) == ["inside", "door/c", "inside", "end"]


async def test_events_of_the_product_a_device_was_in_before_are_not_shown(fleet: Fleet) -> None:
    await a_product(fleet.tester, 2000)
    await fleet.publish("elsewhere", product_number=2000)
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, deviceId=ID) as stream:
        await fleet.publish("elsewhere", product_number=2000)
        await fleet.publish("here")

        assert names([await stream.next()]) == ["here"]
    history = "query ($id: Int) { product(productId: $id) { events { nodes { name } } } }"
    assert (await fleet.tester.ask(history, fleet.token, id=1094))["product"]["events"]["nodes"] == [{"name": "here"}]


# ── gaps ──
async def test_a_cursor_older_than_the_log_gets_a_gap_of_retention_first(fleet: Fleet) -> None:
    await fleet.publish("a")
    cursor = str(await log.head(1094))
    await fleet.publish("b", "c", "d")
    await retention.purge(dataclasses.replace(fleet.tester.house.settings, log_max_rows=1), datetime.now(UTC))
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=cursor) as stream:
        first, second = await stream.take(2)

        assert (first["event"], first["gap"]["reason"], first["gap"]["from"]) == (None, "RETENTION", cursor)
        assert first["gap"]["to"] == first["cursor"]
        assert names([second]) == ["d"]
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=first["cursor"]) as stream:
        assert names([await stream.next()]) == ["d"]


async def test_a_cursor_of_before_a_restore_gets_a_gap_and_the_place_to_come_back_to(fleet: Fleet) -> None:
    await fleet.publish("a")
    cursor = str(await log.head(1094))
    await a_product(fleet.tester, 2000)
    await fleet.publish("elsewhere", product_number=2000)  # the end of the log is another product's
    await log.begin_new_epoch()
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=cursor) as stream:
        gap = await stream.next()
        await fleet.publish("b")

        assert gap["gap"]["reason"] == "RESTORED"
        following = await stream.next()
        if following["gap"]:  # the process itself has found out only now, and tells everybody
            assert following["gap"]["reason"] == "RESTORED"
            following = await stream.next()
        assert names([following]) == ["b"]
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=gap["cursor"]) as stream:
        assert names([await stream.next()]) == ["b"]


@pytest.mark.parametrize("cursor", ["x", "A" * 27])
async def test_what_is_no_cursor_is_refused(fleet: Fleet, cursor: str) -> None:
    if cursor == "x":
        with pytest.raises(GraphQLFailed) as refused:
            async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=cursor):
                pass
        assert refused.value.codes == ["INVALID_INPUT"]
    else:
        async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=cursor) as stream:
            assert (await stream.next())["gap"]["reason"] == "RESTORED"


async def test_a_cursor_of_another_product_is_refused(fleet: Fleet) -> None:
    await a_product(fleet.tester, 2000)
    await fleet.publish("elsewhere", product_number=2000)

    with pytest.raises(GraphQLFailed) as refused:
        async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, after=str(await log.head(2000))):
            pass

    assert refused.value.codes == ["INVALID_INPUT"]


# ── who may ──
@pytest.mark.parametrize(("operation", "variables"), [
    (EVENTS, {"productId": 1094}), (EVENTS, {"productId": 9999}), (STATUS, {"productId": 1094}), (STATUS, {"deviceId": ID}),
])  # fmt: skip
async def test_strangers_find_nothing_and_nobody_must_say_who_he_is(fleet: Fleet, operation: str, variables: dict[str, Any]) -> None:
    stranger = await fleet.tester.owner("eve", "Evil")
    codes = []
    for token in (stranger, None):
        with pytest.raises(GraphQLFailed) as refused:
            async with subscribed(fleet.tester, operation, token, **variables):
                pass
        codes += refused.value.codes

    assert codes == ["NOT_FOUND", "UNAUTHENTICATED"]


async def test_a_device_of_another_product_is_not_found_in_this_one(fleet: Fleet) -> None:
    await a_device(await a_product(fleet.tester, 2000), OTHER)

    with pytest.raises(GraphQLFailed) as refused:
        async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094, deviceId=OTHER):
            pass

    assert refused.value.codes == ["NOT_FOUND"]


async def test_a_revoked_token_ends_the_stream_within_a_second_and_shows_nothing_more(fleet: Fleet) -> None:
    async with subscribed(fleet.tester, EVENTS, fleet.token, productId=1094) as stream:
        await fleet.publish("a")
        first = await stream.next()
        await Token.all().update(revoked_at=datetime.now(UTC))
        await asyncio.sleep(1.1)
        await fleet.publish("secret")
        with pytest.raises(GraphQLFailed) as refused:
            await stream.next()

        assert names([first]) == ["a"]
        assert refused.value.codes == ["UNAUTHENTICATED"]


async def test_a_member_who_is_removed_sees_the_stream_end_though_nothing_happens(fleet: Fleet) -> None:
    async with subscribed(fleet.tester, STATUS, fleet.token, productId=1094) as stream:
        await Member.all().delete()
        with pytest.raises(GraphQLFailed) as refused:
            await stream.next()

        assert refused.value.codes == ["NOT_FOUND"]


async def test_streams_of_one_viewer_share_the_look_at_what_they_may(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.events import following

    looks = 0
    authorize = following._authorize

    async def counted(*about: Any) -> Any:
        nonlocal looks
        looks += 1
        return await authorize(*about)

    monkeypatch.setattr(following, "_authorize", counted)
    streams = [subscribed(fleet.tester, EVENTS, fleet.token, productId=1094) for _ in range(10)]
    opened = [await stream.__aenter__() for stream in streams]
    at_the_opening, waiting = looks, [asyncio.create_task(stream.next()) for stream in opened]
    await asyncio.sleep(1.6)
    await fleet.publish("a")
    messages = await asyncio.gather(*waiting)
    for stream in streams:
        await stream.__aexit__(None, None, None)

    assert names(messages) == ["a"] * 10
    assert at_the_opening < 20  # one each, and shared ones where opening took long
    assert looks - at_the_opening <= 5  # in two seconds, for ten streams
    assert fleet.tester.house.dispatcher._topics == {}


# ── status ──
async def test_the_stream_of_one_device_begins_with_a_snapshot_whose_cursor_goes_on(fleet: Fleet) -> None:
    await order(fleet.product, "LOCKED", ID, kind="status")
    async with subscribed(fleet.tester, STATUS, fleet.token, deviceId=ID) as stream:
        snapshot = await stream.next()
        await Device.filter(device_id=ID).update(firmware_version=7)
        await order(fleet.product, "FIRMWARE_CHANGED", ID, kind="status")
        await order(fleet.product, "consider", ID)
        changed = await stream.next()

        assert (snapshot["change"], snapshot["device"]) == ("SNAPSHOT", {"deviceId": ID, "firmwareVersion": None})
        assert (changed["change"], changed["device"]) == ("FIRMWARE_CHANGED", {"deviceId": ID, "firmwareVersion": 7})
    async with subscribed(fleet.tester, STATUS, fleet.token, deviceId=ID, after=snapshot["cursor"]) as stream:
        assert [message["change"] for message in await stream.take(2)] == ["SNAPSHOT", "FIRMWARE_CHANGED"]


async def test_the_stream_of_a_product_has_every_devices_changes_and_no_snapshot(fleet: Fleet) -> None:
    await a_device(fleet.product, OTHER)
    async with subscribed(fleet.tester, STATUS, fleet.token, productId=1094) as stream:
        await order(fleet.product, "ONLINE", ID, kind="status")
        await order(fleet.product, "REMOVED", OTHER, kind="status")
        await Device.filter(device_id=OTHER).update(product_id=None)
        messages = await stream.take(2)

        assert [message["change"] for message in messages] == ["ONLINE", "REMOVED"]
        assert messages[0]["device"]["deviceId"] == ID


async def test_a_gap_in_the_status_of_one_device_is_followed_by_how_it_is_now(fleet: Fleet) -> None:
    await order(fleet.product, "ONLINE", ID, kind="status")
    cursor = str(await log.head(1094))
    await log.begin_new_epoch()
    async with subscribed(fleet.tester, STATUS, fleet.token, deviceId=ID, after=cursor) as stream:
        gap, snapshot = await stream.take(2)

        assert (gap["change"], gap["gap"]["reason"], gap["device"]) == ("GAP", "RESTORED", None)
        assert (snapshot["change"], snapshot["cursor"]) == ("SNAPSHOT", gap["cursor"])


async def test_status_of_nothing_in_particular_is_refused(fleet: Fleet) -> None:
    with pytest.raises(GraphQLFailed) as refused:
        async with subscribed(fleet.tester, STATUS, fleet.token):
            pass

    assert refused.value.codes == ["BAD_REQUEST"]


# ── history ──
async def test_history_pages_both_ways_and_filters(fleet: Fleet) -> None:
    await a_device(fleet.product, OTHER)
    await fleet.publish("a1", "a2", "b1", "a3")
    await fleet.publish("a4", device_id=OTHER)

    async def page(**variables: Any) -> Any:
        found = (await fleet.tester.ask(HISTORY, fleet.token, productId=1094, **variables))["product"]["events"]
        return [node["name"] for node in found["nodes"]], found["pageInfo"], found["totalCount"]

    first, info, total = await page(first=2)
    second, info_2, _ = await page(first=2, after=info["endCursor"])
    last, info_last, _ = await page(last=2)
    before, _, _ = await page(last=2, before=info_last["startCursor"])
    prefixed, _, prefixed_total = await page(filter={"namePrefix": "a", "deviceId": ID})
    until, _, _ = await page(filter={"until": (datetime.now(UTC) - timedelta(hours=1)).isoformat()})

    assert (first, second, total) == (["a1", "a2"], ["b1", "a3"], 5)
    assert (info["hasNextPage"], info["hasPreviousPage"], info_2["hasNextPage"], info_2["hasPreviousPage"]) == (True, False, True, True)
    assert (last, before, info_last["hasPreviousPage"]) == (["a3", "a4"], ["a2", "b1"], True)
    assert (prefixed, prefixed_total, until) == (["a1", "a2", "a3"], 3, [])


async def test_an_event_is_found_again_by_its_id(fleet: Fleet) -> None:
    entry = await publishing.publish_event(
        fleet.product, "door", data="x", settings=fleet.tester.house.settings, by=await _viewer(fleet)
    )  # fmt: skip
    stranger = await fleet.tester.owner("eve", "Evil")
    listing = "{ product(productId: 1094) { events { nodes { id deviceId device { deviceId } ttl } } } }"
    (event,) = (await fleet.tester.ask(listing, fleet.token))["product"]["events"]["nodes"]
    node = "query ($id: ID!) { node(id: $id) { id ... on DeviceEvent { name data } } }"

    assert entry.device_id is None
    assert (event["deviceId"], event["device"], event["ttl"]) == (OTHER, None, 60)
    assert (await fleet.tester.ask(node, fleet.token, id=event["id"]))["node"] == {"id": event["id"], "name": "door", "data": "x"}
    assert (await fleet.tester.ask(node, stranger, id=event["id"]))["node"] is None


async def _viewer(fleet: Fleet) -> Viewer:
    fleet.product = await Product.get(id=fleet.product.id).select_related("organization")
    return (await fleet.tester.context(fleet.token)).viewer


async def test_a_log_that_is_empty_can_be_followed_and_listed(fleet: Fleet) -> None:
    await execute("DELETE FROM log_entry")
    async with subscribed(fleet.tester, STATUS, fleet.token, deviceId=ID) as stream:
        snapshot = await stream.next()
        await order(fleet.product, "ONLINE", ID, kind="status")

        assert (await stream.next())["change"] == "ONLINE"
    async with subscribed(fleet.tester, STATUS, fleet.token, deviceId=ID, after=snapshot["cursor"]) as stream:
        assert [message["change"] for message in await stream.take(2)] == ["SNAPSHOT", "ONLINE"]
