"""The fleet behind the gateway: proofs, presence, events, updates and calls of the devices connected to this process."""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from fleet import connecting, updating
from fleet.connecting import Refused, Standing
from fleet.house import House
from fleet.telling import NO_PRODUCT
from gateway import protocol
from gateway.admitting import prove, report_of
from gateway.connection import Connection, Refusal
from gateway.effects import Answer, DeviceEvent
from gateway.orders import Considering, Posts, Seat
from gateway.protocol import Closing
from gateway.server import Gateway
from models.log import EntryKind
from models.transaction import detached
from realtime.commands import Command
from realtime.log import FAILURES, NewEntry
from realtime.presence import GRACE_S

logger: Final = logging.getLogger("flotilla.gateway")

HEARD_EVERY_S: Final = 30.0  # how exact lastHeard is for a device that is online
LEAVE_AGAIN_S: Final = 1.0
KEY_MAX_CHARS: Final = 64  # of an event's id, as the log keeps it
REFUSED_KEYS_MAX: Final = 1000  # second keys that were audited lately and are not audited again


class LiveFleet:
    """One for each server process; it is made before the house, whose commands it delivers, and serves once it has the house.

    `refused` counts the publishes refused, by code.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self._house: House | None = None
        self._gateway: Gateway[Seat] | None = None
        self._considering = Considering(self._consider)
        self._posts: Posts | None = None
        self._seats: set[Seat] = set()
        self._refused_keys: dict[tuple[str, str | None], None] = {}

    @asynccontextmanager
    async def serving(self, house: House) -> AsyncIterator[Gateway["Seat"]]:
        """The gateway for the route /device. Close its sockets before this ends, or they are left to the lease."""
        self._house, self._posts = house, Posts(house.dispatcher, self._considering)
        self._gateway = Gateway.of(self, house.settings)
        tasks = [detached(self._considering.run(), name="considering"), detached(self._note_heard(), name="heard")]
        try:
            yield self._gateway
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._posts.close()

    # ── what the gateway asks ──
    async def authenticate(self, hello: protocol.Hello, connection: Connection[Seat]) -> Seat | Refusal:
        house = self._opened()
        known = await connecting.credentials(hello.device_id, hello.product_id, house=house)
        proof = prove(hello, connection.nonce, known)
        if proof is None:
            return Refusal(Closing.WRONG_CREDENTIALS)
        if isinstance(proof, Refused):
            return await self._refusal(proof, hello, connection)
        seat = Seat(connection, hello.device_id, known.product_number or NO_PRODUCT)
        await self._listening().join(seat)
        try:
            connected = await connecting.hello(report_of(hello, proof, connection.address), house=house, now=datetime.now(UTC))
            if isinstance(connected, Refused):
                self._listening().leave(seat)
                return await self._refusal(connected, hello, connection)
            await self._sit_down(seat, connected)
        except BaseException:
            self._listening().leave(seat)
            if seat.epoch:  # its presence is taken already, and nobody else will give it back
                detached(self._leave_again(seat, 0.0), name="leave again")
            raise
        return seat

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

    async def left(self, admission: Seat, code: Closing | None) -> None:
        self._seats.discard(admission)
        self._considering.forget(admission)
        self._listening().leave(admission)
        self._note(admission)
        grace_s = GRACE_S if code == Closing.RESTARTING else 0.0
        try:
            await connecting.left(admission.device_id, admission.epoch, now=datetime.now(UTC), grace_s=grace_s)
        except FAILURES:  # else it would be online for as long as this process lives
            detached(self._leave_again(admission, grace_s), name="leave again")

    # ── what the rest of the process asks ──
    async def deliver(self, command: Command) -> None:
        """Hand a call, read or ping to the session it was meant for, and no other; does not wait for the device."""
        commands = self._opened().commands
        connection = self._gateway.of_device.get(command.device_id) if self._gateway is not None else None
        if connection is None or connection.admission is None or connection.admission.epoch != command.epoch:
            await commands.answer(command.id, error="DEVICE_OFFLINE")
        elif command.kind == "ping":
            await commands.answer(command.id, value={"value": True})
        else:
            asked = (
                connection.read(command.name, command.timeout_s)
                if command.kind == "read"
                else connection.call(command.name, command.argument or "", command.timeout_s)
            )
            detached(self._answer(command, asked), name="answer a command")

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

    # ── taking a hello in ──
    async def _sit_down(self, seat: Seat, connected: connecting.Connected) -> None:
        seat.epoch, seat.standing = connected.epoch, connected.standing
        seat.session_id = f"{seat.device_id}-{connected.epoch}"
        moved = seat.product_number != connected.standing.product_number
        await self._follow(seat, connected.standing)
        self._seats.add(seat)
        self._listening().settle(seat)
        self._considering.soon(seat, refresh=moved)

    async def _follow(self, seat: Seat, standing: Standing) -> None:
        """Listen to the log of the product it stands in, if that is another one now."""
        if seat.product_number == standing.product_number:
            return
        self._listening().leave(seat)
        seat.product_number = standing.product_number
        await self._listening().join(seat)

    async def _refusal(self, refused: Refused, hello: protocol.Hello, connection: Connection[Seat]) -> Refusal:
        if refused is Refused.DENIED:
            return Refusal(Closing.DENIED)
        shown = (hello.device_id, hello.public_key)
        if shown not in self._refused_keys:  # a device that does not give up must not fill the audit
            if len(self._refused_keys) >= REFUSED_KEYS_MAX:
                del self._refused_keys[next(iter(self._refused_keys))]
            self._refused_keys[shown] = None
            await connecting.key_refused(hello.device_id, address=connection.address)
        return Refusal(Closing.WRONG_CREDENTIALS)

    async def _consider(self, seat: Seat, refresh: bool) -> None:
        if seat not in self._seats:
            return
        if refresh and not await self._refresh(seat):
            return
        if seat.quarantined:
            return
        is_first, seat.has_looked = not seat.has_looked, seat.has_looked or seat.updates_enabled
        offer = await updating.next_offer(
            seat.device_id, updates_enabled=seat.updates_enabled, at_hello=is_first, house=self._opened()
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

    async def _refresh(self, seat: Seat) -> bool:
        standing = await connecting.standing(seat.device_id)
        if standing is None:
            seat.connection.close(Closing.WRONG_CREDENTIALS, "unknown")
            return False
        await self._follow(seat, standing)
        seat.standing = standing
        seat.connection.standing(quarantined=not standing.has_rights)
        return True

    # ── hearing, and leaving ──
    async def _note_heard(self) -> None:
        while True:
            await asyncio.sleep(HEARD_EVERY_S)
            for seat in tuple(self._seats):
                self._note(seat)

    def _note(self, seat: Seat) -> None:
        """When it was last heard, a pong included."""
        connection = seat.connection
        heard_at = max(connection.session.heard_at, connection.peer.heard_at if connection.peer is not None else 0.0)
        if heard_at > seat.heard_at:
            seat.heard_at = heard_at
            ago = timedelta(seconds=max(0.0, connection.loop.time() - heard_at))
            self._opened().process.heard.note(seat.device_id, datetime.now(UTC) - ago)

    async def _leave_again(self, seat: Seat, grace_s: float) -> None:
        while True:
            await asyncio.sleep(LEAVE_AGAIN_S)
            try:
                await connecting.left(seat.device_id, seat.epoch, now=datetime.now(UTC), grace_s=grace_s)
            except FAILURES as error:
                logger.warning("A device's leaving waits for the database: %s: %s", type(error).__name__, error)
            else:
                return

    def _opened(self) -> House:
        assert self._house is not None  # nobody connects, and no command is taken, before
        return self._house

    def _listening(self) -> Posts:
        assert self._posts is not None
        return self._posts


def _event_key(id: str | None) -> str | None:
    """The device's own id of an event, short enough for the log's column."""
    return id if id is None or len(id) <= KEY_MAX_CHARS else hashlib.sha256(id.encode()).hexdigest()
