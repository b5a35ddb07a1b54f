"""What the log says to devices connected here: one reader for each of their products, and decisions taken at a bounded pace."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from fleet.connecting import REPLACED, Standing
from gateway.connection import Connection
from gateway.protocol import Closing
from models.log import DeviceChange, EntryKind
from models.transaction import detached
from realtime.cursor import Gap
from realtime.dispatcher import Dispatcher, Filter, Reader
from realtime.log import FAILURES, Entry

logger: Final = logging.getLogger("flotilla.gateway")

PACE_PER_S: Final = 200  # sessions a second that decide again after a release
AT_ONCE: Final = 8  # decisions under way: each takes a connection to the database
AGAIN_S: Final = 1.0  # until a decision is tried again that the database did not answer
WAITING_MAX: Final = 256  # entries for a device whose hello is still being taken in
SPREAD: Final = 500  # sessions told before others have their turn
MOVES: Final = (DeviceChange.ADDED, DeviceChange.REMOVED, DeviceChange.CLAIMED, DeviceChange.UNCLAIMED)


class Seat:
    """A device's place in this process, from before its hello is taken in to its goodbye; the admission of its connection."""

    __slots__ = (
        "connection",
        "device_id",
        "epoch",
        "has_looked",
        "heard_at",
        "product_number",
        "session_id",
        "standing",
        "updates_enabled",
        "waiting",
    )

    def __init__(self, connection: "Connection[Seat]", device_id: str, product_number: int) -> None:
        self.connection = connection
        self.device_id = device_id
        self.product_number = product_number  # whose log is listened to
        self.session_id = ""
        self.epoch = 0
        self.standing: Standing | None = None
        self.updates_enabled = True
        self.has_looked = False  # at what it should run, while it was willing to be told
        self.heard_at = 0.0  # of the event loop's clock, as last noted
        self.waiting: list[Entry] | None = []  # None once the hello is taken in

    @property
    def quarantined(self) -> bool:
        return self.standing is None or not self.standing.has_rights


class Considering:
    """Sessions that are to decide which firmware they should run: `soon`, or `in_turn` with all the others of a release."""

    def __init__(self, consider: Callable[[Seat, bool], Awaitable[None]]) -> None:
        self._consider = consider
        self._soon: dict[Seat, bool] = {}
        self._in_turn: dict[Seat, bool] = {}
        self._woken = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)

    def soon(self, seat: Seat, *, refresh: bool = False) -> None:
        """With `refresh` its standing is read anew before."""
        self._soon[seat] = self._soon.get(seat, False) or self._in_turn.pop(seat, False) or refresh
        self._woken.set()

    def in_turn(self, seat: Seat, *, refresh: bool = False) -> None:
        self._in_turn[seat] = self._in_turn.get(seat, False) or refresh
        self._woken.set()

    def forget(self, seat: Seat) -> None:
        self._soon.pop(seat, None)
        self._in_turn.pop(seat, None)

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            queue = self._soon or self._in_turn
            if not queue:
                self._woken.clear()
                continue
            await self._room.acquire()
            seat = next(iter(queue), None)
            if seat is None:
                self._room.release()
                continue
            is_paced = queue is self._in_turn
            detached(self._one(seat, queue.pop(seat)), name="consider a device")
            if is_paced:
                await asyncio.sleep(random.uniform(0, 2 / PACE_PER_S))

    async def _one(self, seat: Seat, refresh: bool) -> None:
        try:
            await self._consider(seat, refresh)
        except FAILURES as error:
            logger.warning("A decision waits for the database: %s: %s", type(error).__name__, error)
            await asyncio.sleep(AGAIN_S)
            self.in_turn(seat, refresh=refresh)
        except Exception:
            logger.exception("deciding for %s failed", seat.device_id)
        finally:
            self._room.release()


class Posts:
    """For each product with a device connected here, one reader of its log that hands each entry to whom it concerns."""

    def __init__(self, dispatcher: Dispatcher, considering: Considering) -> None:
        self._dispatcher = dispatcher
        self._considering = considering
        self._posts: dict[int, _Post] = {}

    async def join(self, seat: Seat) -> None:
        """Listen for the seat to its product's log: to everything committed once this has returned."""
        post = self._posts.get(seat.product_number)
        if post is None:
            post = self._posts[seat.product_number] = _Post(seat.product_number, self._dispatcher, self._considering)
        post.seats.setdefault(seat.device_id, []).append(seat)
        try:
            await asyncio.shield(post.opening)
        except BaseException:
            self.leave(seat)
            raise

    def leave(self, seat: Seat) -> None:
        post = self._posts.get(seat.product_number)
        if post is None or seat not in post.seats.get(seat.device_id, ()):
            return
        post.seats[seat.device_id].remove(seat)
        if not post.seats[seat.device_id]:
            del post.seats[seat.device_id]
        if not post.seats:
            del self._posts[seat.product_number]
            post.close()

    def settle(self, seat: Seat) -> None:
        """The hello is taken in: what was said meanwhile counts now."""
        waiting, seat.waiting = seat.waiting or [], None
        for entry in waiting:
            obey(seat, entry, self._considering)

    def close(self) -> None:
        for post in self._posts.values():
            post.close()
        self._posts.clear()


class _Post:
    def __init__(self, product_number: int, dispatcher: Dispatcher, considering: Considering) -> None:
        self.seats: dict[str, list[Seat]] = {}  # two of one device, while the newer replaces the older
        self._considering = considering
        self._reader: Reader | None = None
        self._is_closed = False
        self.opening = detached(self._open(product_number, dispatcher), name="listen to a product's orders")

    def close(self) -> None:
        self._is_closed = True
        if self._reader is not None:
            self._reader.close()

    async def _open(self, product_number: int, dispatcher: Dispatcher) -> None:
        self._reader = await dispatcher.subscribe(
            product_number, only=Filter(devices=lambda device_id: device_id is None or device_id in self.seats)
        )
        if self._is_closed:
            self._reader.close()
        detached(self._run(self._reader), name="orders of a product")

    async def _run(self, reader: Reader) -> None:
        async for found in reader:
            if isinstance(found, Gap):
                for seat in self._all():
                    self._considering.in_turn(seat, refresh=True)
                continue
            for entry in found:
                await self._hand_over(entry)

    async def _hand_over(self, entry: Entry) -> None:
        if entry.device_id is not None:
            for seat in tuple(self.seats.get(entry.device_id, ())):
                obey(seat, entry, self._considering)
            return
        for place, seat in enumerate(self._all()):
            obey(seat, entry, self._considering)
            if place % SPREAD == SPREAD - 1:
                await asyncio.sleep(0)

    def _all(self) -> list[Seat]:
        return [seat for seats in self.seats.values() for seat in seats]


def obey(seat: Seat, entry: Entry, considering: Considering) -> None:
    """Do what an entry of the log means for one session; while its hello is being taken in, keep it."""
    if seat.waiting is not None:
        if len(seat.waiting) >= WAITING_MAX:
            seat.connection.close(Closing.OVERLOADED, "too much to say before the welcome")
        else:
            seat.waiting.append(entry)
        return
    match entry.kind, entry.name:
        case EntryKind.EVENT, _ if entry.device_id is None:
            seat.connection.event(entry.name, entry.data)
        case EntryKind.STATUS, name if name in MOVES:
            considering.soon(seat, refresh=True)
        case EntryKind.ORDER, "consider":
            considering.soon(seat, refresh=True)
        case EntryKind.ORDER, "release":
            considering.in_turn(seat)
        case EntryKind.ORDER, "cancel":
            seat.connection.cancel(entry.data or "")
        case EntryKind.ORDER, "close":
            _close(seat, entry.data or "")


def _close(seat: Seat, data: str) -> None:
    code, _, epoch = data.partition(" ")
    if code == str(REPLACED) and seat.epoch >= int(epoch):
        return  # it is the newer one
    seat.connection.close(Closing(int(code)), "closed by an order")
