"""The GraphQL door: operations over HTTP, and the way in to the WebSocket; Strawberry executes, what it would let pass is refused here."""

import logging
import time
from collections.abc import Collection, Mapping

import strawberry
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.http.websocket_origin import is_same_origin, normalize_allowed_origins, normalize_origin
from strawberry.types import ExecutionResult

from errors import CallerError, DeadlinePassed, RateLimited
from realtime.fanout import Fanout
from settings import Settings
from transport import event_stream, gate, metrics, uploads
from transport.context import ContextFor, OperationContext, note_price
from transport.documents import DocumentRefused, Documents, Prepared
from transport.event_stream import EventStream
from transport.gate import Asked, Refusal
from transport.leaving import ClientGone, TimeIsUp, while_awaited
from transport.masking import Answer, Masking
from transport.negotiating import Accepted, negotiate
from transport.persisted import Persisted
from transport.rates import address_key, when_to_come_back
from transport.resuming import resumed
from transport.shared_rates import Rates, own_rates
from transport.sharing import Likeness, likeness
from transport.sockets import Sockets
from transport.websocket import Conversation

log = logging.getLogger(__name__)
CLIENT_GONE = 499  # nobody reads it; it keeps the count of requests honest
_SUBSCRIPTION_SENTENCE = (
    "Subscriptions run over the WebSocket at this address (subprotocol graphql-transport-ws), and over HTTP for who accepts "
    "text/event-stream."
)


class GraphQLDoor:
    """An ASGI app for one path: GraphQL over HTTP, server-sent events and graphql-transport-ws on the same schema.

    `context_for` makes the context of each operation. `sockets` lists the open sockets and streams, to close or drain them; `rates` bound
    what one caller may ask (this process's own when absent; without any when settings.rate_limits is off). With `fanout`
    subscriptions of the log share their streams; `of_the_log` names the types whose own fields are the same for whoever may see them.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        context_for: ContextFor,
        settings: Settings,
        *,
        persisted: Persisted | None = None,
        sockets: Sockets | None = None,
        rates: Rates | None = None,
        fanout: Fanout | None = None,
        of_the_log: Collection[str] = (),
    ) -> None:
        self.documents = Documents(schema, settings)
        self.fanout = fanout
        self._of_the_log = of_the_log
        self._origins = normalize_allowed_origins((settings.public_url, *settings.allowed_origins))
        self.persisted = persisted or Persisted(settings)
        self.context_for = context_for
        self.settings = settings
        self.masking = Masking(production=settings.production)
        self.sockets = sockets or Sockets()
        self._rates = rates or own_rates(settings)

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
            metrics.requests(response.status_code).inc()
            await response(scope, receive, send)
        elif await self._may_open(WebSocket(scope, receive, send)):
            await Conversation(self, scope, receive, send).run()

    async def admit(self, host: str | None) -> None:
        """Count one operation against its address, before it is looked at. Raises RateLimited."""
        if self.settings.rate_limits:
            await self._rates.requests.take(address_key(host))

    async def prepare(self, asked: Asked, context: OperationContext, host: str | None) -> tuple[Asked, Prepared]:
        """The operation with its text, seen to be one that may run, and paid for. Raises what keeps it from running."""
        asked = self.persisted.found(asked)
        signed_in = context.viewer_key is not None
        prepared = await self.documents.prepare(asked.query, asked.operation_name, asked.variables, signed_in=signed_in)
        self.persisted.learn(asked)
        payer = context.payer or f"address:{address_key(host)}"
        left = await self._rates.cost.take(payer, prepared.cost) if self.settings.rate_limits else None
        note_price(context, prepared.cost, left)
        return asked, Prepared(prepared.document, prepared.operation, prepared.cost, left)

    def alike(self, asked: Asked, prepared: Prepared) -> Likeness:
        """With which subscriptions this one shares its answers."""
        return likeness(asked, prepared, self.documents.graphql, self._of_the_log)

    # ── HTTP ──
    async def _answer(self, request: Request) -> Response:
        """The answer to any request at all; always GraphQL JSON, or events that hold it."""
        accepted = Accepted()
        asked: Asked | None = None
        try:
            await self.admit(_host(request))
            accepted = negotiate(request.headers)
            gate.check_address(request)
            context, asked = await self._read(request)
            return await self._run(request, asked, context, accepted)
        except Refusal as refusal:
            error: Answer = {"message": refusal.message, "extensions": {"code": refusal.code}}
            return _shown({"errors": [error]}, refusal.status, accepted.single, refusal.headers)
        except (ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            return self._refused(error, accepted.single)
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

    async def _run(self, request: Request, asked: Asked, context: OperationContext, accepted: Accepted) -> Response:
        asked, prepared = await self.prepare(asked, context, _host(request))
        _check_kind(prepared, request.method, accepted)
        metrics.operations("http", prepared.operation.operation.value).inc()
        headers = prepared.left.headers() if prepared.left else {}
        if prepared.is_subscription:
            return await self._streamed(request, asked, prepared, context, headers)
        started = time.perf_counter()
        payload = self.masking.payload(await self._executed(request, asked, context))
        metrics.seconds(prepared.operation.operation.value).observe(time.perf_counter() - started)
        is_refused = "data" not in payload and accepted.single == gate.GRAPHQL_RESPONSE
        return _shown(payload, 400 if is_refused else 200, accepted.single, headers)

    async def _streamed(
        self, request: Request, asked: Asked, prepared: Prepared, context: OperationContext, headers: Mapping[str, str]
    ) -> Response:
        """The results of a subscription as events, as long as somebody listens."""
        address, last_event_id = address_key(_host(request)), request.headers.get("last-event-id")
        if self.sockets.is_draining:
            raise Refusal(503, "This server is restarting: come back at once.", code="UNAVAILABLE", headers={"Retry-After": "1"})
        await self._check_room(address, context.viewer_key)
        if last_event_id:
            asked = resumed(asked, prepared, self.documents.subscriptions, last_event_id)
            signed_in = context.viewer_key is not None
            prepared = await self.documents.prepare(asked.query, asked.operation_name, asked.variables, signed_in=signed_in)
        return EventStream(self, asked, prepared, context, address=address, headers=headers)

    async def _executed(self, request: Request, asked: Asked, context: OperationContext) -> ExecutionResult:
        """Run the operation until it is done, its time is up, or nobody waits for it any more."""
        deadline_s = self.settings.upload_timeout_s if asked.files else self.deadline_s
        try:
            return await while_awaited(self.documents.execute(asked, context), request.scope, deadline_s)
        except TimeIsUp:
            sentence = f"This took longer than {deadline_s:g} s and was stopped. Ask for less, or in several operations."
            raise DeadlinePassed(sentence) from None

    def _refused(self, error: Exception, media_type: str) -> Response:
        headers = when_to_come_back(error) if isinstance(error, RateLimited) else {}
        return _shown({"errors": self.masking.refusal(error)}, _status(error, media_type), media_type, headers)

    # ── what stays open ──
    async def _may_open(self, websocket: WebSocket) -> bool:
        """Refuse a socket with 429 or 503 before it is accepted."""
        if not self._is_origin_allowed(websocket):
            await websocket.close()  # before it is accepted: a 403
            return False
        refusal = Response("This server is restarting.", 503, {"Retry-After": "1"}) if self.sockets.is_draining else None
        try:
            gate.check_address(websocket)
            await self._check_room(address_key(_host(websocket)), None)
        except Refusal as error:
            refusal = Response(error.message, error.status)
        except RateLimited as error:
            refusal = refusal or Response(error.message, 429, when_to_come_back(error))
        if refusal:
            await websocket.send_denial_response(refusal)
        return refusal is None

    def _is_origin_allowed(self, websocket: WebSocket) -> bool:
        """Browsers always say which page opens a socket; who does not is no browser and carries nobody's cookies."""
        origin = websocket.headers.get("origin")
        if origin is None or is_same_origin(origin, websocket.headers.get("host")):
            return True
        return websocket.headers.get("sec-fetch-site") == "same-origin" or normalize_origin(origin) in self._origins

    async def _check_room(self, address: str, viewer_key: str | None) -> None:
        """For one more socket or stream. Raises RateLimited."""
        if not self.settings.rate_limits:
            return
        if self.sockets.at_address(address) >= self.settings.sockets_per_address:
            raise RateLimited("Too many sockets are open from this address.", retry_after=10)
        if viewer_key and len(self.sockets.of_viewer(viewer_key)) >= self.settings.sockets_per_viewer:
            raise RateLimited(f"At most {self.settings.sockets_per_viewer} sockets a viewer.", retry_after=10)
        await self._rates.streams.take(address)


def _host(connection: Request | WebSocket) -> str | None:
    client = connection.scope.get("client")
    return client[0] if client else None


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


def _check_kind(prepared: Prepared, method: str, accepted: Accepted) -> None:
    if prepared.is_subscription and not accepted.streams:
        raise Refusal(400, _SUBSCRIPTION_SENTENCE)
    if method == "GET" and not (prepared.is_query or prepared.is_subscription):
        raise Refusal(405, "Send mutations with POST.", headers={"Allow": "POST"})


def _status(error: Exception, media_type: str) -> int:
    """Plain JSON and events keep 200 for what was well-formed GraphQL over HTTP, as their clients expect; the newer type says more."""
    if isinstance(error, RateLimited):
        return 429
    if isinstance(error, DeadlinePassed):
        return 503
    if not isinstance(error, CallerError | DocumentRefused):
        return 500
    if media_type != gate.GRAPHQL_RESPONSE:
        return 200
    return {"UNAUTHENTICATED": 401, "FORBIDDEN": 403}.get(getattr(error, "code", ""), 400)


def _shown(content: Mapping[str, object], status: int, media_type: str, headers: Mapping[str, str]) -> Response:
    if media_type == gate.GRAPHQL_RESPONSE and status != 200:
        content = {name: value for name, value in content.items() if name != "data"}
    headers = {"Cache-Control": "no-store", **headers}
    if media_type == gate.EVENT_STREAM:
        return Response(event_stream.whole(content), status, headers, f"{media_type}; charset=utf-8")
    return Response(gate.json_bytes(content), status, headers, f"{media_type}; charset=utf-8")
