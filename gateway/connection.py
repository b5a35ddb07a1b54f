"""One device's socket: what arrives goes into its session, what the session wants done is done, what our side pushes is sent."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from starlette.types import Receive, Send

from gateway import effects, protocol
from gateway.effects import Answer, DeviceEvent, Effect
from gateway.peer import Peer
from gateway.protocol import Closing
from gateway.session import Bucket, Session, Step

logger: Final = logging.getLogger("flotilla.gateway")

OUTGOING_MAX: Final = 256  # frames waiting for a device that reads slowly; one more and it is closed with 1013
OUTGOING_MAX_BYTES: Final = 1 << 20
SEND_TIMEOUT_S: Final = 30.0  # without progress
CLOSE_TIMEOUT_S: Final = 10.0  # for the peer's answer to our close
IN_FLIGHT_MAX: Final = 64  # publishes waiting for their commit; then nothing is read until one is durable


class Admission(Protocol):
    """What a fleet says of a device it lets in; an implementation adds whatever it needs to know again in `publish` and the rest."""

    @property
    def session_id(self) -> str: ...

    @property
    def epoch(self) -> int:
        """Grows with every session of the device; the highest is the one that counts."""

    @property
    def quarantined(self) -> bool: ...


A = TypeVar("A", bound=Admission)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The device is not let in: WRONG_CREDENTIALS (unknown devices too), DENIED, OVERLOADED …"""

    code: Closing


class Fleet(Protocol[A]):
    """What a gateway needs of the fleet behind it. Each call bounds its own waiting; the gateway never cancels one."""

    async def authenticate(self, hello: protocol.Hello, connection: "Connection[A]") -> A | Refusal:
        """Check the proof over `connection.nonce`, open the session, subscribe `connection` to what is meant for the device.

        Listen first: whatever is pushed into `connection` from now on is held back and follows the welcome.
        """

    def publish(self, admission: A, event: DeviceEvent) -> Awaitable[None]:
        """Done when the event is durable; it is acknowledged then. An exception: not acknowledged, the device says it again."""

    async def update_status(self, admission: A, status: protocol.UpdateStatus) -> None: ...

    async def updates_enabled(self, admission: A, enabled: bool) -> None: ...

    def nacked(self, admission: A, code: str) -> None:
        """A publish was refused: RATE_LIMITED, TOO_LARGE, BAD_NAME, BAD_DATA or QUARANTINED. To be counted."""

    async def left(self, admission: A, code: Closing | None) -> None:
        """Called once for every admission. `code` is how we closed, None if the device went by itself."""


class House(Protocol[A]):
    """What a connection needs of the gateway it belongs to."""

    fleet: Fleet[A]

    def settle(self, connection: "Connection[A]") -> None: ...

    def forget(self, connection: "Connection[A]") -> None: ...


class Connection(Generic[A]):
    """A device's socket, and the inbox through which our side talks to it.

    offer, cancel, event, call, read, standing and close never wait and never raise; call them from the event loop's thread. What is said
    before the welcome follows it. A closed connection swallows what is said, except that calls and reads end with DEVICE_OFFLINE.
    """

    __slots__ = (
        "__weakref__",
        "_answers",
        "_closed_with",
        "_in_flight",
        "_is_dropped",
        "_outgoing",
        "_outgoing_bytes",
        "_room",
        "_send",
        "_sender",
        "_task",
        "address",
        "admission",
        "device_id",
        "house",
        "loop",
        "peer",
        "session",
    )

    def __init__(self, house: House[A], session: Session, send: Send, *, address: str | None, peer: Peer | None) -> None:
        self.house = house
        self.session = session
        self.address = address
        self.peer = peer
        self.device_id: str | None = None
        self.admission: A | None = None
        self.loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._send = send
        self._sender: asyncio.Task[None] | None = None  # exists only while there is something to send
        self._outgoing: deque[str | effects.Close] = deque()
        self._outgoing_bytes = 0
        self._in_flight = 0
        self._room: asyncio.Future[None] | None = None
        self._answers: dict[str, asyncio.Future[Answer]] | None = None
        self._closed_with: Closing | None = None
        self._is_dropped = False

    @property
    def nonce(self) -> str:
        """What the device's proof must be made over."""
        return self.session.nonce

    # ── the inbox: what our side says ──
    def offer(self, update: protocol.Update) -> None:
        """An older sequence than one already said here is dropped."""
        self._perform(self.session.offer(update))

    def cancel(self, update_id: str) -> None:
        self._perform(self.session.cancel(update_id))

    def event(self, name: str, data: str | None) -> None:
        self._perform(self.session.event(name, data))

    def call(self, name: str, argument: str, timeout_s: float) -> "asyncio.Future[Answer]":
        """Call a function, at most once. The future always ends within `timeout_s`, with an Answer and never an exception."""
        return self._ask(protocol.Call(secrets.token_hex(8), name, argument, timeout_s), timeout_s)

    def read(self, name: str, timeout_s: float) -> "asyncio.Future[Answer]":
        """Read a variable, as `call`."""
        return self._ask(protocol.Read(secrets.token_hex(8), name), timeout_s)

    def standing(self, *, quarantined: bool) -> None:
        """The device was approved, or lost its place, while it is connected."""
        self._perform(self.session.standing(quarantined=quarantined))

    def close(self, code: Closing, reason: str = "") -> None:
        self._perform(self.session.close(code, reason))

    def tick(self, now: float) -> None:
        """Let fall due what is due. Without a transport that says when it heard the peer, silence is left to the server's pings."""
        self._perform(self.session.tick(now, self.peer.heard_at if self.peer else now))

    def drop(self, code: Closing, reason: str) -> None:
        """Be rid of a peer that does not read: nothing that waits is sent any more."""
        self._closed_with = self._closed_with or code
        self._is_dropped = True
        self._outgoing.clear()
        self._answer(self.session.lost())
        self._make_room()
        if self.peer is not None:
            self.peer.drop(code, reason)
        elif self._task is not None:
            self._task.cancel()

    def _ask(self, word: protocol.Call | protocol.Read, timeout_s: float) -> "asyncio.Future[Answer]":
        future: asyncio.Future[Answer] = self.loop.create_future()
        answers = self._answers = self._answers or {}
        answers[word.id] = future
        due = self.loop.time() + timeout_s
        self.loop.call_at(due + 0.001, self._fall_due)
        self._perform(self.session.ask(word, due))
        return future

    def _fall_due(self) -> None:
        self.tick(self.loop.time())

    # ── the socket's own task ──
    async def run(self, receive: Receive) -> None:
        """From the challenge to the goodbye; returns when the socket is gone."""
        try:
            self._perform(self.session.opening())
            await self._read_on(receive)
        except asyncio.CancelledError:
            if not self._is_dropped or self._task is None or self._task.uncancel():
                raise
        finally:
            await self._leave()

    async def _read_on(self, receive: Receive) -> None:
        while True:
            message = await receive()  # bounded by the sweep: a silent peer is closed
            if message["type"] != "websocket.receive":
                return
            frame = message.get("text")
            if frame is None:
                self.close(Closing.MALFORMED, "frames are text")
            else:
                await self._act(self.session.hear(frame, self.loop.time()))

    async def _act(self, wanted: list[Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Authenticate(hello):
                    await self._authenticate(hello)
                case effects.Publish(event):
                    self._publish(event)
                    await self._wait_for_room()
                case effects.ReportUpdate(status):
                    await self._tell(self.house.fleet.update_status(self._admitted(), status))
                case effects.SetUpdatesEnabled(enabled):
                    await self._tell(self.house.fleet.updates_enabled(self._admitted(), enabled))
                case effects.Nacked(code):
                    self.house.fleet.nacked(self._admitted(), code)
                case _:
                    self._perform([effect])

    async def _authenticate(self, hello: protocol.Hello) -> None:
        try:
            admitted = await self.house.fleet.authenticate(hello, self)
        except Exception:
            logger.exception("authenticating a device failed")
            self.close(Closing.OVERLOADED, "try again")
            return
        if isinstance(admitted, Refusal):
            self._perform(self.session.refused(admitted.code))
            return
        self.device_id = hello.device_id
        self.admission = admitted
        self.house.settle(self)

    def greet(self, bucket: Bucket | None) -> None:
        """Say welcome; the rate goes on where `bucket`, the device's former connection's, stands."""
        admission, now = self._admitted(), self.loop.time()
        self._perform(self.session.greeted(admission.session_id, now, quarantined=admission.quarantined, bucket=bucket))
        if self.peer is not None:
            self.peer.limit_messages(protocol.FRAME_MAX_BYTES)

    def _admitted(self) -> A:
        assert self.admission is not None  # the session lets nothing but a hello through before
        return self.admission

    async def _tell(self, kept: Awaitable[None]) -> None:
        try:
            await kept
        except Exception:
            logger.exception("a device's word could not be kept")
            self.close(Closing.OVERLOADED, "try again")  # it comes back and says what it is

    def _publish(self, event: DeviceEvent) -> None:
        self._in_flight += 1
        durable = asyncio.ensure_future(self.house.fleet.publish(self._admitted(), event))
        durable.add_done_callback(lambda done: self._published(event, done))

    def _published(self, event: DeviceEvent, durable: "asyncio.Future[None]") -> None:
        self._in_flight -= 1
        self._make_room()
        if durable.cancelled() or durable.exception() is not None:
            logger.warning("an event was not kept: %r", None if durable.cancelled() else durable.exception())
            return
        self._perform(self.session.acked(event.id))

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _wait_for_room(self) -> None:
        while self._in_flight >= IN_FLIGHT_MAX and self.session.step is not Step.CLOSED:
            self._room = self.loop.create_future()
            await self._room

    async def _leave(self) -> None:
        self._answer(self.session.lost())
        if self._sender is not None:
            self._sender.cancel()
        self.house.forget(self)
        if self.admission is not None:
            try:
                await self.house.fleet.left(self.admission, self._closed_with)
            except Exception:
                logger.exception("a device's leaving could not be kept")

    # ── doing what needs no waiting ──
    def _perform(self, wanted: list[Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Say(word):
                    self._queue(protocol.encode(word))
                case effects.Close(code):
                    self._closed_with = code
                    self._queue(effect)
                    self._make_room()
                case _:
                    self._answer([effect])

    def _answer(self, wanted: list[Effect]) -> None:
        for effect in wanted:
            assert isinstance(effect, effects.Answered), effect
            future = (self._answers or {}).pop(effect.answer.id, None)
            if future is not None and not future.done():
                future.set_result(effect.answer)

    def _queue(self, item: str | effects.Close) -> None:
        if self._is_dropped:
            return
        self._outgoing_bytes += len(item) if isinstance(item, str) else 0
        if len(self._outgoing) >= OUTGOING_MAX or self._outgoing_bytes > OUTGOING_MAX_BYTES:
            self.drop(Closing.OVERLOADED, "read faster")
            return
        self._outgoing.append(item)
        if self._sender is None:
            self._sender = self.loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._outgoing:
                item = self._outgoing.popleft()
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._send_one(item)
        except TimeoutError:
            self.drop(Closing.OVERLOADED, "read faster")
        except OSError:  # gone; the reading task sees it as well
            self._outgoing.clear()
        finally:
            self._sender = None

    async def _send_one(self, item: str | effects.Close) -> None:
        if isinstance(item, str):
            await self._send({"type": "websocket.send", "text": item})
            self._outgoing_bytes -= len(item)
            return
        await self._send({"type": "websocket.close", "code": int(item.code), "reason": item.reason[:120]})
        if self.peer is not None:
            self.peer.end_within(CLOSE_TIMEOUT_S)
