"""A whole house on a fresh migrated database, without sockets: verbs and GraphQL operations run in the test's own loop."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import app
from auth.credentials import viewer_of
from fleet.house import House
from fleet.jobs import MAIL, letter_of
from gateway.live import LiveFleet
from mailer import Mail
from models.operations import AuditEntry, Job
from resolvers.context import Context
from schema.build import build_schema
from settings import Settings
from tests import both_roads

PASSWORD = "a correct horse for the tests"


class GraphQLFailed(AssertionError):
    """The operation had top-level errors; `codes` are their extensions.code."""

    def __init__(self, errors: list[Any]) -> None:
        super().__init__([error.message for error in errors])
        self.errors = errors
        self.codes = [getattr(error.original_error, "code", None) for error in errors]


@dataclasses.dataclass
class HouseTester:
    """Runs operations as whoever holds a token, and makes the people and things most tests begin with."""

    house: House
    schema: Any = dataclasses.field(default_factory=build_schema)
    live: LiveFleet = dataclasses.field(default_factory=LiveFleet)  # what its house hands commands to

    async def ask(self, operation: str, token: str | None = None, **variables: Any) -> dict[str, Any]:
        """The data of one query or mutation. Raises GraphQLFailed for top-level errors. A query's is held to that of its plan."""
        context = await self.context(token)
        result = await self.schema.execute(operation, variable_values=variables, context_value=context)
        await both_roads.check(self.schema, operation, variables, lambda: self.context(token), result)
        if result.errors:
            raise GraphQLFailed(result.errors)
        data: dict[str, Any] = result.data
        return data

    async def do(self, mutation: str, answer: str, token: str | None = None, **input: Any) -> dict[str, Any]:
        """One mutation by its name and the fields wanted of its payload; `errors { code message path reason }` comes with it."""
        kind = f"{mutation[0].upper()}{mutation[1:]}Input"
        text = f"mutation ($input: {kind}!) {{ {mutation}(input: $input) {{ {answer} errors {{ code message path reason }} }} }}"
        payload: dict[str, Any] = (await self.ask(text, token, input=input))[mutation]
        return payload

    async def context(self, token: str | None = None) -> Context:
        authorization = f"Bearer {token}" if token else None
        viewer = await viewer_of(authorization, address="127.0.0.1", now=datetime.now(UTC))
        return Context(viewer, self.house)

    async def person(self, name: str = "ann") -> str:
        """The token of a new account `name@example.com`."""
        payload = await self.do("signUp", "token", email=f"{name}@example.com", password=PASSWORD, name=name.title())
        assert payload["errors"] == []
        return str(payload["token"])

    async def owner(self, name: str = "ann", organization: str = "Acme") -> str:
        """The token of a new account that has founded `organization` (slug: its lower-case name)."""
        token = await self.person(name)
        payload = await self.do("createOrganization", "organization { slug }", token, name=organization)
        assert payload["errors"] == []
        return token

    async def member(self, owner: str, name: str, role: str, organization: str = "acme") -> str:
        """The token of a new account that has joined with this role."""
        token = await self.person(name)
        invited = await self.do(
            "inviteMember", "invitation { id }", owner, organization=organization, email=f"{name}@example.com", role=role
        )
        accepted = await self.do("acceptInvitation", "member { role }", token, id=invited["invitation"]["id"])
        assert accepted["member"] == {"role": role}
        return token

    async def product(self, token: str, name: str = "Lamp", platform: str = "PHOTON", organization: str = "acme") -> int:
        """The productId of a new product."""
        payload = await self.do("createProduct", "product { productId }", token, organization=organization, name=name, platform=platform)
        assert payload["errors"] == []
        return int(payload["product"]["productId"])

    async def letters(self) -> list[Mail]:
        """Every mail promised so far, oldest first."""
        jobs = await Job.filter(kind=MAIL).order_by("id")
        return [letter_of(job.payload, self.house.sealer) for job in jobs]

    async def audited(self) -> list[str]:
        """The actions of all audit entries, oldest first: compare before and after to see that nothing was recorded."""
        return [entry.action for entry in await AuditEntry.all().order_by("id")]


@asynccontextmanager
async def open_house(settings: Settings, live: LiveFleet | None = None, *, process: str = "p1") -> AsyncIterator[House]:
    """What a server process holds open, on an already migrated database; `live` answers calls once it serves."""
    async with app.open_house(settings, live or LiveFleet(), process=process) as house:
        yield house
