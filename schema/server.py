"""What the server says of itself, and what this request costs."""

import strawberry
from strawberry.scalars import JSON

from models.billing import BillingMode
from schema.fields import DateTime, described


@strawberry.type(description="A permission a token can have.")
class Scope:
    name: str = described("As it is given when a token is made.")
    description: str = described("What it allows.")


@strawberry.type(description="What the server says of itself.")
class Server:
    name: str = described("Flotilla.")
    version: str = described("Which release runs.")
    time: DateTime = described("Its clock.")
    limits: JSON = described("Every limit a client can run into, its unit in its name.")
    scopes: list[Scope] = described("All scopes, with a sentence each.")
    billing_mode: BillingMode = described("Who charges on this server.")


@strawberry.type(description="What this operation cost, and what is left to whoever asks: a viewer, or an address without a token.")
class RateLimit:
    cost: int = described("Fields of this operation, page sizes multiplied.")
    limit: int = described("Points of cost within the window; 0 where limits are lifted.")
    remaining: int = described("Points left in the window.")
    reset_at: DateTime = described("When all of them are there again.")
