"""What the log says to devices connected here: one reader for all of them, and decisions taken together or at a bounded pace."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from fleet.devices.connecting import REPLACED, Standing
from gateway.connection import Connection
from gateway.protocol import Closing
from models.log import DeviceChange, EntryKind
from models.transaction import detached
from realtime.cursor import Gap
from realtime.dispatcher import WHOLE_LOG, Dispatcher, Filter, Reader
from realtime.log import FAILURES, Entry

logger: Final = logging.getLogger("flotilla.gateway")

PACE_PER_S: Final = 200  # sessions a second that decide again after a release
AT_ONCE: Final = 8  # pieces of decisions under way: each takes a connection to the database
TOGETHER: Final = 100  # sessions in a piece
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
        "standing",
        "updates_enabled",
        "waiting",
    )

    def __init__(self, connection: "Connection[Seat]", device_id: str, product_number: int) -> None:
        self.connection = connection
        self.device_id = device_id
        self.product_number = product_number  # whose log is listened to
        self.epoch = 0
        self.standing: Standing | None = None
        self.updates_enabled = True
        self.has_looked = False  # at what it should run, while it was willing to be told
        self.heard_at = 0.0  # of the event loop's clock, as last noted
        self.waiting: list[Entry] | None = []  # None once the hello is taken in

    @property
    def session_id(self) -> str:
        return f"{self.device_id}-{self.epoch}"

    @property
    def quarantined(self) -> bool:
        return self.standing is None or not self.standing.has_rights


class Considering:
    """Sessions that are to decide which firmware they should run: `soon`, or `in_turn` with all the others of a release.

    `consider` is given sessions, each with whether its standing is to be read anew before.
    """

    def __init__(self, consider: Callable[[dict[Seat, bool]], Awaitable[None]]) -> None:
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
            if not self._soon and not self._in_turn:
                self._woken.clear()
                continue
            await self._room.acquire()
            is_paced = not self._soon
            self._begin(_taken(self._soon, TOGETHER) or _taken(self._in_turn, 1))
            if is_paced:
                await asyncio.sleep(random.uniform(0, 2 / PACE_PER_S))

    def _begin(self, seats: dict[Seat, bool]) -> None:
        if seats:
            detached(self._some(seats), name="consider devices")
        else:
            self._room.release()

    async def _some(self, seats: dict[Seat, bool]) -> None:
        try:
            await self._consider(seats)
        except FAILURES as error:
            logger.warning("A decision waits for the database: %s: %s", type(error).__name__, error)
            await asyncio.sleep(AGAIN_S)
            for seat, refresh in seats.items():
                self.in_turn(seat, refresh=refresh)
        except Exception:
            logger.exception("deciding for %s failed", ", ".join(seat.device_id for seat in seats))
        finally:
            self._room.release()


def _taken(queue: dict[Seat, bool], at_most: int) -> dict[Seat, bool]:
    return {seat: queue.pop(seat) for seat in list(itertools.islice(queue, at_most))}


class Post:
    """Where the devices connected here are told what the log says to them: one reader of the whole log for the process."""

    def __init__(self, dispatcher: Dispatcher, considering: Considering) -> None:
        self._dispatcher = dispatcher
        self._considering = considering
        self._of_device: dict[str, tuple[Seat, ...]] = {}  # two of one device, while the newer replaces the older
        self._of_product: dict[int, dict[Seat, None]] = {}

    def join(self, seat: Seat) -> None:
        """From now on the seat is told of what is committed."""
        self._of_device[seat.device_id] = (*self._of_device.get(seat.device_id, ()), seat)
        self._of_product.setdefault(seat.product_number, {})[seat] = None

    def leave(self, seat: Seat) -> None:
        """Harmless when it has left already."""
        seats = self._of_device.get(seat.device_id, ())
        if seat not in seats:
            return
        if others := tuple(each for each in seats if each is not seat):
            self._of_device[seat.device_id] = others
        else:
            del self._of_device[seat.device_id]
        self._leave_product(seat)

    def move(self, seat: Seat, product_number: int) -> None:
        """It stands in another product now."""
        if seat.product_number == product_number:
            return
        self._leave_product(seat)
        seat.product_number = product_number
        if seat in self._of_device.get(seat.device_id, ()):
            self._of_product.setdefault(product_number, {})[seat] = None

    def settle(self, seat: Seat) -> None:
        """The hello is taken in: what was said meanwhile counts now."""
        waiting, seat.waiting = seat.waiting or [], None
        for entry in waiting:
            obey(seat, entry, self._considering)

    async def open(self) -> Reader:
        """The reader that `run` reads: of everything committed once this has returned."""
        return await self._dispatcher.subscribe(WHOLE_LOG, only=Filter(devices=self._concerns))

    async def run(self, reader: Reader) -> None:
        async for found in reader:
            if isinstance(found, Gap):
                for seats in self._of_product.values():
                    for seat in seats:
                        self._considering.in_turn(seat, refresh=True)
                continue
            for entry in found:
                await self._hand_over(entry)

    async def _hand_over(self, entry: Entry) -> None:
        if entry.device_id is not None:
            for seat in self._of_device.get(entry.device_id, ()):
                obey(seat, entry, self._considering)
            return
        for place, seat in enumerate(tuple(self._of_product.get(entry.product_number, ()))):
            obey(seat, entry, self._considering)
            if place % SPREAD == SPREAD - 1:
                await asyncio.sleep(0)

    def _concerns(self, device_id: str | None) -> bool:
        return device_id is None or device_id in self._of_device

    def _leave_product(self, seat: Seat) -> None:
        seats = self._of_product[seat.product_number]
        del seats[seat]
        if not seats:
            del self._of_product[seat.product_number]


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
