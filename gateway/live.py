"""The fleet behind the gateway: proofs, presence, events, updates and calls of the devices connected to this process."""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from fleet.devices import connecting
from fleet.devices.connecting import Connected, Credentials, Refused, Report
from fleet.firmware import updating
from fleet.house import House
from fleet.telling import NO_PRODUCT
from gateway import protocol
from gateway.admitting import Proof, prove, report_of
from gateway.connection import Connection, Refusal
from gateway.effects import Answer, DeviceEvent
from gateway.orders import Considering, Post, Seat
from gateway.protocol import Closing
from gateway.server import Gateway
from gateway.together import Together
from models.log import EntryKind
from models.transaction import detached
from realtime.commands import Command
from realtime.log import FAILURES, NewEntry
from realtime.presence import GRACE_S, Leaving

logger: Final = logging.getLogger("flotilla.gateway")

HEARD_EVERY_S: Final = 30.0  # how exact lastHeard is for a device that is online
LEAVE_AGAIN_S: Final = 1.0
COMPANY_S: Final = 0.02  # a hello waits for others, if there has just been one
KEY_MAX_CHARS: Final = 64  # of an event's id, as the log keeps it
REFUSED_KEYS_MAX: Final = 1000  # second keys that were audited lately and are not audited again


class _Asking(NamedTuple):
    """A hello of which nothing is proved yet."""

    hello: protocol.Hello
    connection: Connection[Seat]


class _Proved(NamedTuple):
    """A hello whose proof holds; the seat is taken, and listens."""

    seat: Seat
    report: Report


class LiveFleet:
    """One for each server process; it is made before the house, whose commands it delivers, and serves once it has the house.

    What many devices ask for at the same time is asked of the database together. `refused` counts the publishes refused, by code.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self._house: House | None = None
        self._gateway: Gateway[Seat] | None = None
        self._considering = Considering(self._consider)
        self._post: Post | None = None
        self._seats: set[Seat] = set()
        self._refused_keys: dict[tuple[str, str | None], None] = {}
        # Whoever claims to be a device waits for nobody else who claims it: none of them has proved anything yet.
        self._hellos = Together(
            self._look_up, answered=self._looked_up, failed=self._not_looked_up, pause_s=COMPANY_S, name="look devices up"
        )
        self._proved = Together(
            self._take_in,
            answered=self._taken_in,
            failed=self._not_taken_in,
            key=lambda proved: proved.seat.device_id,
            name="take hellos in",
        )
        self._goodbyes = Together(
            self._let_go, answered=lambda *_: None, failed=self._not_let_go, key=lambda leaving: leaving.device_id, name="let devices go"
        )

    @asynccontextmanager
    async def serving(self, house: House) -> AsyncIterator[Gateway["Seat"]]:
        """The gateway for the route /device. Close its sockets before this ends, or they are left to the lease."""
        self._house, self._post = house, Post(house.dispatcher, self._considering)
        self._gateway = Gateway.of(self, house.settings)
        reader = await self._post.open()
        work = {"considering": self._considering.run(), "heard": self._note_heard(), "orders": self._post.run(reader)}
        tasks = [detached(each, name=name) for name, each in work.items()]
        try:
            yield self._gateway
        finally:
            reader.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ── what the gateway asks ──
    def authenticate(self, hello: protocol.Hello, connection: Connection[Seat]) -> None:
        self._hellos.ask(_Asking(hello, connection))

    async def publish(self, admission: Seat, event: DeviceEvent) -> None:
        standing = admission.standing
        assert standing is not None
        entry = NewEntry(
            standing.product_number, EntryKind.EVENT, event.name, datetime.now(UTC), admission.device_id, event.data, event.device_time,
            event.ttl, standing.firmware_version, _event_key(event.id),
        )  # fmt: skip
        await self._opened().flusher.publish(entry, owner=standing.owner_id)

    async def update_status(self, admission: Seat, status: protocol.UpdateStatus) -> None:
        if await connecting.is_newest(admission.device_id, admission.epoch):
            await updating.reported(
                admission.device_id, status.id, status.state, status.progress, status.error, house=self._opened()
            )  # fmt: skip

    async def updates_enabled(self, admission: Seat, enabled: bool) -> None:
        admission.updates_enabled = enabled
        if enabled:
            self._considering.soon(admission)

    def nacked(self, admission: Seat, code: str) -> None:
        self.refused[code] += 1

    def left(self, admission: Seat, code: Closing | None) -> None:
        self._seats.discard(admission)
        self._considering.forget(admission)
        self._listening().leave(admission)
        self._note(admission)
        self._goodbyes.ask(Leaving(admission.device_id, admission.epoch, GRACE_S if code == Closing.RESTARTING else 0.0))

    @property
    def leaving(self) -> "asyncio.Task[None] | None":
        return self._goodbyes.task

    # ── what the rest of the process asks ──
    async def deliver(self, command: Command) -> None:
        """Hand a call, read or ping to the session it was meant for, and no other; does not wait for the device."""
        commands = self._opened().commands
        connection = self._gateway.of_device.get(command.device_id) if self._gateway is not None else None
        if connection is None or connection.admission is None or connection.admission.epoch != command.epoch:
            await commands.answer(command.id, error="DEVICE_OFFLINE")
        else:
            detached(self._answer(command, _put(command, connection)), name="answer a command")

    def lost(self) -> None:
        """Others took this process for dead: its devices come back and are taken in anew."""
        for connection in list(self._gateway.connections) if self._gateway is not None else ():
            connection.close(Closing.RESTARTING, "come back")

    async def _answer(self, command: Command, asked: "asyncio.Future[Answer]") -> None:
        answer, commands = await asked, self._opened().commands
        if answer.failure in ("DEVICE_OFFLINE", "DEVICE_TIMEOUT"):
            await commands.answer(command.id, error=answer.failure)
        elif answer.failure is not None:
            await commands.answer(command.id, value={"failure": answer.failure, "message": answer.message})
        else:
            await commands.answer(command.id, value={"value": answer.value})

    # ── taking hellos in, and letting go: many at a time ──
    async def _look_up(self, asking: list[_Asking]) -> list[Credentials]:
        return await connecting.credentials([(hello.device_id, hello.product_id) for hello, _ in asking], house=self._opened())

    def _looked_up(self, asking: _Asking, known: Credentials) -> None:
        hello, connection = asking
        proof = prove(hello, connection.nonce, known)
        if not isinstance(proof, Proof):
            self._turn_away(connection, hello.device_id, proof, key=hello.public_key)
            return
        seat = Seat(connection, hello.device_id, known.product_number or NO_PRODUCT)
        self._listening().join(seat)
        self._proved.ask(_Proved(seat, report_of(hello, proof, connection.address)))

    def _not_looked_up(self, asking: _Asking, error: Exception) -> None:
        asking.connection.admitted(Refusal(Closing.OVERLOADED))

    async def _take_in(self, proved: list[_Proved]) -> list[Connected | Refused]:
        return await connecting.hello([each.report for each in proved], house=self._opened(), now=datetime.now(UTC))

    def _taken_in(self, proved: _Proved, connected: Connected | Refused) -> None:
        """The socket may have gone meanwhile: then the connection itself gives the presence back."""
        seat, report = proved
        if isinstance(connected, Refused):
            self._listening().leave(seat)
            self._turn_away(seat.connection, report.device_id, connected, key=report.new_key)
            return
        self._sit_down(seat, connected)
        seat.connection.admitted(seat)

    def _not_taken_in(self, proved: _Proved, error: Exception) -> None:
        self._listening().leave(proved.seat)
        proved.seat.connection.admitted(Refusal(Closing.OVERLOADED))

    async def _let_go(self, leaving: list[Leaving]) -> list[None]:
        await connecting.left(leaving, now=datetime.now(UTC))
        return [None] * len(leaving)

    def _not_let_go(self, leaving: Leaving, error: Exception) -> None:
        if isinstance(error, FAILURES):  # else it would be online for as long as this process lives
            asyncio.get_running_loop().call_later(LEAVE_AGAIN_S, self._goodbyes.ask, leaving)

    def _sit_down(self, seat: Seat, connected: Connected) -> None:
        seat.epoch, seat.standing = connected.epoch, connected.standing
        moved = seat.product_number != connected.standing.product_number
        self._listening().move(seat, connected.standing.product_number)
        self._seats.add(seat)
        self._listening().settle(seat)
        self._considering.soon(seat, refresh=moved)

    def _turn_away(self, connection: Connection[Seat], device_id: str, why: Refused | None, *, key: str | None) -> None:
        shown = (device_id, key)
        if why is Refused.ANOTHER_KEY and shown not in self._refused_keys:  # a device that does not give up must not fill the audit
            if len(self._refused_keys) >= REFUSED_KEYS_MAX:
                del self._refused_keys[next(iter(self._refused_keys))]
            self._refused_keys[shown] = None
            detached(self._write_down(connection, device_id), name="write a refused key down")
            return
        connection.admitted(Refusal(Closing.DENIED if why is Refused.DENIED else Closing.WRONG_CREDENTIALS))

    async def _write_down(self, connection: Connection[Seat], device_id: str) -> None:
        try:
            await connecting.key_refused(device_id, address=connection.address)
        except Exception:
            logger.exception("a refused key could not be audited")
            connection.admitted(Refusal(Closing.OVERLOADED))
        else:
            connection.admitted(Refusal(Closing.WRONG_CREDENTIALS))

    async def _consider(self, seats: dict[Seat, bool]) -> None:
        here = [seat for seat in seats if seat in self._seats]
        await self._refresh([seat for seat in here if seats[seat]])
        newest_last = sorted((seat for seat in here if seat in self._seats and not seat.quarantined), key=lambda seat: seat.epoch)
        looking = {seat.device_id: seat for seat in newest_last}
        at_hello = {device_id for device_id, seat in looking.items() if not seat.has_looked}
        for device_id in await updating.to_offer(list(looking), at_hello=at_hello):
            await self._offer(looking.pop(device_id), at_hello=device_id in at_hello)
        for seat in looking.values():
            seat.has_looked = seat.has_looked or seat.updates_enabled

    async def _offer(self, seat: Seat, *, at_hello: bool) -> None:
        seat.has_looked = seat.has_looked or seat.updates_enabled
        offer = await updating.next_offer(
            seat.device_id, updates_enabled=seat.updates_enabled, at_hello=at_hello, house=self._opened()
        )  # fmt: skip
        if offer is not None:
            seat.connection.offer(
                protocol.Update(
                    offer.update_id,
                    offer.sequence,
                    offer.version,
                    offer.url,
                    offer.size,
                    offer.sha256,
                    offer.signature,
                    offer.expires_at,
                    offer.forced or None,
                )
            )

    async def _refresh(self, seats: list[Seat]) -> None:
        standings = await connecting.standings([seat.device_id for seat in seats]) if seats else {}
        for seat in seats:
            standing = standings.get(seat.device_id)
            if standing is None:
                seat.connection.close(Closing.WRONG_CREDENTIALS, "unknown")
                self._seats.discard(seat)
                continue
            self._listening().move(seat, standing.product_number)
            seat.standing = standing
            seat.connection.standing(quarantined=not standing.has_rights)

    # ── hearing, and leaving ──
    async def _note_heard(self) -> None:
        while True:
            await asyncio.sleep(HEARD_EVERY_S)
            for seat in tuple(self._seats):
                self._note(seat)

    def _note(self, seat: Seat) -> None:
        """When it was last heard, a pong included."""
        connection = seat.connection
        heard_at = connection.wire.heard_at
        if heard_at > seat.heard_at:
            seat.heard_at = heard_at
            ago = timedelta(seconds=max(0.0, connection.loop.time() - heard_at))
            self._opened().process.heard.note(seat.device_id, datetime.now(UTC) - ago)

    def _opened(self) -> House:
        assert self._house is not None  # nobody connects, and no command is taken, before
        return self._house

    def _listening(self) -> Post:
        assert self._post is not None
        return self._post


def _put(command: Command, connection: Connection[Seat]) -> "asyncio.Future[Answer]":
    """Put the question to the device."""
    match command.kind:
        case "ping":
            return connection.ping(command.timeout_s)
        case "read":
            return connection.read(command.name, command.timeout_s)
        case _:
            return connection.call(command.name, command.argument or "", command.timeout_s)


def _event_key(id: str | None) -> str | None:
    """The device's own id of an event, short enough for the log's column."""
    return id if id is None or len(id) <= KEY_MAX_CHARS else hashlib.sha256(id.encode()).hexdigest()
