"""Which endpoints exist, and what of each is played: a table that the endpoint modules fill in."""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from billing.sandbox import clock, store
from billing.sandbox.moment import Moment, Rules
from billing.sandbox.wire import Body, Fault, Reply, page
from models.sandbox_billing import SandboxObject

LIST = "limit starting_after ending_before"
LIMIT = 10  # of a list, when nothing is said
LIMIT_MAX = 100


@dataclass(frozen=True)
class Call:
    """One request: the ids of its path, what it gives with the types of the SDK, and the clock on the wall."""

    ids: tuple[str, ...]
    given: Body
    wall: int
    rules: Rules
    path: str
    secret: str = ""  # a client secret: the caller is a browser, not a server

    @property
    def id(self) -> str:
        return self.ids[0]

    async def moment(self, row: SandboxObject | None) -> Moment:
        """Now, on the clock of this object; on the wall's for what has none."""
        return Moment(await clock.now_on(row.clock if row else None, self.wall), self.rules, self.wall)


Answer: TypeAlias = SandboxObject | Body | Reply  # a row stands for its body
Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    verb: str
    template: str  # with {} for each id, as the SDK's types are found
    played: frozenset[str]  # "customer", "items.price": what of the parameters has an effect here
    handler: Handler

    def match(self, path: str) -> tuple[str, ...] | None:
        found = re.fullmatch(self.template.replace("{}", r"([A-Za-z0-9_.-]{1,80})"), path)
        return found.groups() if found else None


ROUTES: list[Route] = []


def endpoint(verb: str, template: str, played: str = "") -> Callable[[Handler], Handler]:
    """Put a handler into the table. What the SDK knows but `played` does not name is refused, not ignored."""

    def put(handler: Handler) -> Handler:
        ROUTES.append(Route(verb, template, frozenset((*played.split(), "expand")), handler))
        return handler

    return put


def find(verb: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    for route in ROUTES:
        if route.verb == verb and (ids := route.match(path)) is not None:
            return route, ids
    return None


def refuse_unplayed(route: Route, given: Body) -> None:
    """Raises Fault for a parameter that the real thing takes and this one has no rule for: ignoring it would be a lie."""
    for name in _names(given):
        parts = name.split(".")
        if not any(".".join(parts[:length]) in route.played for length in range(1, len(parts) + 1)):
            raise Fault(f"The billing sandbox does not play the parameter {name} here.", code="sandbox_not_played", param=name)


def _names(given: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(given, dict) and given:
        for key, value in given.items():
            yield from _names(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(given, list) and given:
        for value in given:
            yield from _names(value, prefix)
    elif prefix:
        yield prefix


def listed(call: Call, found: Sequence[SandboxObject | Body]) -> Body:
    """One page of what was found, in that order: newest first, as a rule."""
    limit = call.given.get("limit", LIMIT)
    if not 1 <= limit <= LIMIT_MAX:
        raise Fault(f"Invalid limit: 1 to {LIMIT_MAX}.", code="parameter_invalid_integer", param="limit")
    bodies: list[Body] = [each.body if isinstance(each, SandboxObject) else each for each in found]
    bodies = [body for body in bodies if not body.get("deleted")]
    after, before = call.given.get("starting_after"), call.given.get("ending_before")
    if after:
        chosen = bodies[_place(bodies, after, "starting_after") + 1 :]
        return page(chosen[:limit], url=call.path, has_more=len(chosen) > limit)
    if before:
        chosen = bodies[: _place(bodies, before, "ending_before")]
        return page(chosen[-limit:], url=call.path, has_more=len(chosen) > limit)
    return page(bodies[:limit], url=call.path, has_more=len(bodies) > limit)


def _place(bodies: list[Body], id: str, param: str) -> int:
    for place, body in enumerate(bodies):
        if body["id"] == id:
            return place
    raise Fault(f"No such object: '{id}'", code="resource_missing", param=param)


async def expanded(body: Body, paths: list[str]) -> Body:
    """Ids replaced by their objects, and what is shown only when asked for. Raises Fault for what cannot be expanded."""
    for path in paths:
        body = await _expand(body, path.split("."), path)
    return body


async def _expand(body: Any, keys: list[str], path: str) -> Any:
    if not keys or body is None:
        return body
    if isinstance(body, list):
        return [await _expand(each, keys, path) for each in body]
    key, rest = keys[0], keys[1:]
    value = body.get(key) if key in body else await _shown_when_asked(body, key, path)
    if isinstance(value, str):
        row = await store.anything(value)
        if row is None:
            raise Fault(f"This property cannot be expanded ({path}).", param="expand")
        value = row.body
    return {**body, key: await _expand(value, rest, path)}


async def _shown_when_asked(body: Body, key: str, path: str) -> Any:
    if body.get("object") == "invoice" and key in ("payments", "confirmation_secret"):
        row = await store.find("invoice", body["id"])
        if key == "payments":
            return page(row.hidden["payments"] if row else [], url="/v1/invoice_payments")
        intent = await store.find("payment_intent", row.hidden["intent"]) if row else None
        return {"client_secret": intent.body["client_secret"], "type": "payment_intent"} if intent else None
    if body.get("object") == "customer" and key == "subscriptions":
        rows = [row.body for row in await store.listing("subscription", customer=body["id"]) if row.body["status"] != "canceled"]
        return page(rows, url=f"/v1/customers/{body['id']}/subscriptions")
    raise Fault(f"This property cannot be expanded ({path}).", param="expand")
