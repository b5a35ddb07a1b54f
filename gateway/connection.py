"""One device's connection: what arrives goes into its session, what the session wants done is done, what our side pushes is sent."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from gateway import effects, protocol
from gateway.effects import Answer, DeviceEvent, Effect
from gateway.protocol import Closing
from gateway.session import Bucket, Limits, Session, Step

logger: Final = logging.getLogger("flotilla.gateway")

IN_FLIGHT_MAX: Final = 64  # publishes waiting for their commit; then nothing is read until one is durable


class Admission(Protocol):
    """What a fleet says of a device it lets in; an implementation adds whatever it needs to know again in `publish` and the rest."""

    @property
    def device_id(self) -> str: ...

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

    def authenticate(self, hello: protocol.Hello, connection: "Connection[A]") -> None:
        """Check the proof over `connection.nonce`, open the session, subscribe `connection` to what is meant for the device.

        Ends with one call of `connection.admitted`, after this has returned, though the device may have gone by then.
        Listen first: whatever is pushed into `connection` from now on is held back and follows the welcome.
        """

    def publish(self, admission: A, event: DeviceEvent) -> Awaitable[None]:
        """Done when the event is durable; it is acknowledged then. An exception: not acknowledged, the device says it again."""

    async def update_status(self, admission: A, status: protocol.UpdateStatus) -> None: ...

    async def updates_enabled(self, admission: A, enabled: bool) -> None: ...

    def nacked(self, admission: A, code: str) -> None:
        """A publish was refused: RATE_LIMITED, TOO_LARGE, BAD_NAME, BAD_DATA or QUARANTINED. To be counted."""

    def left(self, admission: A, code: Closing | None) -> None:
        """Called once for every admission. `code` is how we closed, None if the device went by itself."""

    @property
    def leaving(self) -> "asyncio.Task[None] | None":
        """While the leaving of some is yet to be kept, the task that does it."""


class Wire(Protocol):
    """The socket under a connection; none of its methods waits or raises. Times are of the event loop's clock."""

    heard_at: float  # anything at all, a pong too

    def say(self, text: str) -> None: ...

    def ping(self, payload: bytes) -> None: ...

    def hold(self, is_held: bool) -> None:
        """While held, nothing further is heard."""

    def limit_messages(self, max_bytes: int) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def drop(self, code: int, reason: str) -> None:
        """Close without waiting for a device that does not read."""


class House(Protocol[A]):
    """What a connection needs of the gateway it belongs to."""

    fleet: Fleet[A]
    limits: Limits

    def settle(self, connection: "Connection[A]") -> None: ...

    def forget(self, connection: "Connection[A]") -> None: ...

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Keep a task that outlives its connection alive, and wait for it before the end."""


class Connection(Generic[A]):
    """A device's connection, and the inbox through which our side talks to it.

    offer, cancel, event, call, read, ping, standing and close never wait and never raise; call them from the event loop's thread. What is
    said before the welcome follows it. A closed connection swallows what is said, except that questions end with DEVICE_OFFLINE.
    """

    __slots__ = (
        "__weakref__",
        "_answers",
        "_closed_with",
        "_in_flight",
        "_is_gone",
        "_pinged_at",
        "_under_way",
        "address",
        "admission",
        "due",
        "house",
        "loop",
        "session",
        "wire",
    )

    def __init__(self, house: House[A], session: Session, wire: Wire, *, address: str | None) -> None:
        self.house = house
        self.session = session
        self.wire = wire
        self.address = address
        self.admission: A | None = None
        self.loop = asyncio.get_running_loop()
        self.due = 0.0  # when `tick` has something to do
        self._pinged_at = self.loop.time()
        self._in_flight = 0
        self._under_way: asyncio.Task[None] | None = None  # something that has to be done before the next word is heard
        self._answers: dict[str, asyncio.Future[Answer]] | None = None
        self._closed_with: Closing | None = None
        self._is_gone = False

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

    def ping(self, timeout_s: float) -> "asyncio.Future[Answer]":
        """Ask the device itself for a sign of life, by a ping of its socket; the answer's value is true. Ends as `call` does."""
        future: asyncio.Future[Answer] = self.loop.create_future()
        id = secrets.token_hex(8)
        if self.session.step is Step.CLOSED:
            future.set_result(Answer(id, failure="DEVICE_OFFLINE"))
            return future
        self._awaited()[id] = future
        self.loop.call_later(timeout_s, self._answer, [effects.Answered(Answer(id, failure="DEVICE_TIMEOUT"))])
        self.wire.ping(id.encode())
        return future

    def standing(self, *, quarantined: bool) -> None:
        """The device was approved, or lost its place, while it is connected."""
        self._perform(self.session.standing(quarantined=quarantined))

    def close(self, code: Closing, reason: str = "") -> None:
        self._perform(self.session.close(code, reason))

    def drop(self, code: Closing, reason: str) -> None:
        """Be rid of a peer that does not read: nothing that waits is sent any more."""
        self._closed_with = self._closed_with or code
        self._end()
        self.wire.drop(code, reason)

    def tick(self, now: float) -> None:
        """Let fall due what is due, ping, and say when to look again."""
        self._perform(self.session.tick(now, self.wire.heard_at))
        if self.session.step is Step.CHALLENGED:
            self.due = now  # hello has its own, short patience: looked at with every sweep
            return
        every_s = self.house.limits.keep_alive_s
        if now >= self._pinged_at + every_s:
            self._pinged_at = now
            self.wire.ping(b"")
        self.due = min(self._pinged_at + every_s, self.wire.heard_at + 2 * every_s)

    def _ask(self, word: protocol.Call | protocol.Read, timeout_s: float) -> "asyncio.Future[Answer]":
        future: asyncio.Future[Answer] = self.loop.create_future()
        self._awaited()[word.id] = future
        due = self.loop.time() + timeout_s
        self.loop.call_at(due + 0.001, self._fall_due)
        self._perform(self.session.ask(word, due))
        return future

    def _awaited(self) -> "dict[str, asyncio.Future[Answer]]":
        answers = self._answers = self._answers or {}
        return answers

    def _fall_due(self) -> None:
        self.tick(self.loop.time())

    # ── what the wire tells ──
    def open(self) -> None:
        self._perform(self.session.opening())

    def hear(self, frame: str) -> None:
        self._act(self.session.hear(frame, self.loop.time()))

    def admitted(self, admitted: A | Refusal) -> None:
        """What the fleet says to the hello."""
        if isinstance(admitted, Refusal):
            self._perform(self.session.refused(admitted.code))
        else:
            self.admission = admitted
            if self._is_gone:
                self._leave_now()
                return
            self.house.settle(self)
        self._hold()

    def greet(self, bucket: Bucket | None) -> None:
        """Say welcome; the rate goes on where `bucket`, the device's former connection's, stands."""
        admission = self._admitted()
        self._perform(self.session.greeted(admission.session_id, quarantined=admission.quarantined, bucket=bucket))
        self.wire.limit_messages(protocol.FRAME_MAX_BYTES)

    def ponged(self, payload: bytes) -> None:
        if self._answers and payload.isascii():
            self._answer([effects.Answered(Answer(payload.decode(), True))])

    def gone(self) -> None:
        """The socket is no more. Whatever is under way is brought to its end, and then the fleet is told."""
        self._is_gone = True
        self._end()
        self.house.forget(self)
        if self._under_way is None:
            self._leave_now()

    def _leave_now(self) -> None:
        admission, self.admission = self.admission, None  # or the two keep each other alive until a full collection
        if admission is not None:
            self.house.fleet.left(admission, self._closed_with)

    def _end(self) -> None:
        self._answer(self.session.lost())
        for id in list(self._answers or ()):
            self._answer([effects.Answered(Answer(id, failure="DEVICE_OFFLINE"))])

    # ── doing what a word asks for ──
    def _act(self, wanted: Sequence[Effect]) -> None:
        """In their order: behind one that takes time the rest waits, and so does the device's next word."""
        for place, effect in enumerate(wanted):
            takes_time = self._begin(effect)
            if takes_time is not None:
                self._under_way = self.loop.create_task(self._go_on(takes_time, wanted[place + 1 :]))
                self.house.keep(self._under_way)
                self._hold()
                return

    def _begin(self, effect: Effect) -> Awaitable[None] | None:
        match effect:
            case effects.Authenticate(hello):
                self._hold()
                self.house.fleet.authenticate(hello, self)
            case effects.Publish(event):
                self._publish(event)
            case effects.ReportUpdate(status):
                return self._tell(self.house.fleet.update_status(self._admitted(), status))
            case effects.SetUpdatesEnabled(enabled):
                return self._tell(self.house.fleet.updates_enabled(self._admitted(), enabled))
            case effects.Nacked(code):
                self.house.fleet.nacked(self._admitted(), code)
            case _:
                self._perform([effect])
        return None

    async def _go_on(self, takes_time: Awaitable[None], rest: Sequence[Effect]) -> None:
        await takes_time
        self._under_way = None
        if self._is_gone:
            self._leave_now()
            return
        self._act(rest)
        self._hold()

    def _hold(self) -> None:
        is_busy = self._under_way is not None or self.session.step is Step.PROVING
        self.wire.hold(is_busy or self._in_flight >= IN_FLIGHT_MAX)

    def _admitted(self) -> A:
        assert self.admission is not None  # the session lets nothing but a hello through before
        return self.admission

    async def _tell(self, kept: Awaitable[None]) -> None:
        try:
            await kept
            return
        except OSError as error:  # the database is busy or away
            logger.warning("a device's word could not be kept: %s: %s", type(error).__name__, error)
        except Exception:
            logger.exception("a device's word could not be kept")
        self.close(Closing.OVERLOADED, "try again")  # it comes back and says what it is

    def _publish(self, event: DeviceEvent) -> None:
        self._in_flight += 1
        durable = asyncio.ensure_future(self.house.fleet.publish(self._admitted(), event))
        durable.add_done_callback(lambda done: self._published(event, done))
        if self._in_flight >= IN_FLIGHT_MAX:
            self._hold()

    def _published(self, event: DeviceEvent, durable: "asyncio.Future[None]") -> None:
        self._in_flight -= 1
        if durable.cancelled() or durable.exception() is not None:
            logger.warning("an event was not kept: %r", None if durable.cancelled() else durable.exception())
        else:
            self._perform(self.session.acked(event.id))
        if self._in_flight == IN_FLIGHT_MAX - 1:
            self._hold()

    # ── doing what needs no waiting ──
    def _perform(self, wanted: Sequence[Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Say(word):
                    self.wire.say(protocol.encode(word))
                case effects.Close(code, reason):
                    self._closed_with = code
                    self.wire.close(code, reason)
                case _:
                    self._answer([effect])

    def _answer(self, wanted: Sequence[Effect]) -> None:
        for effect in wanted:
            assert isinstance(effect, effects.Answered), effect
            future = (self._answers or {}).pop(effect.answer.id, None)
            if future is not None and not future.done():
                future.set_result(effect.answer)
