"""The sandbox as an ASGI app: keys, typed parameters, idempotency, one transaction a request, and the time that passes."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from billing.sandbox import bills, catalog, clock, customers, pages, pending, routes, shapes, store, validator, webhooks
from billing.sandbox.clock import Due
from billing.sandbox.moment import Rules
from billing.sandbox.routes import Call, Route
from billing.sandbox.webhooks import Deliver, Disorder
from billing.sandbox.wire import Body, Fault, Reply, decode
from models.sandbox_billing import SandboxObject, SandboxReply
from models.transaction import detached, in_transaction, transaction
from settings import Settings

log = logging.getLogger(__name__)

ENDPOINTS = (bills, catalog, customers, pending)  # importing them fills the table in routes
BODY_MAX_BYTES = 1 << 20
SECRET_KEYS = ("sk_test_", "rk_test_")
FOR_BROWSERS = ("setup_intent", "payment_intent")  # what a publishable key may ask about, with its client secret
LOOK_AGAIN_S = 0.02
TIDY_S = 3600  # seconds between two looks for what need not be kept
REPLIES_KEPT_S = 86400  # seconds an idempotency key is remembered


class Sandbox:
    """The vendor's peer. Call it as an ASGI app; its state is in the database this process has open.

    What falls due on clocks that run by themselves is played by run_due(), which the worker calls; advance() moves one clock.
    After each request its webhooks are attempted in a task of their own; settled() waits for them.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        deliver: Deliver = webhooks.post,
        now: Callable[[], float] = time.time,
        disorder: Disorder | None = None,
        check_answers: bool = False,
    ) -> None:
        self.rules = rules
        self.disorder = disorder or Disorder()
        self._deliver = deliver
        self._now = now
        self._check_answers = check_answers
        self._tidied_at = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # ── requests ──
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("The billing sandbox speaks HTTP only.")
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # below where it is mounted
        page = pages.find(request.method, path)
        response = await (self._page(page, request) if page else self._answer(request, path))
        await response(scope, receive, send)

    async def _answer(self, request: Request, path: str) -> Response:
        headers = {"request-id": store.fresh_id("req"), "cache-control": "no-store"}
        try:
            reply, replayed = await self._reply(request, path)
        except Fault as fault:
            reply, replayed = fault.reply(), False
        except Exception:  # the edge: whatever it is, the caller gets the form of an answer
            log.exception("The billing sandbox failed on %s %s.", request.method, path)
            reply, replayed = Fault("The billing sandbox failed; its log says why.", status=500, type="api_error").reply(), False
        if replayed:
            headers["idempotent-replayed"] = "true"
        return JSONResponse(reply.body, reply.status, headers)

    async def _reply(self, request: Request, path: str) -> tuple[Reply, bool]:
        verb = request.method.lower()
        found = routes.find(verb, path)
        raw, secret = _without_secret(decode(await _text(request)))
        _require_key(request, raw.pop("key", ""), by_secret=bool(secret) and path.split("/")[2].rstrip("s") in FOR_BROWSERS)
        if found is None:
            raise Fault(f"Unrecognized request URL ({request.method}: {path[:200]}).", status=404)
        route, ids = found
        given = validator.read(verb, route.template, raw)
        routes.refuse_unplayed(route, given)
        call = Call(ids, given, self.wall, self.rules, path, secret)
        if verb == "get":
            return await self._handled(route, call), False
        key = request.headers.get("idempotency-key", "")
        async with self._writing():
            kept = await _kept_reply(key, verb, path, raw)
            reply = kept or await self._handled(route, call)
            if key and not kept:
                await _keep_reply(key, _fingerprint(verb, path, raw), reply, call.wall)
        self._kick()
        return reply, kept is not None

    async def _handled(self, route: Route, call: Call) -> Reply:
        answer = await route.handler(call)
        if isinstance(answer, Reply):
            return answer
        body = answer.body if isinstance(answer, SandboxObject) else answer
        body = await routes.expanded(body, call.given.get("expand", []))
        if self._check_answers:
            shapes.require_shape(body, route.verb, route.template)
        return Reply(200, body)

    async def _page(self, page: pages.Found, request: Request) -> Response:
        if request.method == "GET":
            return await page.show(request, page.id)
        async with self._writing():
            response = await page.submit(request, page.id, self.wall, self.rules)
        self._kick()
        return response

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        if in_transaction():
            raise RuntimeError("A call to the payment provider inside a transaction: it belongs after the commit.")
        async with transaction():
            await store.lock()
            yield

    # ── time ──
    @property
    def wall(self) -> int:
        return int(self._now())

    async def due(self, now: int | None = None) -> list[Due]:
        """What is due on clocks that run by themselves, the earliest first."""
        return await clock.due(self.wall if now is None else now)

    async def run_due(self, now: int | None = None) -> int:
        """Play what is due, finish clocks that a stopped process left on their way, deliver; how many things were played."""
        now = self.wall if now is None else now
        played = 0
        while waiting := await clock.due(now):  # one at a time: what is played may bring the next
            async with self._writing():
                played += await clock.play_due(waiting[0], self.rules, now)
            await self.deliver(now)
        await self._finish_moves()
        await self.deliver(now)
        if now >= self._tidied_at + TIDY_S:
            self._tidied_at = now
            await SandboxReply.filter(created__lt=now - REPLIES_KEPT_S).delete()
            await webhooks.forget(now)
        return played

    async def advance(self, id: str, to: int | datetime) -> None:
        """Move a test clock, or the clock of a customer, to a later time; returns when all that falls due has happened and been told.

        Each thing is a transaction of its own and its webhooks are delivered before the next one. Raises Fault for a move backwards.
        """
        target = int(to.timestamp()) if isinstance(to, datetime) else to
        async with self._writing():
            row = await clock.clock_of(id, self.wall)
            await clock.begin(row, target, self.rules, self.wall, mover := store.chance())
        await self._arrive(row.id, mover)

    async def time_of(self, id: str) -> int:
        """What the clock of this customer, or this test clock, shows now."""
        row = await store.anything(id)
        return await clock.now_on(row.clock if row else None, self.wall)

    async def _finish_moves(self) -> None:
        for row in await SandboxObject.filter(type__in=(clock.TEST_CLOCK, clock.AHEAD)):
            if clock.free(row, mover := store.chance(), self.wall):
                await self._arrive(row.id, mover)

    async def _arrive(self, id: str, mover: str) -> None:
        more = True
        while more:
            async with self._writing():
                row = await store.anything(id)
                more = row is not None and await clock.step(row, self.rules, self.wall, mover)
            await self.deliver()
            await self._until_told()

    # ── webhooks ──
    async def endpoint(self, url: str, *, secret: str, events: tuple[str, ...] = ("*",)) -> str:
        """Have events delivered to `url`, signed with `secret`; the same address a second time replaces the first. Returns its id."""
        async with self._writing():
            for row in await store.listing("webhook_endpoint"):
                if row.body["url"] == url:
                    row.body |= {"enabled_events": list(events), "status": "enabled"}
                    row.hidden["secret"] = secret
                    await store.keep(row)
                    return row.id
            added = await catalog.add_webhook_endpoint({"url": url, "enabled_events": list(events)}, secret, self.wall)
            return added.id

    async def deliver(self, now: int | None = None) -> int:
        """Attempt every delivery that is due now, one after the other; how many arrived."""
        return await webhooks.deliver_due(self.wall if now is None else now, self._deliver, self.disorder)

    def _kick(self) -> None:
        task = detached(self._after_request(), name="billing sandbox")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _after_request(self) -> None:
        try:
            await self.deliver()
            await self._finish_moves()
        except Exception:  # nobody awaits this task; run_due() repeats what it left
            log.exception("The billing sandbox could not deliver.")

    async def settled(self) -> None:
        """Wait until what the requests so far set going has been attempted once."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._until_told()

    async def _until_told(self) -> None:
        """Wait for what somebody else is delivering, the worker or another process; not for one that has stopped with it."""
        ends = time.monotonic() + webhooks.LEASE_S
        while await webhooks.are_under_way(self.wall) and time.monotonic() < ends:
            await asyncio.sleep(LOOK_AGAIN_S)


def sandbox_app(
    settings: Settings,
    *,
    deliver: Deliver = webhooks.post,
    now: Callable[[], float] = time.time,
    rules: Rules | None = None,
    disorder: Disorder | None = None,
    check_answers: bool = False,
) -> Sandbox:
    """The sandbox of this server: to be mounted at /billing-sandbox, or called in the process by stripe_client_for().

    `deliver` takes address, body and headers of a webhook and returns the status, 0 for no answer.
    """
    chosen = rules or replace(Rules(), page_url=f"{settings.public_url}/billing-sandbox")
    return Sandbox(chosen, deliver=deliver, now=now, disorder=disorder, check_answers=check_answers)


async def _text(request: Request) -> str:
    if request.method in ("GET", "DELETE"):
        return request.url.query
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_MAX_BYTES:
            raise Fault("The request is larger than 1 MB.", status=413)
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Fault("The parameters must be in UTF-8.") from None


def _without_secret(raw: Body) -> tuple[Body, str]:
    """A browser sends the client secret along; the server SDK's types do not know it everywhere."""
    secret = raw.pop("client_secret", "")
    return raw, secret if isinstance(secret, str) else ""


def _require_key(request: Request, publishable: Any, *, by_secret: bool) -> None:
    """Any test key will do: it is no secret here. A live key is refused, so that it is never sent to the wrong place for long."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    given = given if scheme.lower() == "bearer" else str(publishable)
    allowed = given.startswith(SECRET_KEYS) or (by_secret and given.startswith("pk_test_"))
    if not allowed:
        raise Fault("Invalid API key provided: the billing sandbox takes test keys (sk_test_…) only.", status=401)


def _fingerprint(verb: str, path: str, raw: Body) -> str:
    return hashlib.sha256(json.dumps([verb, path, raw], sort_keys=True).encode()).hexdigest()


async def _kept_reply(key: str, verb: str, path: str, raw: Body) -> Reply | None:
    kept = await SandboxReply.get_or_none(key=key[:255]) if key else None
    if kept is None:
        return None
    if kept.fingerprint != _fingerprint(verb, path, raw):
        raise Fault(
            "Keys for idempotent requests can only be used with the same parameters they were first used with.",
            type="idempotency_error",
            code="idempotency_key_in_use",
        )
    return Reply(kept.status, kept.body)


async def _keep_reply(key: str, fingerprint: str, reply: Reply, wall: int) -> None:
    await SandboxReply.create(key=key[:255], fingerprint=fingerprint, status=reply.status, body=reply.body, created=wall)
