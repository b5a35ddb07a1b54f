"""graphql-transport-ws as our clients may rely on it: every frame checked, every close code meant, an error ends its operation alone."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Protocol, cast

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from errors import CallerError, DeadlinePassed, RateLimited, Unauthenticated
from realtime.fanout import Fanout
from realtime.log import FAILURES
from realtime.sources import Source
from settings import Settings
from transport import gate, metrics
from transport.context import ContextFor, OperationContext
from transport.documents import Documents, NotBegun, Prepared, Subscribed
from transport.gate import Asked, json_bytes
from transport.masking import Answer, Masking
from transport.rates import address_key
from transport.sharing import Likeness
from transport.sockets import LEAVE_S, NOT_ALLOWED, Sockets
from transport.subscription import Refused, Subscription, is_away, payload_of
from transport.wire import ABORT, FRAMES, QueuedWire, RawWire, Wire

log = logging.getLogger(__name__)

PROTOCOL = "graphql-transport-ws"
MALFORMED = 4400
TOKEN_EXPIRED = 4403
OTHER_PROTOCOL = 4406
NO_INIT = 4408
DUPLICATE_ID = 4409
SECOND_INIT = 4429
TOO_LARGE = 1009
TRY_LATER = 1013
BEFORE_ACK_MAX = 64 << 10  # bytes of a message from somebody who has not said who he is
INIT_S = 10.0  # until connection_init
PING_INTERVAL_S = 10  # between our pings; PING_TIMEOUT_S without a pong and the socket is dropped
PING_TIMEOUT_S = 20
END_S = 5.0  # what operations have to end in once their socket has
_REASON_MAX = 123  # bytes, by RFC 6455


class Door(Protocol):
    """What a conversation needs of the door it came through."""

    documents: Documents
    context_for: ContextFor
    settings: Settings
    masking: Masking
    sockets: Sockets
    fanout: Fanout | None

    @property
    def deadline_s(self) -> float: ...

    async def admit(self, host: str | None) -> None: ...

    async def prepare(self, asked: Asked, context: OperationContext, host: str | None) -> tuple[Asked, Prepared]: ...

    def alike(self, asked: Asked, prepared: Prepared) -> Likeness: ...


class Operation:
    """One operation under way."""

    __slots__ = ("asked", "id", "ident", "subscription", "task")

    def __init__(self, id: str, asked: Asked) -> None:
        self.id = id
        self.ident = json_bytes(id)
        self.asked = asked
        self.task: asyncio.Task[None] | None = None
        self.subscription: Subscription | None = None

    def stop(self) -> None:
        """Nothing more is written for it."""
        if self.subscription:
            self.subscription.leave()
        if self.task:
            self.task.cancel()


class Conversation:
    """One socket from its acceptance to its end. Each operation has its own context."""

    def __init__(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        self.door = door
        self.connection = HTTPConnection(scope)
        self.address = address_key(self._host)
        self.viewer_key: str | None = None
        self.seats: frozenset[int] = frozenset()
        self._scope, self._receive, self._send = scope, receive, send
        self._abort = scope.get("extensions", {}).get(ABORT)
        self._operations: dict[str, Operation] = {}
        self._ending: set[asyncio.Task[None]] = set()  # goodbyes, and operations that were stopped: kept until they are done
        self._timers: list[asyncio.TimerHandle] = []
        self._size_max = BEFORE_ACK_MAX
        self._authorization: str | None = None
        self._is_initialized = self._is_acknowledged = self._is_closed = False
        self._wire, self._sending = self._open_wire()
        self._wire.on_full = self._full

    @property
    def _host(self) -> str | None:
        return self.connection.client.host if self.connection.client else None

    def _open_wire(self) -> tuple[Wire, asyncio.Task[None] | None]:
        frames = self._scope.get("extensions", {}).get(FRAMES)
        if frames is not None:
            return RawWire(frames), None
        wire = QueuedWire(self._send_text, stalled_s=self.door.settings.stalled_reader_s)
        return wire, asyncio.ensure_future(self._send_what_waits(wire))

    async def _send_text(self, text: bytes) -> None:
        await self._send({"type": "websocket.send", "text": text.decode()})

    async def _send_what_waits(self, wire: QueuedWire) -> None:
        try:
            await wire.run()
        except TimeoutError:
            await self.leave(TRY_LATER, "Too slow")
        except OSError:
            pass  # the peer has gone; the reading side hears of it

    async def run(self) -> None:
        """The whole conversation, on a socket that is not accepted yet."""
        self.door.sockets.add(self)
        metrics.SOCKETS.inc()
        try:
            await self._converse()
        except OSError:
            pass  # the peer has gone
        except Exception:  # the door's edge: one bad conversation is a trace in the log and no more
            log.exception("a conversation failed")
            await self.leave(TRY_LATER, "Try again")
        finally:
            metrics.SOCKETS.dec()
            self.door.sockets.discard(self)
            await self._end()

    async def leave(self, code: int, reason: str) -> None:
        """Say goodbye once; a peer that does not take it within a second is cut off."""
        if self._is_closed:
            return
        self._is_closed = True
        for operation in self._operations.values():
            operation.stop()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason.encode()[:_REASON_MAX].decode(errors="ignore")})
        except TimeoutError:
            if self._abort:
                self._abort()
        except (OSError, RuntimeError):
            pass  # the peer was faster

    async def _end(self) -> None:
        """Stop all that was going on here, and see it end."""
        self._is_closed = True
        self._wire.on_full = _nothing
        for timer in self._timers:
            timer.cancel()
        for operation in self._operations.values():
            operation.stop()
        tasks = {operation.task for operation in self._operations.values() if operation.task} | self._ending
        if self._sending:
            self._sending.cancel()
            tasks.add(self._sending)
        if tasks:
            await asyncio.wait(tasks, timeout=END_S)
        self._operations.clear()

    def _full(self) -> None:
        for operation in self._operations.values():
            if operation.subscription:
                operation.subscription.full()

    # ── one message each ──
    async def _converse(self) -> None:
        await self._receive()  # websocket.connect
        is_ours = PROTOCOL in self._scope["subprotocols"]
        await self._send({"type": "websocket.accept", "subprotocol": PROTOCOL if is_ours else None, "headers": []})
        if not is_ours:
            await self.leave(OTHER_PROTOCOL, "Subprotocol not acceptable")
        self._leave_in(INIT_S, NO_INIT, "Connection initialisation timeout")
        while not self._is_closed:
            frame = await self._receive()
            if frame["type"] == "websocket.disconnect":
                return
            await self._hear(frame)
            await self._wire.drained()

    async def _hear(self, frame: Message) -> None:
        text = frame.get("text")
        if text is None:
            await self._malformed("WebSocket message type must be text")
        elif len(text) > self._size_max or len(text.encode()) > self._size_max:
            await self.leave(TOO_LARGE, f"At most {self._size_max} bytes")
        else:
            try:
                message = gate.json_value(text)
            except ValueError:
                await self._malformed("WebSocket message must be valid JSON")
                return
            await self._obey(message)

    async def _obey(self, message: object) -> None:
        wrong = gate.wrong_in_message(message)
        if wrong:
            await self._malformed(wrong)
            return
        told = cast("dict[str, object]", message)
        kind, payload = told["type"], told.get("payload")
        if kind == "connection_init":
            await self._init(cast("dict[str, object]", payload or {}))
        elif kind == "ping":
            self._say({"type": "pong"} if payload is None else {"type": "pong", "payload": payload})
        elif kind == "subscribe":
            await self._subscribe(cast(str, told["id"]), cast("dict[str, object]", payload))
        elif kind == "complete":
            self._complete(cast(str, told["id"]))

    async def _malformed(self, reason: str) -> None:
        log.info("socket message refused: %s", reason)
        metrics.MALFORMED.inc()
        await self.leave(MALFORMED, reason)

    async def _init(self, payload: Mapping[str, object]) -> None:
        if self._is_initialized:
            await self.leave(SECOND_INIT, "Too many initialisation requests")
            return
        self._is_initialized = True
        self._timers.pop().cancel()
        authorization = payload.get("authorization", payload.get("Authorization"))
        if not isinstance(authorization, str | None):
            await self._malformed("`authorization` must be a string")
            return
        self._authorization = authorization or self.connection.headers.get("authorization")
        if await self._admitted():
            self._is_acknowledged = True
            self._say({"type": "connection_ack", "payload": self._welcome()})

    async def _admitted(self) -> bool:
        """Learn who is there; send away who may not stay."""
        try:
            async with self.door.sockets.turns, asyncio.timeout(self.door.deadline_s):
                context = await self.door.context_for(self.connection, self._authorization)
        except Unauthenticated as error:
            await self.leave(TOKEN_EXPIRED if error.reason == "TOKEN_EXPIRED" else NOT_ALLOWED, error.message)
            return False
        except CallerError as error:
            await self.leave(TRY_LATER if isinstance(error, RateLimited) else NOT_ALLOWED, error.message)
            return False
        key, limit = context.viewer_key, self.door.settings.sockets_per_viewer
        if key and self.door.settings.rate_limits and len(self.door.sockets.of_viewer(key)) >= limit:
            await self.leave(TRY_LATER, f"At most {limit} sockets a viewer")
            return False
        self.viewer_key, self.seats = key, context.seats
        self._size_max = self.door.settings.socket_frame_max_bytes
        if context.expires_at:
            left_s = (context.expires_at - datetime.now(UTC)).total_seconds()
            self._leave_in(max(left_s, 0.0), TOKEN_EXPIRED, "The token has expired")
        return True

    def _welcome(self) -> dict[str, object]:
        return {
            "serverTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "maxMessageBytes": self.door.settings.socket_frame_max_bytes,
            "pingIntervalSeconds": PING_INTERVAL_S,
        }

    def _leave_in(self, seconds: float, code: int, reason: str) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, self._leave_soon, code, reason))

    def _leave_soon(self, code: int, reason: str) -> None:
        """For an operation, which leaving stops."""
        self._keep(asyncio.ensure_future(self.leave(code, reason)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _subscribe(self, id: str, payload: Mapping[str, object]) -> None:
        if not self._is_acknowledged:
            await self.leave(NOT_ALLOWED, "Unauthorized: send connection_init first")
            return
        if id in self._operations:
            await self.leave(DUPLICATE_ID, f"Subscriber for {id} already exists")
            return
        operation = self._operations[id] = Operation(id, gate.members(payload, []))
        limit = self.door.settings.operations_per_socket
        if len(self._operations) > limit:
            refusal = RateLimited(f"At most {limit} operations at a time on one socket: complete some first.", retry_after=1)
            self._finish(operation, self.door.masking.refusal(refusal))
        else:
            operation.task = asyncio.create_task(self._perform(operation))

    def _complete(self, id: str) -> None:
        operation = self._operations.pop(id, None)
        if operation:
            operation.stop()
            if operation.task:
                self._keep(operation.task)

    # ── one operation each ──
    async def _perform(self, operation: Operation) -> None:
        errors = None
        try:
            await self._run(operation)
        except Refused as refused:
            errors = refused.errors
        except NotBegun as refused:
            errors = self.door.masking.executed(refused.result.errors or [])
            if is_away(refused.result.errors):
                self._leave_soon(TRY_LATER, "Try again")
                return
        except FAILURES as error:
            # An error would end the operation for good; a standard client whose socket is closed so comes back and asks again.
            log.warning("an operation waits for the database: %s: %s", type(error).__name__, error)
            self._leave_soon(TRY_LATER, "Try again")
            return
        except Exception as error:
            errors = self.door.masking.refusal(error)
        finally:
            operation.task = None  # whose error, when it is stopped, holds the operation
        self._finish(operation, errors)

    async def _run(self, operation: Operation) -> None:
        door = self.door
        await door.admit(self._host)
        async with door.sockets.turns:
            context = await door.context_for(self.connection, self._authorization)
            asked, prepared = await door.prepare(operation.asked, context, self._host)
            subscribed = await door.documents.subscribe(asked, prepared, context) if prepared.is_subscription else None
        metrics.operations("socket", prepared.operation.operation.value).inc()
        if subscribed is not None:
            await self._follow(operation, asked, prepared, subscribed)
            return
        try:
            async with asyncio.timeout(door.deadline_s) as clock:
                payload = door.masking.payload(await door.documents.execute(asked, context))
        except TimeoutError:
            if not clock.expired():
                raise
            raise DeadlinePassed(f"This took longer than {door.deadline_s:g} s and was stopped.") from None
        if "data" not in payload:
            raise Refused(cast("list[Answer]", payload["errors"]))
        await self._next(operation, payload)

    async def _follow(self, operation: Operation, asked: Asked, prepared: Prepared, subscribed: Subscribed) -> None:
        source, fanout, masking = subscribed.source, self.door.fanout, self.door.masking
        if isinstance(source, Source) and fanout is not None:
            alike = self.door.alike(asked, prepared)
            operation.subscription = Subscription(
                source, subscribed, alike, wire=self._wire, fanout=fanout, masking=masking, ident=operation.ident
            )
            await operation.subscription.run()
            return
        async with aclosing(aiter(source)) as messages:  # type: ignore[type-var]  # every resolver's is a generator
            async for message in messages:
                await self._next(operation, await payload_of(subscribed, message, masking))

    async def _next(self, operation: Operation, payload: Answer) -> None:
        await self._wire.drained()
        if self._operations.get(operation.id) is operation and not self._is_closed:
            self._wire.write(b'{"id":' + operation.ident + b',"type":"next","payload":' + json_bytes(payload) + b"}")

    def _finish(self, operation: Operation, errors: list[Answer] | None) -> None:
        """The last message of an operation, whose id is free before it is sent."""
        if self._operations.get(operation.id) is operation:
            del self._operations[operation.id]
            end: dict[str, object] = {"id": operation.id, "type": "complete"}
            self._say(end if errors is None else {"id": operation.id, "type": "error", "payload": errors})

    def _say(self, message: dict[str, object]) -> None:
        if not self._is_closed:
            self._wire.write(json_bytes(message))


def _nothing() -> None:
    pass
