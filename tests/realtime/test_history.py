"""Pages of the log: filtered, strictly between two cursors, oldest first in both directions."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from models.device import DeviceGroup, GroupMembership
from models.log import DeviceChange, EntryKind
from models.transaction import transaction
from realtime import history, log
from realtime.history import Selection
from settings import Settings
from tests.realtime.samples import NOON, PRODUCT, a_fleet, an_event, device_id


async def fill() -> list[log.Entry]:
    """Six events a minute apart, a status among them, and one of another product."""
    hour = [NOON + timedelta(minutes=minute) for minute in range(6)]
    async with transaction():
        return await log.append(
            an_event("temp/a", device_id=device_id(1), published_at=hour[0]),
            an_event("Temp/b", device_id=device_id(2), published_at=hour[1]),
            an_event(DeviceChange.ONLINE, kind=EntryKind.STATUS, device_id=device_id(1), published_at=hour[1]),
            an_event("temp%c", device_id=device_id(1), published_at=hour[2]),
            an_event("temp_d", device_id=device_id(3), published_at=hour[3]),
            an_event("other", product_number=2000, device_id=device_id(9), published_at=hour[3]),
            an_event("temp/e", published_at=hour[4]),
            an_event("tempxf", device_id=device_id(1), published_at=hour[5]),
        )


async def names(selection: Selection, limit: int = 100, **page: Any) -> Sequence[str]:
    return [entry.name for entry in await history.page(selection, limit=limit, **page)]


ALL = ["temp/a", "Temp/b", "temp%c", "temp_d", "temp/e", "tempxf"]


async def test_a_product_shows_its_events_oldest_first(db: Settings) -> None:
    await fill()

    assert await names(Selection(PRODUCT)) == ALL
    assert await history.count(Selection(PRODUCT)) == 6


async def test_pages_forward_and_backward_meet_without_overlap(db: Settings) -> None:
    await fill()
    whole = await history.page(Selection(PRODUCT), limit=100)

    for size in range(1, 8):
        forward: list[log.Entry] = []
        while page := await history.page(Selection(PRODUCT), limit=size, after=forward[-1].position if forward else None):
            forward += page
        backward: list[log.Entry] = []
        while page := await history.page(Selection(PRODUCT), limit=size, before=backward[0].position if backward else None, backward=True):
            backward = page + backward
        assert forward == backward == whole


async def test_after_and_before_are_both_exclusive(db: Settings) -> None:
    entries = await fill()

    assert await names(Selection(PRODUCT), after=entries[0].position, before=entries[4].position) == ["Temp/b", "temp%c"]


async def test_a_device_shows_its_own_and_kinds_choose(db: Settings) -> None:
    await fill()

    assert await names(Selection(device_ids=[device_id(1)])) == ["temp/a", "temp%c", "tempxf"]
    assert await names(Selection(PRODUCT, device_ids=[device_id(1), device_id(3)])) == ["temp/a", "temp%c", "temp_d", "tempxf"]
    assert await names(Selection(PRODUCT, device_ids=[device_id(9)])) == []
    assert await names(Selection(PRODUCT, device_ids=[])) == []
    assert await names(Selection(PRODUCT, kinds=[EntryKind.STATUS])) == ["ONLINE"]


async def test_the_prefix_is_literal_and_case_sensitive(db: Settings) -> None:
    await fill()

    assert await names(Selection(PRODUCT, name_prefix="temp/")) == ["temp/a", "temp/e"]
    assert await names(Selection(PRODUCT, name_prefix="Temp")) == ["Temp/b"]
    assert await names(Selection(PRODUCT, name_prefix="temp_")) == ["temp_d"]
    assert await names(Selection(PRODUCT, name_prefix="temp%")) == ["temp%c"]
    assert await names(Selection(PRODUCT, name_prefix="emp")) == []


async def test_since_is_inclusive_and_until_exclusive(db: Settings) -> None:
    await fill()
    since, until = NOON + timedelta(minutes=1), NOON + timedelta(minutes=4)

    assert await names(Selection(PRODUCT, since=since, until=until)) == ["Temp/b", "temp%c", "temp_d"]
    assert await history.count(Selection(PRODUCT, since=since, until=until)) == 3


async def test_a_group_shows_what_its_devices_said(db: Settings) -> None:
    product = await a_fleet()
    group = await DeviceGroup.create(product=product, name="emea", path="emea", created_at=NOON)
    await GroupMembership.create(group=group, device_id=device_id(3))
    await fill()

    assert await names(Selection(PRODUCT, group_ids=[group.id])) == ["temp_d"]
    assert await names(Selection(PRODUCT, group_ids=[])) == []
