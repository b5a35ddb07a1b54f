"""graphql-transport-ws as our clients may rely on it: Strawberry's conversation, with every frame checked and every close code meant."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol, cast

import strawberry
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.async_base_view import AsyncBaseHTTPView, AsyncWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    Message,
    PingMessage,
    SubscribeMessage,
)
from strawberry.types import ExecutionResult

from errors import CallerError, DeadlinePassed, RateLimited, Unauthenticated
from settings import Settings
from transport import gate, metrics
from transport.context import ContextFor, OperationContext
from transport.documents import Documents, Prepared
from transport.gate import Asked
from transport.masking import Answer, Masking
from transport.rates import address_key
from transport.sockets import NOT_ALLOWED, Sockets

log = logging.getLogger(__name__)

MALFORMED = 4400
TOKEN_EXPIRED = 4403
DUPLICATE_ID = 4409
SECOND_INIT = 4429
TOO_LARGE = 1009
TRY_LATER = 1013
BEFORE_ACK_MAX = 64 << 10  # bytes of a message from somebody who has not said who he is
PING_INTERVAL_S = 10  # between our pings; PING_TIMEOUT_S without a pong and the socket is dropped
PING_TIMEOUT_S = 20
CLOSE_S = 1.0  # what a peer has to take our goodbye; then the connection is aborted
_REASON_MAX = 123  # bytes, by RFC 6455


class Door(Protocol):
    """What a conversation needs of the door it came through."""

    documents: Documents
    context_for: ContextFor
    settings: Settings
    masking: Masking
    sockets: Sockets

    @property
    def deadline_s(self) -> float: ...

    async def admit(self, host: str | None) -> None: ...

    async def prepare(self, asked: Asked, context: OperationContext, host: str | None) -> tuple[Asked, Prepared]: ...


class TextFrames(ASGIWebSocketAdapter):
    """JSON in text frames, each within the size allowed at its moment."""

    size_max = BEFORE_ACK_MAX
    is_closed = False

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        while not self.is_closed:
            frame = await self.ws.receive()
            if frame["type"] == "websocket.disconnect":
                return
            text = frame.get("text")
            if text is None:
                raise NonTextMessageReceived
            if len(text) > self.size_max or len(text.encode()) > self.size_max:
                await self.close(TOO_LARGE, f"At most {self.size_max} bytes")
                return
            try:
                message = gate.json_value(text)
            except ValueError as error:
                raise NonJsonMessageReceived from error
            yield message

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye once; a peer that does not take it within a second is cut off."""
        if self.is_closed:
            return
        self.is_closed = True
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.ws.close(code, reason.encode()[:_REASON_MAX].decode(errors="ignore"))
        except TimeoutError:
            self._abort()
        except (WebSocketDisconnect, RuntimeError):
            pass  # the peer was faster

    def _abort(self) -> None:
        abort: Callable[[], None] | None = self.ws.scope.get("extensions", {}).get("flotilla.abort")
        if abort:
            abort()


class RunningOperation(Operation[OperationContext | None, None]):
    """One operation under way, with all that its client asked."""

    __slots__ = ("asked",)

    def __init__(self, handler: "Conversation", id: str, asked: Asked) -> None:
        super().__init__(handler, id, asked.query, asked.variables, asked.operation_name)
        self.asked = asked


class Conversation(BaseGraphQLTransportWSHandler[OperationContext | None, None]):
    """One socket from its acceptance to its end. Each operation has its own context; errors end an operation, never the socket."""

    def __init__(
        self,
        view: AsyncBaseHTTPView[object, object, object, object, object, OperationContext | None, None],
        websocket: AsyncWebSocketAdapter,
        context: OperationContext | None,
        root_value: None,
        schema: strawberry.Schema,
        connection_init_wait_timeout: timedelta,
        max_subscriptions_per_connection: int | None = None,
    ) -> None:
        super().__init__(view, websocket, context, root_value, schema, connection_init_wait_timeout, max_subscriptions_per_connection)
        self.door = cast(Door, view)
        self.frames = cast(TextFrames, websocket)
        self.address = address_key(self._host)
        self.viewer_key: str | None = None
        self._authorization: str | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.Task[None] | None = None

    @property
    def _socket(self) -> WebSocket:
        return self.frames.ws

    @property
    def _host(self) -> str | None:
        return self._socket.client.host if self._socket.client else None

    async def handle(self) -> None:
        self.door.sockets.add(self)
        metrics.SOCKETS.inc()
        try:
            await super().handle()
        except Exception:  # the door's edge: one bad conversation is a trace in the log and no more
            log.exception("a conversation failed")
            await self.leave(TRY_LATER, "Try again")
        finally:
            metrics.SOCKETS.dec()
            self.door.sockets.discard(self)
            if self._expiry:
                self._expiry.cancel()

    async def leave(self, code: int, reason: str) -> None:
        """Close with `code`, within a second, whatever the peer does."""
        await self.frames.close(code, reason)

    # ── one message each ──
    async def handle_message(self, message: Message) -> None:
        wrong = _what_is_wrong(message)
        if wrong:
            await self.handle_invalid_message(wrong)
        else:
            await super().handle_message(message)

    async def handle_invalid_message(self, error_message: str) -> None:
        log.info("socket message refused: %s", error_message)
        metrics.MALFORMED.inc()
        await self.leave(MALFORMED, error_message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if self.connection_init_received:
            await self.leave(SECOND_INIT, "Too many initialisation requests")
            return
        self.connection_init_received = True
        if self.connection_init_timeout_task:
            self.connection_init_timeout_task.cancel()
        payload = message.get("payload") or {}
        authorization = payload.get("authorization", payload.get("Authorization"))
        if not isinstance(authorization, str | None):
            await self.handle_invalid_message("`authorization` must be a string")
            return
        self._authorization = authorization or self._socket.headers.get("authorization")
        if await self._admitted():
            await self.send_message({"type": "connection_ack", "payload": self._welcome()})
            self.connection_acknowledged = True

    async def _admitted(self) -> bool:
        """Learn who is there; send away who may not stay."""
        try:
            async with asyncio.timeout(self.door.deadline_s):
                context = await self.door.context_for(self._socket, self._authorization)
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
        self.viewer_key = key
        self.frames.size_max = self.door.settings.socket_frame_max_bytes
        self._leave_at(context.expires_at)
        return True

    def _welcome(self) -> dict[str, object]:
        return {
            "serverTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "maxMessageBytes": self.door.settings.socket_frame_max_bytes,
            "pingIntervalSeconds": PING_INTERVAL_S,
        }

    def _leave_at(self, expires_at: datetime | None) -> None:
        if expires_at:
            left_s = (expires_at - datetime.now(UTC)).total_seconds()
            self._expiry = asyncio.get_running_loop().call_later(max(left_s, 0.0), self._expire)

    def _expire(self) -> None:
        self._goodbye = asyncio.ensure_future(self.leave(TOKEN_EXPIRED, "The token has expired"))

    async def handle_ping(self, message: PingMessage) -> None:
        payload = message.get("payload")
        await self.send_message({"type": "pong"} if payload is None else {"type": "pong", "payload": payload})

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        if not self.connection_acknowledged:
            await self.leave(NOT_ALLOWED, "Unauthorized: send connection_init first")
            return
        operation_id, payload = message["id"], message["payload"]
        if operation_id in self.operations:
            await self.leave(DUPLICATE_ID, f"Subscriber for {operation_id} already exists")
            return
        operation = RunningOperation(self, operation_id, gate.members(payload, []))
        at_once = self.max_subscriptions_per_connection or 100
        self.operations[operation_id] = operation
        if len(self.operations) > at_once:
            error = RateLimited(f"At most {at_once} operations at a time on one socket: complete some first.", retry_after=1)
            await self._fail(operation, error)
            return
        operation.task = asyncio.create_task(self.run_operation(operation))
        operation.task.add_done_callback(self._task_done)

    def forget_id(self, id: str) -> None:
        self.operations.pop(id, None)

    # ── one operation each ──
    async def run_operation(self, operation: Operation[OperationContext | None, None]) -> None:
        assert isinstance(operation, RunningOperation)
        with contextlib.suppress(WebSocketDisconnected):
            try:
                await self._run(operation)
                await operation.send_operation_message({"id": operation.id, "type": "complete"})
            except WebSocketDisconnected:
                raise
            except Exception as error:
                await self._fail(operation, error)

    async def _run(self, operation: RunningOperation) -> None:
        asked, door = operation.asked, self.door
        await door.admit(self._host)
        context = await door.context_for(self._socket, self._authorization)
        asked, prepared = await door.prepare(asked, context, self._host)
        metrics.OPERATIONS.labels("socket", prepared.operation.operation.value).inc()
        try:
            async with asyncio.timeout(None if prepared.is_subscription else door.deadline_s) as clock:
                async with contextlib.aclosing(await door.documents.stream(asked, context)) as results:
                    await self._send(operation, results)
        except TimeoutError:
            if not clock.expired():
                raise
            raise DeadlinePassed(f"This took longer than {door.deadline_s:g} s and was stopped.") from None

    async def _send(self, operation: RunningOperation, results: AsyncGenerator[object, None]) -> None:
        async for result in results:
            assert isinstance(result, ExecutionResult)  # incremental delivery is off
            payload = self.door.masking.payload(result)
            if "data" not in payload:
                await self._send_errors(operation, cast(list[Answer], payload["errors"]))
                return
            await operation.send_operation_message(cast(Message, {"id": operation.id, "type": "next", "payload": payload}))

    async def _fail(self, operation: RunningOperation, error: Exception) -> None:
        await self._send_errors(operation, self.door.masking.refusal(error))

    async def _send_errors(self, operation: RunningOperation, errors: list[Answer]) -> None:
        await operation.send_operation_message(cast(Message, {"id": operation.id, "type": "error", "payload": errors}))


def _what_is_wrong(message: object) -> str | None:
    """The rule of the protocol that a message breaks; None if it keeps them all."""
    if not isinstance(message, dict):
        return "A message must be a JSON object"
    kind, payload = message.get("type"), message.get("payload")
    if kind not in ("connection_init", "ping", "pong", "subscribe", "complete"):
        return "Unknown message type"
    if kind in ("subscribe", "complete") and not (isinstance(message.get("id"), str) and message["id"]):
        return "`id` must be a string, not empty"
    if kind == "subscribe":
        return _wrong_in_subscribe(payload)
    if kind != "complete" and not isinstance(payload, dict | None):
        return "`payload` must be an object or null"
    return None


def _wrong_in_subscribe(payload: object) -> str | None:
    if not isinstance(payload, Mapping):
        return "`payload` must be an object"
    try:
        gate.members(payload, [])
    except gate.Refusal as refusal:
        return refusal.message
    return None
