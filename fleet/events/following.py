"""Following a product's log: who may, from which place, and until they may no longer."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Hashable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from auth.credentials import viewer_again
from auth.viewer import Viewer
from billing.access import require_active_for
from errors import BadRequest, NotFound
from fleet import scope
from fleet.authority import authority_of
from fleet.devices import owning
from fleet.devices.placing import number_of
from fleet.house import House
from fleet.products.grouping import at_or_below
from fleet.reaching import must_use
from fleet.seeing import Sight, sight
from models.device import Device, DeviceGroup
from models.log import DeviceChange, EntryKind
from models.product import Product
from models.sql import rows
from realtime import history, log
from realtime.cursor import Cursor, Gap
from realtime.cursor import parse as parse_cursor
from realtime.dispatcher import AGAIN_S, Filter, Reader, Topic
from realtime.history import Selection
from realtime.log import FAILURES, Entry
from realtime.named import Held, Name
from realtime.sources import PIECE, RECHECK_S, Level

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Followed:
    """What a viewer asks to follow. `action` is what they must be allowed; product or device is given, or both."""

    action: str
    kinds: tuple[str, ...]
    product_id: int | None = None
    device_id: str | None = None
    group: str | None = None
    name_prefix: str = ""


class Here(NamedTuple):
    """The place where the stream goes on: said at its beginning, and after each gap."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Authority:
    """Who follows, and what they see of the product, as was asked at a moment of the loop's clock."""

    viewer: Viewer
    product_number: int
    sight: Sight
    asked_at: float


class Following:
    """One viewer's way along the log. `viewer` is whoever follows, as of less than a second ago."""

    def __init__(
        self,
        followed: Followed,
        authority: Authority,
        begin: Cursor | Gap,
        group: DeviceGroup | None,
        house: House,
        held: Held | None = None,
    ) -> None:
        self.followed = followed
        self.held = held  # where how far it was delivered is remembered, if it has a name
        self.begin = begin
        self.only = Filter(kinds=followed.kinds, name_prefix=followed.name_prefix)
        self._authority = authority
        self._group = group
        self._house = house
        self.checked_at = authority.asked_at  # when what is known of the viewer was asked

    async def release(self) -> None:
        """Nobody follows any more."""
        if self.held is not None:
            await self._house.named_streams.release(self.held)

    @property
    def viewer(self) -> Viewer:
        return self._authority.viewer

    @property
    def product_number(self) -> int:
        return self._authority.product_number

    @property
    def sight(self) -> Sight:
        """What they see of the product, as of less than a second ago."""
        return self._authority.sight

    @property
    def topic(self) -> Topic:
        return self.followed.device_id or self._authority.product_number

    # ── what it may see ──
    def view(self, *, looks: bool) -> Hashable:
        """Everything that decides what visible() and the fields of an answer show: who has an equal view may share them.

        The fields of the log's own entries are the same for all who see the entry; only with `looks` does it matter who looks.
        """
        seen = (self.followed, self._group and self._group.id, self._authority.product_number, self.sight)
        return (seen, authority_of(self.viewer) if looks else None)

    @property
    def authority_key(self) -> Hashable:
        token, followed = self.viewer.token, self.followed
        return (token.id if token else None, followed.action, followed.product_id, followed.device_id)

    async def check(self, *, within_s: float = RECHECK_S) -> Authority | None:
        """What the viewer may, as found out for any of their streams within that time; None while the database is away.

        Such a database takes no authority from anybody, and gives out no entries.
        Raises Unauthenticated, NotFound, Forbidden, OrganizationInactive.
        """
        viewer, followed = self.viewer, self.followed
        with suppress(*FAILURES):
            found: Authority = await self._house.authorities.find(
                self.authority_key, lambda: _authorize(viewer, followed), within_s=within_s
            )
            return found
        return None

    def renew(self, authority: Authority | None) -> None:
        """What was found; where nobody can tell, what was known stands until the next look."""
        if authority is None:
            self.checked_at = _now()
        else:
            self._authority, self.checked_at = authority, authority.asked_at

    async def visible(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of the product the device is in, of what the viewer sees of it, and of the group, each as it is now."""
        known = self.visible_at_once(entries)
        if known is not None:
            return known
        own = self._of_the_product(entries)
        if not self.sight.is_whole:
            own = await owning.entries_seen(self.sight, own)
        if self._group is None or not own:
            return own
        inside = await _inside(self._group.id, {entry.device_id for entry in own if entry.device_id is not None})
        return [entry for entry in own if entry.device_id in inside]

    def visible_at_once(self, entries: Sequence[Entry]) -> list[Entry] | None:
        """The same, where nothing but the entries decides it; None where the database has to be asked."""
        own = self._of_the_product(entries)
        return own if not own or (self._group is None and self.sight.is_whole) else None

    def _of_the_product(self, entries: Sequence[Entry]) -> list[Entry]:
        number = self._authority.product_number
        return [entry for entry in entries if entry.product_number == number]

    # ── at its own pace ──
    async def read(
        self, begin: Cursor | Gap | int | None = None, *, is_slow: bool = False
    ) -> AsyncGenerator[Sequence[Entry] | Gap | Here | Level, None]:
        """Entries in order, one or more at a time, gaps, and places. Ends with an error once the viewer may no longer follow.

        Level is said whenever nothing in memory is left to read. A position as `begin` goes on where a shared stream was left, without a
        Here. With `is_slow` flaps are merged. Raises Unauthenticated, NotFound, Forbidden, OrganizationInactive.
        """
        begin = self.begin if begin is None else begin
        if isinstance(begin, Gap):
            begin = await self._own(begin)
            yield begin
            begin = begin.to
        if isinstance(begin, Cursor):
            yield Here(begin)
            begin = begin.position
        with self._house.dispatcher.read_on(self.topic, after=begin, only=self.only) as reader:
            async with aclosing(self._batches(reader)) as batches:
                async for found in batches:
                    if isinstance(found, Gap):
                        gap = await self._own(found)
                        yield gap
                        yield Here(gap.to)
                    elif isinstance(found, Level):
                        yield found
                    elif seen := await self._seen(found, is_slow):
                        yield seen

    async def _batches(self, reader: Reader) -> AsyncGenerator[Sequence[Entry] | Gap | Level, None]:
        """What the reader finds, in pieces, with a look at the viewer's authority before each and at least every second."""
        finding = None
        try:
            while True:
                found = await reader.next(wait=False)
                if found == []:
                    yield Level(max(reader.position, self._house.dispatcher.position))
                    finding = asyncio.ensure_future(reader.next())
                    while not (await asyncio.wait({finding}, timeout=max(self.checked_at + RECHECK_S - _now(), 0.0)))[0]:
                        await self._check()
                    found, finding = finding.result(), None
                if found is None:
                    return
                await self._check()
                for piece in [found] if isinstance(found, Gap) else _pieces(found):
                    yield piece
                    await self._check()
        finally:
            if finding is not None:
                finding.cancel()
                await asyncio.gather(finding, return_exceptions=True)

    async def _check(self) -> None:
        if _now() >= self.checked_at + RECHECK_S:
            self.renew(await self.check())

    async def _seen(self, entries: Sequence[Entry], is_slow: bool) -> list[Entry]:
        while True:
            try:
                return await self.visible(without_flaps(entries) if is_slow else entries)
            except FAILURES as error:
                logger.warning("A stream waits for the database: %s: %s", type(error).__name__, error)
                await asyncio.sleep(AGAIN_S)

    async def _own(self, gap: Gap) -> Gap:
        """The same gap, ending at a place of this product, where a client can come back to."""
        mine = Selection(product_number=self._authority.product_number, kinds=())
        last = await history.page(mine, limit=1, before=gap.to.position + 1, backward=True)
        return Gap(gap.reason, gap.after, last[0].cursor) if last else gap


def without_flaps(entries: Sequence[Entry]) -> list[Entry]:
    """Without each coming and going of a device that a later one of these has overtaken: for who reads too slowly to care.

    Source: realtime, "The promise", 4.
    """
    last = {entry.device_id: entry.position for entry in entries if _is_flap(entry)}
    return [entry for entry in entries if not _is_flap(entry) or last[entry.device_id] == entry.position]


def _is_flap(entry: Entry) -> bool:
    return entry.kind == EntryKind.STATUS and entry.name in (DeviceChange.ONLINE, DeviceChange.OFFLINE)


async def follow(followed: Followed, *, after: str | None, stream: str | None = None, house: House, by: Viewer) -> Following:
    """Begin to follow: from behind the cursor `after`, or from where the named `stream` was left, or from now on.

    Nothing is lost or repeated in between.
    Raises NotFound for a stranger's product, device or group; InvalidInput for what is no cursor, or another product's.
    Source: reliability, "What a subscriber and a device are promised".
    """
    if followed.product_id is None and (followed.device_id is None or followed.group is not None):
        raise BadRequest("Give productId, or deviceId alone.")
    by.must_be_somebody()
    authority = await _authorize(by, followed)
    number, group = authority.product_number, None
    if followed.group is not None:
        group = await scope.group(by, await _product(by, number), followed.group)
    held = None
    if stream is not None:
        held = await house.named_streams.take(Name(by.identity or "", number, followed.kinds[0], stream))
        after = after or held.cursor
    try:
        begin = await log.head(number) if after is None else await _place(after, number)
        if held is not None and isinstance(begin, Cursor):
            await house.named_streams.begin(held, begin)
    except BaseException:
        if held is not None:
            await house.named_streams.release(held)
        raise
    return Following(followed, authority, begin, group, house, held)


async def selection(
    viewer: Viewer,
    product: Product,
    *,
    device_id: str | None = None,
    group: str | None = None,
    name_prefix: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Selection:
    """Which events of an already reached product its history is to show. Raises NotFound for a group it does not have."""
    groups = None if group is None else await at_or_below(await scope.group(viewer, product, group))
    if groups is None and (walls := viewer.walls_in(product.id)):
        groups = list(walls.groups)
    device_ids = None if device_id is None else [scope.device_key(device_id)]
    return Selection(product.number, device_ids, groups, name_prefix=name_prefix, since=since, until=until)


async def device_selection(
    viewer: Viewer,
    device: Device,
    *,
    is_own: bool,
    group: str | None = None,
    name_prefix: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Selection:
    """The same for one device, within the product it is in now; nothing at all where the filter names another device.

    A customer sees what came since the device is theirs.
    """
    ids = [device.device_id] if is_own else []
    if device.product is not None and ids:
        chosen = await selection(
            viewer, device.product, device_id=device.device_id, group=group, name_prefix=name_prefix, since=since, until=until
        )  # fmt: skip
        return owning.own_part(chosen, device, viewer)
    return Selection(number_of(device.product), [])


async def _authorize(viewer: Viewer, followed: Followed) -> Authority:
    asked_at = _now()
    fresh = await viewer_again(viewer, now=datetime.now(UTC))
    if followed.product_id is not None:
        product = await _product(fresh, followed.product_id)
        if fresh.customer is not None:
            fresh.must_with_own(followed.action)
        else:
            fresh.must(followed.action, product.organization.id, product.id)
            require_active_for(fresh, product.organization)
        if followed.device_id is None:
            return Authority(fresh, product.number, sight(fresh, product.id), asked_at)
    device = await scope.device(fresh, followed.device_id or "")
    if followed.product_id is not None and number_of(device.product) != followed.product_id:
        raise NotFound(f"The product has no device {followed.device_id}.", path=("deviceId",))
    if followed.product_id is None:
        must_use(device, followed.action, fresh)
    return Authority(fresh, number_of(device.product), sight(fresh, device.product.id if device.product else None), asked_at)


async def _product(viewer: Viewer, number: int) -> Product:
    """The product followed; a customer follows their own, of which they see what is theirs. Source: details, "Groups as walls"."""
    return await (scope.product(viewer, number) if viewer.customer is None else scope.product_of_customer(viewer.customer, number))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _place(after: str, product_number: int) -> Cursor | Gap:
    found = await log.check_cursor(after, product_number=product_number)
    return found if isinstance(found, Gap) else parse_cursor(after)


def _pieces(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    return [entries[start : start + PIECE] for start in range(0, len(entries), PIECE)]


async def _inside(group_id: int, device_ids: Collection[str]) -> set[str]:
    found = await rows(
        """SELECT membership.device_id
             FROM group_above AS inside JOIN group_membership AS membership ON membership.group_id = inside.group_id
            WHERE inside.above_id = $1 AND membership.device_id = ANY($2)""",
        [group_id, list(device_ids)],
    )
    return {row["device_id"] for row in found}


async def fresh_devices(viewer: Viewer, device_ids: Collection[str]) -> dict[str, Device]:
    """The rows as they are now, of those the viewer may see."""
    found = await scope.devices(viewer).filter(device_id__in=list(device_ids)) if device_ids else []
    return {device.device_id: device for device in found}


async def event(viewer: Viewer, position: int) -> Entry:
    """One published event by its place in the log. Raises NotFound for a stranger's, and once it has been purged."""
    viewer.must_be_somebody()
    found = (await log.read_after(position - 1, kinds=("event",), limit=1)).entries
    missing = NotFound("There is no such event for you.")
    if not found or found[0].position != position:
        raise missing
    product = await _product(viewer, found[0].product_number)
    if viewer.customer is not None:
        viewer.must_with_own("event.read")
    else:
        viewer.must("event.read", product.organization.id, product.id)
    seen = sight(viewer, product.id)
    if not seen.is_whole and not await owning.entries_seen(seen, found[:1]):
        raise missing
    return found[0]
