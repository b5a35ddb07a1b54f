"""The GraphQL door: operations over HTTP, and the way in to the WebSocket; Strawberry executes, what it would let pass is refused here."""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import timedelta

import strawberry
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult

from errors import CallerError, DeadlinePassed, RateLimited
from settings import Settings
from transport import gate, metrics, uploads
from transport.context import ContextFor, OperationContext, note_price
from transport.documents import DocumentRefused, Documents, Prepared
from transport.gate import Asked, Refusal
from transport.masking import Answer, Masking
from transport.rates import Allowance, Buckets, Rate, address_key
from transport.sockets import Sockets
from transport.websocket import Conversation, TextFrames

log = logging.getLogger(__name__)
CLIENT_GONE = 499  # nobody reads it; it keeps the count of requests honest
_SUBSCRIPTION_SENTENCE = (
    "Subscriptions run over the WebSocket at this address (subprotocol graphql-transport-ws); over HTTP there are queries and mutations."
)


class GraphQLDoor(GraphQL[OperationContext | None, None]):
    """An ASGI app for one path: GraphQL over HTTP and graphql-transport-ws on the same schema.

    `context_for` makes the context of each operation. `sockets` lists the open sockets, to close or drain them; `requests` and
    `streams` bound what one address may ask (from the settings when absent; without any when settings.rate_limits is off).
    """

    graphql_transport_ws_handler_class = Conversation
    websocket_adapter_class = TextFrames

    def __init__(
        self,
        schema: strawberry.Schema,
        context_for: ContextFor,
        settings: Settings,
        *,
        sockets: Sockets | None = None,
        requests: Rate | None = None,
        streams: Rate | None = None,
    ) -> None:
        self.documents = Documents(schema, settings)
        super().__init__(
            self.documents.schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=10),
            max_subscriptions_per_connection=settings.operations_per_socket,
            allowed_origins=(settings.public_url, *settings.allowed_origins),
        )
        self.context_for = context_for
        self.settings = settings
        self.masking = Masking(production=settings.production)
        self.sockets = sockets or Sockets()
        self._requests = requests or Buckets(settings.requests_per_window, settings.rate_window_s, what="requests")
        self._streams = streams or Buckets(settings.streams_per_window, settings.rate_window_s, what="sockets opened")

    def routes(self, path: str = "/graphql") -> list[BaseRoute]:
        """The door's two routes, for requests and for sockets."""
        return [Route(path, self), WebSocketRoute(path, self)]

    @property
    def deadline_s(self) -> float:
        """Longer than a call to a device may take, so that the caller hears DEVICE_TIMEOUT and not ours."""
        return max(self.settings.request_timeout_s, self.settings.call_timeout_s + 2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await self._answer(Request(scope, receive))
            metrics.REQUESTS.labels(response.status_code).inc()
            await response(scope, receive, send)
        elif await self._may_open(WebSocket(scope, receive, send)):
            await super().__call__(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> None:
        """None: a socket has no context of its own, each of its operations has."""

    async def take(self, host: str | None) -> Allowance | None:
        """Count one operation against its address. Raises RateLimited."""
        return await self._requests.take(address_key(host)) if self.settings.rate_limits else None

    # ── HTTP ──
    async def _answer(self, request: Request) -> Response:
        """The answer to any request at all; always GraphQL JSON."""
        media_type = gate.JSON
        asked: Asked | None = None
        try:
            allowance = await self.take(request.client.host if request.client else None)
            media_type = gate.answer_type(request.headers)
            context, asked = await self._read(request)
            return await self._run(request, asked, context, allowance, media_type)
        except Refusal as refusal:
            error: Answer = {"message": refusal.message, "extensions": {"code": refusal.code}}
            return _json({"errors": [error]}, refusal.status, media_type, refusal.headers)
        except (_ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            return self._refused(error, media_type)
        finally:
            for file in asked.files if asked else ():
                assert isinstance(file, UploadFile)
                await file.close()

    async def _read(self, request: Request) -> tuple[OperationContext, Asked]:
        if request.method not in ("GET", "POST"):
            raise Refusal(405, "GraphQL takes POST, and GET for queries.", headers={"Allow": "GET, POST"})
        content_type = gate.media_type(request)
        gate.check_preflight(request, content_type)
        if request.method == "POST" and content_type not in (gate.JSON, "multipart/form-data"):
            raise Refusal(415, f"Send {gate.JSON}, or multipart/form-data with files.")
        context = await self.context_for(request, request.headers.get("authorization"))
        if request.method == "GET":
            return context, gate.asked(_query_string(request))
        if content_type == gate.JSON:
            return context, gate.asked(_parsed(await gate.body(request, self.settings.body_max_bytes), "The body"))
        # Nobody fills our disk without having logged in.
        size_max = self.settings.upload_max_bytes if context.viewer_key else self.settings.body_max_bytes
        return context, await uploads.read(request, size_max)

    async def _run(
        self, request: Request, asked: Asked, context: OperationContext, allowance: Allowance | None, media_type: str
    ) -> Response:
        signed_in = context.viewer_key is not None
        prepared = await self.documents.prepare(asked.query, asked.operation_name, asked.variables, signed_in=signed_in)
        _check_kind(prepared, request.method)
        note_price(context, prepared.cost, allowance)
        started = time.perf_counter()
        result = await self._executed(request, asked, context)
        metrics.SECONDS.labels(prepared.operation.operation.value).observe(time.perf_counter() - started)
        metrics.OPERATIONS.labels("http", prepared.operation.operation.value).inc()
        return self._shown(result, media_type, allowance)

    async def _executed(self, request: Request, asked: Asked, context: OperationContext) -> ExecutionResult:
        """Run the operation until it is done, its time is up, or nobody waits for it any more."""
        deadline_s = self.settings.upload_timeout_s if asked.files else self.deadline_s
        work = asyncio.ensure_future(self.documents.execute(asked, context))
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait({work, gone}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if gone.done():
                raise _ClientGone
            raise DeadlinePassed(f"This took longer than {deadline_s:g} s and was stopped. Ask for less, or in several operations.")
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.wait({work, gone}, timeout=5)

    def _shown(self, result: ExecutionResult, media_type: str, allowance: Allowance | None) -> Response:
        headers = allowance.headers() if allowance else {}
        errors = self.masking.executed(result.errors or [])
        if errors and result.data is None and not any("path" in error for error in errors):
            return _json({"errors": errors}, 400 if media_type == gate.GRAPHQL_RESPONSE else 200, media_type, headers)
        return _json({"data": result.data} | ({"errors": errors} if errors else {}), 200, media_type, headers)

    def _refused(self, error: Exception, media_type: str) -> Response:
        headers = {"Retry-After": str(max(1, round(error.retry_after)))} if isinstance(error, RateLimited) else {}
        return _json({"errors": self.masking.refusal(error)}, _status(error, media_type), media_type, headers)

    # ── WebSocket ──
    async def _may_open(self, websocket: WebSocket) -> bool:
        """Refuse a socket with 429 or 503 before it is accepted."""
        key = address_key(websocket.client.host if websocket.client else None)
        refusal: Response | None = None
        if self.sockets.is_draining:
            refusal = Response("This server is restarting.", 503, {"Retry-After": "1"})
        elif self.settings.rate_limits:
            refusal = await self._too_many(key)
        if refusal:
            await websocket.send_denial_response(refusal)
        return refusal is None

    async def _too_many(self, key: str) -> Response | None:
        if self.sockets.at_address(key) >= self.settings.sockets_per_address:
            return Response("Too many sockets are open from this address.", 429, {"Retry-After": "10"})
        try:
            await self._streams.take(key)
        except RateLimited as error:
            return Response(error.message, 429, {"Retry-After": str(max(1, round(error.retry_after)))})
        return None


class _ClientGone(Exception):
    """Nobody reads the answer any more."""


def _query_string(request: Request) -> dict[str, object]:
    members: dict[str, object] = dict(request.query_params)
    for name in ("variables", "extensions"):
        text = members.get(name)
        if isinstance(text, str):
            members[name] = _parsed(text, f"`{name}`") if text else None
    return members


def _parsed(raw: bytes | str, what: str) -> object:
    try:
        return gate.json_value(raw)
    except ValueError:
        raise Refusal(400, f"{what} is not JSON in UTF-8 that can be read: at most 64 levels, numbers of a sane length.") from None


def _check_kind(prepared: Prepared, method: str) -> None:
    if prepared.is_subscription:
        raise Refusal(400, _SUBSCRIPTION_SENTENCE)
    if method == "GET" and not prepared.is_query:
        raise Refusal(405, "Send mutations with POST.", headers={"Allow": "POST"})


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _status(error: Exception, media_type: str) -> int:
    """Plain JSON keeps 200 for what was well-formed GraphQL over HTTP, as its clients expect; the newer type says more."""
    if isinstance(error, RateLimited):
        return 429
    if isinstance(error, DeadlinePassed):
        return 503
    if not isinstance(error, CallerError | DocumentRefused):
        return 500
    if media_type == gate.JSON:
        return 200
    return {"UNAUTHENTICATED": 401, "FORBIDDEN": 403}.get(getattr(error, "code", ""), 400)


def _json(content: Mapping[str, object], status: int, media_type: str, headers: Mapping[str, str]) -> Response:
    if media_type == gate.GRAPHQL_RESPONSE and status != 200:
        content = {name: value for name, value in content.items() if name != "data"}
    return JSONResponse(content, status, headers={"Cache-Control": "no-store", **headers}, media_type=f"{media_type}; charset=utf-8")
