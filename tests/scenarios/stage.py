"""The stage of the laws: an organization with everybody a rule can name, built once a run and copied for each case."""

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from auth.credentials import issue
from auth.scopes import SCOPES, Holder, scopes_of
from auth.tokens import Kind
from gateway.live import LiveFleet
from models.account import ApiUser, Token
from models.customer import Customer
from models.device import DeviceGroup, GroupGrant
from models.organization import Member, Organization, ProductRole, Role
from models.product import AUTH_METHOD, Answer, AuthMethod, Product
from realtime.commands import Command, Commands
from settings import Settings
from tests.house import GraphQLFailed, HouseTester, open_house

ACME = "acme"
LAMP, FAN = 1094, 1095  # products of Acme
PROCESS = "p1"  # the server process that every session of a device belongs to
PASSWORD = "a correct horse for the tests"

# ── the cast ──
OWNER, ADMIN, DEVELOPER, SUPPORT, VIEWER, NONE = (str(role) for role in Role)  # members of Acme, but for the last
TEAM = (OWNER, ADMIN, DEVELOPER, SUPPORT, VIEWER)
NOBODY = "nobody"
STRANGER = "stranger"  # owner of another organization
GUEST = "guest"  # an account without an organization
CUSTOMER = "customer"  # of the product LAMP
PROGRAM = "program"  # a token of Acme's owner
MACHINE = "machine"  # an API user of Acme
BOUND = "bound machine"  # an API user of Acme's product FAN

INSIDE = "held inside"  # a developer who was granted WARD
OUTSIDE = "held elsewhere"  # a developer who was granted another group of LAMP
GRANTED = "granted customer"  # of the product LAMP; was granted WARD, and owns nothing

LIFTED = "developer of the product alone"  # NONE in Acme, DEVELOPER in LAMP
LOWERED = "lowered in the product"  # a developer, SUPPORT in LAMP
SHUT_OUT = "shut out of the product"  # a developer, NONE in LAMP

WARD = "ward"  # the group of LAMP that every device of a scenario is in

CUSTOMER_SCOPES = scopes_of(Holder.CUSTOMER)
EVERY_SCOPE = tuple(scope.name for scope in SCOPES)


@dataclasses.dataclass
class Stage:
    """One copy of it: a house, and the token of everybody; nobody has none."""

    tester: HouseTester
    tokens: Mapping[str, str]

    async def owner(self, mutation: str, answer: str, **input: Any) -> Any:
        """Acme's owner does this; fails unless it is done."""
        payload = await self.tester.do(mutation, answer, self.tokens[OWNER], **input)
        assert payload["errors"] == [], payload
        return payload

    async def settled(self) -> None:
        """Until the sandbox of billing, where there is one, has told all that happened in it."""
        if self.tester.house.till is not None:
            assert self.tester.house.till.desk is not None
            await self.tester.house.till.desk.settled()

    async def call(self, who: str, mutation: str, input: Mapping[str, Any]) -> str:
        """The code with which `who` is refused, of whichever kind, or DONE."""
        try:
            payload = await self.tester.do(mutation, "clientMutationId", self.tokens.get(who), **input)
        except GraphQLFailed as refused:
            return str(refused.codes[0] or refused)
        return str(payload["errors"][0]["code"]) if payload["errors"] else DONE

    async def read(self, who: str, text: str, variables: Mapping[str, Any]) -> str:
        """Like `call`, for a query whose one field is named `found`; NULL when that is its answer."""
        try:
            answer = await self.tester.ask(text, self.tokens.get(who), **variables)
        except GraphQLFailed as refused:
            return str(refused.codes[0] or refused)
        return NULL if answer["found"] in (None, [None]) else DONE

    async def follow(self, who: str, text: str, variables: Mapping[str, Any]) -> str:
        """Like `call`, for a subscription: DONE when it has shown something, or reads the log and waits."""
        before = self._readers()
        results = await self.tester.schema.subscribe(
            text, variable_values=dict(variables), context_value=await self.tester.context(self.tokens.get(who))
        )
        first = asyncio.ensure_future(anext(results))
        try:
            async with asyncio.timeout(60):
                while not first.done() and self._readers() <= before:
                    await asyncio.sleep(0.01)
            errors = first.result().errors if first.done() else None
            return str(getattr(errors[0].original_error, "code", None)) if errors else DONE
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await results.aclose()

    def _readers(self) -> int:
        return sum(len(topic.readers) for topic in self.tester.house.dispatcher._topics.values())

    async def limit(self, scopes: tuple[str, ...]) -> None:
        """Give the program and both machines these scopes, past what each may be given."""
        await Token.filter(name=PROGRAM).update(scopes=list(scopes))
        await ApiUser.all().update(scopes=list(scopes))


DONE, NULL = "done", "null"


# What is done to the database beside the data folder: once the stage is built, and before each case.
OnDatabase = Callable[[Settings], Awaitable[None]]


class Stages:
    """The stage on one kind of database, as it was built, for each case anew. One at a time."""

    def __init__(self, built: Settings, restore: OnDatabase, tokens: Mapping[str, str]) -> None:
        self._built = built
        self._restore = restore
        self._tokens = tokens
        self._copies = 0

    @asynccontextmanager
    async def one(self, folder: Path, *, billing: str = "off") -> AsyncIterator[Stage]:
        """A fresh one, its data folder below `folder`, its house billing in this mode."""
        self._copies += 1
        place = folder / f"stage-{self._copies}"
        shutil.copytree(self._built.data_dir, place)
        await self._restore(self._built)
        devices = ObligingDevices()
        async with open_house(dataclasses.replace(self._built, data_dir=place, billing=billing), devices, process=PROCESS) as house:
            devices.commands = house.commands
            yield Stage(HouseTester(house), self._tokens)


class ObligingDevices(LiveFleet):
    """Stands where the gateway does: whatever is asked of a device, it answers 7."""

    commands: Commands

    async def deliver(self, command: Command) -> None:
        await self.commands.answer(command.id, value={"value": 7})


def build(settings: Settings, *, keep: OnDatabase, restore: OnDatabase) -> Stages:
    """Fill the migrated database of `settings`, and keep what is in it for `restore`."""
    with ThreadPoolExecutor(1) as elsewhere:  # a loop of its own: the fixture that asks has none, or a test's
        tokens = elsewhere.submit(lambda: asyncio.run(_fill(settings, keep))).result()
    return Stages(settings, restore, tokens)


async def _fill(settings: Settings, keep: OnDatabase) -> dict[str, str]:
    tokens = await _cast(settings)
    await keep(settings)
    return tokens


async def _cast(settings: Settings) -> dict[str, str]:
    async with open_house(settings) as house:
        tester = HouseTester(house)
        tokens = {OWNER: await tester.owner("ann", "Acme"), STRANGER: await tester.owner("eve", "Other")}
        tokens[GUEST] = await tester.person(GUEST)
        for role in TEAM[1:]:
            tokens[role] = await tester.member(tokens[OWNER], role.lower(), role)
        tokens |= await _programs(tester, tokens[OWNER])
        return {**tokens, **await _granted(tester, tokens[OWNER]), **await _entrusted(tester, tokens[OWNER])}


async def _programs(tester: HouseTester, owner: str) -> dict[str, str]:
    """Products and customers are rows here: how they are made through the API is for their own scenarios."""
    acme, now = await Organization.get(slug=ACME), datetime.now(UTC)
    lamp, fan = [
        await Product.create(number=number, organization=acme, slug=name.lower(), name=name, platform="PHOTON", created_at=now)
        for number, name in ((LAMP, "Lamp"), (FAN, "Fan"))
    ]
    kim = await Customer.create(product=lamp, username="kim", username_key="kim", created_at=now)
    await Answer.create(product=lamp, key=AUTH_METHOD, answer=AuthMethod.SIMPLE, answered_at=now)
    customer, _ = await issue(Kind.CUSTOMER, owner=kim, now=now, scopes=CUSTOMER_SCOPES, auth_method=AuthMethod.SIMPLE)
    program = await tester.do("createAccessToken", "token", owner, name=PROGRAM, scopes=["devices:read"])
    tokens = {CUSTOMER: customer.text, PROGRAM: str(program["token"])}
    for name, product in ((MACHINE, None), (BOUND, fan)):
        row = await ApiUser.create(organization=acme, product=product, name=name, scopes=[], created_at=now)
        tokens[name] = (await issue(Kind.API_USER, owner=row, now=now))[0].text
    return tokens


async def _granted(tester: HouseTester, owner: str) -> dict[str, str]:
    """Three who were granted a group of LAMP."""
    lamp, now = await Product.get(number=LAMP), datetime.now(UTC)
    ward, elsewhere = [
        await DeviceGroup.create(product=lamp, name=name, path=name, created_at=now) for name in (WARD, "elsewhere")
    ]  # fmt: skip
    tokens = {}
    for who, name, group in ((INSIDE, "ida", ward), (OUTSIDE, "otto", elsewhere)):
        tokens[who] = await tester.member(owner, name, DEVELOPER)
        await GroupGrant.create(group=group, member=await Member.get(user__email_key=f"{name}@example.com"), created_at=now)
    gil = await Customer.create(product=lamp, username="gil", username_key="gil", created_at=now)
    await GroupGrant.create(group=ward, customer=gil, created_at=now)
    token, _ = await issue(Kind.CUSTOMER, owner=gil, now=now, scopes=CUSTOMER_SCOPES, auth_method=AuthMethod.SIMPLE)
    return {**tokens, GRANTED: token.text}


async def _entrusted(tester: HouseTester, owner: str) -> dict[str, str]:
    """Three who have a role of its own in LAMP."""
    lamp, tokens = await Product.get(number=LAMP), {}
    for who, name, role, in_lamp in (
        (LIFTED, "lea", NONE, DEVELOPER),
        (LOWERED, "lou", DEVELOPER, SUPPORT),
        (SHUT_OUT, "sam", DEVELOPER, NONE),
    ):
        tokens[who] = await tester.member(owner, name, role)
        await ProductRole.create(product=lamp, member=await Member.get(user__email_key=f"{name}@example.com"), role=in_lamp)
    return tokens
