"""Doors of what happens now: subscriptions, the history they go on from, publishing, and asking connected devices."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from errors import InvalidInput
from fleet import scope
from fleet.devices import calling
from fleet.events import following, publishing
from fleet.events.following import Authority, Followed, Following, Here
from fleet.reaching import must_use
from models.device import Device
from models.log import DeviceChange, EntryKind
from models.product import Product
from realtime import history, log
from realtime.cursor import Cursor, Gap
from realtime.dispatcher import AGAIN_S, Filter, Topic
from realtime.history import Selection
from realtime.log import FAILURES, Entry
from realtime.named import Held
from realtime.sources import Level, Message, Source
from resolvers.context import Context
from resolvers.paging import Page, Slice, given, shape

Answer = Mapping[str, Any]
Found = Sequence[Entry] | Gap | Here
Told = TypeVar("Told", bound=Message)

log_of_failures = logging.getLogger(__name__)

FRESH_S = 0.1  # what was found out of a viewer so shortly before a look serves for it too
NO_DEVICE = "0" * 24  # stands for the device of an event that was published through the API


class EventMessage(NamedTuple):
    cursor: Cursor
    event: Entry | None
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class DeviceStatusMessage:
    cursor: Cursor
    at: datetime
    device: Device | None
    change: str
    gap: Gap | None = None


# ── subscriptions ──
class LiveStream(Source, Generic[Told]):
    """A subscription of the log: whose way along it is a Following, and what is told of it."""

    def __init__(
        self,
        context: Context,
        following: Following,
        tell: Callable[[Following, Found], Awaitable[list[Told]]],
        tell_at_once: Callable[[Sequence[Entry]], list[Told]] | None = None,
    ) -> None:
        self._context = context
        self._following = following
        self._tell = tell
        self._tell_at_once = tell_at_once  # what is told of entries, if that takes nothing but them

    @property
    def topic(self) -> Topic:
        return self._following.topic

    @property
    def only(self) -> Filter:
        return self._following.only

    @property
    def authority_key(self) -> Hashable:
        return self._following.authority_key

    @property
    def checked_at(self) -> float:
        return self._following.checked_at

    def view(self, *, looks: bool) -> Hashable:
        return self._following.view(looks=looks)

    async def check(self) -> Authority | None:
        return await self._following.check(within_s=FRESH_S)

    def renew(self, authority: Authority | None) -> None:
        self._following.renew(authority)

    @property
    def named(self) -> Held | None:
        return self._following.held

    async def release(self) -> None:
        await self._following.release()

    def before_message(self) -> None:
        self._context.renew(self._following.viewer)

    async def messages(self, entries: Sequence[Entry]) -> list[Told]:
        return await self._tell(self._following, await self._following.visible(entries))

    def messages_at_once(self, entries: Sequence[Entry]) -> list[Told] | None:
        seen = self._following.visible_at_once(entries)
        return None if seen is None or self._tell_at_once is None else self._tell_at_once(seen)

    async def read(self, begin: Cursor | Gap | int | None = None, *, is_slow: bool = False) -> AsyncGenerator[Sequence[Told] | Level, None]:
        async with aclosing(self._following.read(begin, is_slow=is_slow)) as parts:
            async for part in parts:
                yield part if isinstance(part, Level) else await self._told(part)

    async def __aiter__(self) -> AsyncGenerator[Told, None]:
        try:
            async with aclosing(self.read()) as parts:
                async for part in parts:
                    for message in () if isinstance(part, Level) else part:
                        self.before_message()
                        yield message
        finally:
            await self.release()

    async def _told(self, found: Found) -> list[Told]:
        """Entries wait for a database that is away; they are still there when it is back."""
        while True:
            try:
                return await self._tell(self._following, found)
            except FAILURES as error:
                log_of_failures.warning("A stream waits for the database: %s: %s", type(error).__name__, error)
                await asyncio.sleep(AGAIN_S)


async def events(
    context: Context,
    *,
    product_id: int,
    device_id: str | None = None,
    group: str | None = None,
    name_prefix: str | None = None,
    after: str | None = None,
    stream: str | None = None,
) -> LiveStream[EventMessage]:
    followed = Followed("event.read", (EntryKind.EVENT,), product_id, device_id, group, name_prefix or "")
    found = await following.follow(followed, after=after, stream=stream, house=context.house, by=context.viewer)
    return LiveStream(context, found, _event_messages, _events_told)


async def device_status(
    context: Context,
    *,
    product_id: int | None = None,
    device_id: str | None = None,
    group: str | None = None,
    after: str | None = None,
    stream: str | None = None,
) -> LiveStream[DeviceStatusMessage]:
    followed = Followed("device.read", (EntryKind.STATUS,), product_id, device_id, group)
    found = await following.follow(followed, after=after, stream=stream, house=context.house, by=context.viewer)
    return LiveStream(context, found, _status_messages)


async def _event_messages(stream: Following, found: Found) -> list[EventMessage]:
    if isinstance(found, Here):
        return []
    if isinstance(found, Gap):
        return [EventMessage(found.to, None, found)]
    return _events_told(found)


def _events_told(entries: Sequence[Entry]) -> list[EventMessage]:
    return [EventMessage(entry.cursor, entry) for entry in entries]


async def _status_messages(stream: Following, found: Found) -> list[DeviceStatusMessage]:
    if isinstance(found, Gap):
        return [DeviceStatusMessage(found.to, datetime.now(UTC), None, DeviceChange.GAP, found)]
    if isinstance(found, Here):
        return await _snapshot(stream, found)
    devices = await following.fresh_devices(stream.viewer, {entry.device_id for entry in found if entry.device_id})
    return [DeviceStatusMessage(each.cursor, each.published_at, devices.get(each.device_id or ""), each.name) for each in found]


async def _snapshot(stream: Following, here: Here) -> list[DeviceStatusMessage]:
    """The state of a single followed device; there is none of a whole product."""
    device_id = stream.followed.device_id
    if device_id is None:
        return []
    devices = await following.fresh_devices(stream.viewer, [device_id])
    return [DeviceStatusMessage(here.cursor, datetime.now(UTC), devices.get(device_id), DeviceChange.SNAPSHOT)]


# ── history ──
async def product_events(
    product: Product,
    context: Context,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    filter: object,
) -> Page[Entry]:
    known = await scope.product(context.viewer, product.number)
    context.viewer.must("event.read", known.organization.id, known.id)
    return await _page(await following.selection(context.viewer, known, **given(filter)), Slice.of(first, after, last, before))


async def device_events(
    device: Device,
    context: Context,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    filter: object,
) -> Page[Entry]:
    known = await scope.device(context.viewer, device.device_id)
    must_use(known, "event.read", context.viewer)
    asked = given(filter)
    is_own = asked.pop("device_id", known.device_id) == known.device_id
    chosen = await following.device_selection(context.viewer, known, is_own=is_own, **asked)
    return await _page(chosen, Slice.of(first, after, last, before))


async def _page(chosen: Selection, part: Slice) -> Page[Entry]:
    place = None if part.cursor is None else await _position(part.cursor, chosen)
    after, before = (None, place) if part.backward else (place, None)
    found = await history.page(chosen, limit=part.size + 1, after=after, before=before, backward=part.backward)
    ordered = found[::-1] if part.backward else found
    return shape(ordered, part, lambda entry: str(entry.cursor), partial(history.count, chosen))


async def _position(cursor: str, chosen: Selection) -> int:
    """Where a page goes on: behind what has been purged meanwhile, if that is further."""
    found = await log.check_cursor(cursor, product_number=chosen.product_number)
    if isinstance(found, Gap) and found.reason == "RESTORED":
        raise InvalidInput("The database was restored since this cursor was given: begin the list again.", path=("after",))
    return found.to.position if isinstance(found, Gap) else found


# ── an event ──
def event_device_id(entry: Entry) -> str:
    return entry.device_id or NO_DEVICE


async def event_device(entry: Entry, context: Context) -> Device | None:
    return None if entry.device_id is None else await context.loaders.in_scope(context.viewer).load(entry.device_id)


# ── doing ──
async def publish_event(context: Context, *, product_id: int, name: str, data: str | None = None) -> Answer:
    product = await scope.product(context.viewer, product_id)
    settings = context.house.settings
    return {"event": await publishing.publish_event(product, name, data=data, settings=settings, by=context.viewer)}


async def call_function(
    context: Context, *, device_id: str, name: str, argument: str | None = None, timeout_seconds: int | None = None
) -> Answer:
    device = await scope.device(context.viewer, device_id)
    house, by = context.house, context.viewer
    value = await calling.call_function(device, name, argument=argument or "", timeout_s=timeout_seconds, house=house, by=by)
    return {"return_value": value}


async def read_variable(context: Context, *, device_id: str, name: str) -> Answer:
    device = await scope.device(context.viewer, device_id)
    return {"value": await calling.read_variable(device, name, house=context.house, by=context.viewer)}


async def ping_device(context: Context, *, device_id: str) -> Answer:
    device = await scope.device(context.viewer, device_id)
    return {"online": await calling.ping(device, house=context.house, by=context.viewer)}
