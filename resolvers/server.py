"""Doors of what the server says of itself."""

from dataclasses import dataclass
from datetime import UTC, datetime

from auth.scopes import SCOPES, Scope
from resolvers.context import Context
from settings import VERSION


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    version: str
    time: datetime
    limits: dict[str, float]
    scopes: tuple[Scope, ...]
    billing_mode: str


@dataclass(frozen=True, slots=True)
class RateLimit:
    cost: int
    limit: int
    remaining: int
    reset_at: datetime


def server(context: Context) -> Server:
    settings = context.house.settings
    return Server("Flotilla", VERSION, datetime.now(UTC), settings.limits(), SCOPES, settings.billing.upper())


def rate_limit(context: Context) -> RateLimit:
    return RateLimit(context.cost, context.rate_limit, context.rate_remaining, context.rate_resets_at or datetime.now(UTC))
