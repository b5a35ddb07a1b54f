"""The wall between tenants, tried by programs written from the schema: nothing is shown, nothing changed, no existence told.

They try it: the owner of another organization, a customer of another product, a customer of the same product, a member who is held
inside a group of the same product, one who is of another product alone, and one who is shut out of the product. What each of them is told of a thing behind the wall is what is told of a thing that is not there.
"""

import asyncio
import json
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from graphql import ExecutionResult, GraphQLNonNull, execute, get_named_type, is_required_argument, parse

from models.customer import Customer
from models.device import DeviceGroup
from models.global_ids import global_id
from schema.build import build_schema
from tests.house import HouseTester
from tests.stored import whatever_a_refusal_must_leave_alone
from tests.walls.driving import (
    BESIDE,
    an_input,
    filters_and_ids,
    ids_of,
    in_list,
    input_of,
    kind_of,
    literal,
    selections,
    unknown_ids,
    written,
)
from tests.walls.world import NOWHERE, World, furnish

SCHEMA = build_schema()._schema
MAKES_IT = ("registerDevice",)  # an id that nobody has becomes the caller's: it has to tell that one is taken
NOT_TO_BE_FOUND = ("acceptInvitation", "declineInvitation", "updateCard", "advanceSandboxClock")  # somebody else's; billing is off
# A product's number is in every device and no secret: whoever wants to be its customer is told how they log in. And whoever holds a
# device of their product, with 24 digits nobody guesses, is told that somebody has claimed it.
TOLD = {
    f"{each}.productId"
    for each in ("signUpCustomer", "logInCustomer", "requestCustomerPasswordReset", "requestCustomerEmailVerification", "createClaimCode")
}
TOLD |= {"claimDevice.deviceId"}
IN_VERDICTS = "importDevices.deviceIds"  # which is tried below: an import takes any id, and says of each what became of it
ENDS = ("delete", "remove", "revoke", "undo")  # what others need has to be ended last
BATCH = 60  # selections in one query
OF_A_PRODUCT = ("device", "group", "external", "Customer", "Device", "DeviceEvent", "DeviceGroup", "Import", "Update")
OF_THE_PRODUCT = (*OF_A_PRODUCT, "product", "slug", "Product", "Firmware", "Rollout", "OAuthClient")
OF_THE_TEAM = (*OF_THE_PRODUCT, "ApiUser", "AuditEntry", "Invitation", "Member", "SigningKey", "User")
OF_CUSTOMERS = (
    *("device", "organization", "group", "external", "Customer", "Device", "DeviceEvent", "DeviceGroup", "Firmware", "Import"),
    *("Member", "User"),
)


@dataclass(frozen=True)
class Attacker:
    """`own` is what they may name, `victim` what they may not."""

    name: str
    token: str | None
    own: World
    victim: World


@pytest.fixture
async def attackers(postgres_tester: HouseTester) -> list[Attacker]:
    alpha = await furnish(postgres_tester, "alpha", 2001, "a")
    bravo = await furnish(postgres_tester, "bravo", 3001, "b")
    lee = await Customer.get(username="alpha-lee")
    group = await DeviceGroup.get(path="alpha-beside")
    own = {"device": "a" * 23 + "0", "group": group.path, "DeviceGroup": global_id("DeviceGroup", group.id)}
    fan = {"product": 2002, "slug": "alpha-fan", "device": "a" * 22 + "22", "Device": global_id("Device", "a" * 22 + "22")}
    of_fan = World("alpha", alpha.owner, {**alpha.names, **fan}, alpha.tokens)
    beside = World("alpha", alpha.owner, {**alpha.names, **own, "Customer": global_id("Customer", lee.id)}, alpha.tokens)
    return [
        Attacker("another owner", alpha.owner, alpha, bravo),
        Attacker("nobody", None, alpha, bravo),
        Attacker("another customer", alpha.tokens["lee"], beside, bravo),
        Attacker("a customer of the product", alpha.tokens["lee"], beside, alpha.only(*OF_CUSTOMERS)),
        Attacker("a member held elsewhere", alpha.tokens["held"], beside, alpha.only(*OF_A_PRODUCT)),
        Attacker("a member of another product alone", alpha.tokens["lifted"], of_fan, alpha.only(*OF_THE_TEAM)),
        Attacker("a member shut out of the product", alpha.tokens["shut-out"], of_fan, alpha.only(*OF_THE_PRODUCT)),
    ]


@dataclass
class Trial:
    tester: HouseTester
    attacker: Attacker
    tried: int = 0

    async def told(self, text: str, variables: Mapping[str, Any] | None = None, *, named: Any = None) -> str:
        """The whole answer; `named` is how it says what was asked for, be that there or not."""
        result = await self._executed(text, variables)
        errors = [[error.message, error.path, getattr(error.original_error, "code", None)] for error in result.errors or ()]
        return _without(json.dumps({"data": result.data, "errors": errors}, sort_keys=True), named)

    async def shown(self, text: str) -> Any:
        return (await self._executed(text)).data

    async def _executed(self, text: str, variables: Mapping[str, Any] | None = None) -> ExecutionResult:
        """Without validating: what was written from the schema is valid, and there is much of it."""
        self.tried += 1
        context = await self.tester.context(self.attacker.token)
        answer = execute(SCHEMA, parse(text), context_value=context, variable_values=dict(variables or {}))
        return await answer if isinstance(answer, Awaitable) else answer


def _without(answer: str, named: Any) -> str:
    spelled = str(named)
    for text in (repr(spelled), spelled, json.dumps(spelled)[1:-1]) if named is not None else ():
        answer = answer.replace(text, "…")
    return answer


# ── queries ──
async def test_no_query_tells_what_is_behind_the_wall_from_what_is_not_there(
    postgres_tester: HouseTester, attackers: list[Attacker]
) -> None:
    faults, tried = [], 0
    before = await whatever_a_refusal_must_leave_alone()
    for attacker in attackers:
        trial = Trial(postgres_tester, attacker)
        for root, argument, value, missing in _roots_by_id(attacker.victim):
            told, expected = [await trial.told(_asked_for(root, argument, each), named=each) for each in (value, missing)]
            if told != expected:
                faults.append(f"{attacker.name}: {root}({argument}: {value}) {told[:300]}")
        tried += trial.tried

    assert "\n".join(faults) == ""
    assert tried > 150
    assert await whatever_a_refusal_must_leave_alone() == before


def _roots_by_id(victim: World) -> Iterator[tuple[str, str, Any, Any]]:
    """Each root of Query that is asked by an id, with each thing of the victim's that it could name."""
    assert SCHEMA.query_type is not None
    for root, field in SCHEMA.query_type.fields.items():
        for argument in field.args:
            kind = kind_of(f"Query.{root}", argument, root)
            assert kind or argument in BESIDE or not is_required_argument(field.args[argument]), (
                f"tests/walls/driving.py does not know {root}({argument})"
            )
            for name in [each for each in victim.names if each[0].isupper()] if kind == "any" else [kind] if kind in victim.names else []:
                yield root, argument, victim.names[str(name)], NOWHERE.names[str(name)]


def _asked_for(root: str, argument: str, value: Any) -> str:
    """What lies below is asked for in the next test: where there is nothing nothing lies below it."""
    assert SCHEMA.query_type is not None
    field = SCHEMA.query_type.fields[root]
    beside = {name: BESIDE[name] for name in field.args if name in BESIDE and name != argument}
    return f"{{ {root}{written({argument: in_list(field.args[argument], value), **beside})} {{ __typename }} }}"


async def test_nothing_that_can_be_reached_from_ones_own_holds_a_word_of_another_tenant(
    postgres_tester: HouseTester, attackers: list[Attacker]
) -> None:
    faults, answered = [], 0
    for attacker in attackers:
        if attacker.victim.word == attacker.own.word:
            continue  # one tenant has one word: those two are held by the other tests
        trial = Trial(postgres_tester, attacker)
        for text in _from_own_roots(attacker.own):
            data = json.dumps(await trial.shown(text))
            answered += data.count(attacker.own.word)
            if attacker.victim.word in data or str(attacker.victim.names["product"]) in data or "b" * 22 in data:
                faults.append(f"{attacker.name}: {text[:200]}")

    assert "\n".join(faults) == ""
    assert answered > 1000  # there was much to read


async def test_nothing_that_can_be_reached_from_one_product_tells_of_another(
    postgres_tester: HouseTester, attackers: list[Attacker]
) -> None:
    of_lamp = ("alpha-lamp", "alpha lamp", '"productId": 2001', "a" * 24, "alpha-beside", "alpha-kim", "alpha-lee", "alpha-app")
    of_others = ("alpha-owner", "alpha-held", "alpha-guest", "alpha-shut-out")
    faults, answered = [], 0
    for attacker, words in ((attackers[-2], of_lamp + of_others), (attackers[-1], of_lamp)):
        trial = Trial(postgres_tester, attacker)
        for text in _from_own_roots(attacker.own.only("product", "slug", "device", "organization", "group")):
            data = json.dumps(await trial.shown(text))
            answered += data.count("alpha-fan")
            faults += [f"{attacker.name}: {word} by {text[:200]}" for word in words if word in data]

    assert "\n".join(faults) == ""
    assert answered > 20


def _from_own_roots(own: World) -> Iterator[str]:
    """All there is to select below what one's own ids name; `nodes` is `node`, often."""
    assert SCHEMA.query_type is not None
    for root, field in SCHEMA.query_type.fields.items():
        every = selections(get_named_type(field.type), SCHEMA)
        if root == "node":
            for kind in (each for each in own.names if each[0].isupper()):
                of_kind = [each for each in every if each.startswith(f"... on {kind} ")]
                yield from _in_parts(f"node(id: {literal(own.names[kind])})", of_kind, BATCH)
        elif root != "nodes":
            kinds = {argument: kind_of(f"Query.{root}", argument, root) for argument in field.args}
            calls = [f"{root}{written({argument: own.names[str(kind)]})}" for argument, kind in kinds.items() if kind] or [root]
            for call in calls:  # where nothing can be null, one refusal would be the whole answer
                yield from _in_parts(call, every, 1 if isinstance(field.type, GraphQLNonNull) else BATCH)


def _in_parts(call: str, every: list[str], size: int) -> Iterator[str]:
    for start in range(0, len(every), size):
        yield "{ " + " ".join(f"q{n}: {call} {{ {each} }}" for n, each in enumerate(every[start : start + size])) + " }"


async def test_no_filter_and_no_field_below_tells_either(postgres_tester: HouseTester, attackers: list[Attacker]) -> None:
    """Each field of one's own that takes an id or a path, asked by the victim's and by one that is not there."""
    faults, tried = [], set()
    for attacker in attackers:
        trial = Trial(postgres_tester, attacker)
        for kind, field, argument, inside, named in filters_and_ids(SCHEMA):
            way = _way_to(kind, attacker.own)
            if way and named in attacker.victim.names:
                values = (attacker.victim.names[named], NOWHERE.names[named])
                told = [await trial.told(_asked(way, kind, field, argument, inside, each), named=each) for each in values]
                tried.add((attacker.name, kind, field, argument, inside))
                if told[0] != told[1]:
                    faults.append(f"{attacker.name}: {kind}.{field}({argument} {inside}) {told}")

    assert "\n".join(faults) == ""
    assert len(tried) > 20


async def test_a_cursor_of_another_tenant_is_refused(postgres_tester: HouseTester, attackers: list[Attacker]) -> None:
    attacker = attackers[0]
    victims = Trial(postgres_tester, Attacker("victim", attacker.victim.owner, attacker.victim, attacker.victim))
    trial, refused = Trial(postgres_tester, attacker), {}
    for kind, field, argument, _, named in filters_and_ids(SCHEMA):
        theirs, mine = _way_to(kind, attacker.victim), _way_to(kind, attacker.own)
        if named == "cursor" and theirs and mine and kind not in ("Viewer", "Billing"):
            page = await victims.shown(theirs.replace("%", f"{field} {{ pageInfo {{ endCursor }} }}"))
            if (cursor := _deep(page, "endCursor")) is None:
                continue
            told = json.loads(await trial.told(_asked(mine, kind, field, argument, (), cursor)))
            refused[f"{kind}.{field}({argument})"] = [code for _, _, code in told["errors"]]

    assert {name: codes for name, codes in refused.items() if codes not in (["INVALID_INPUT"], ["BAD_REQUEST"])} == {}
    assert len(refused) > 12


def _deep(found: Any, name: str) -> Any:
    while name not in found:
        (found,) = found.values()
    return found[name]


def _way_to(kind: str, own: World) -> str | None:
    """How one's own row of this type is reached; "%" is where the field goes."""
    ways = {
        "Product": f"{{ product(productId: {own.names['product']}) {{ % }} }}",
        "Organization": f"{{ organization(slug: {literal(own.names['organization'])}) {{ % }} }}",
        "Device": f"{{ device(deviceId: {literal(own.names['device'])}) {{ % }} }}",
        "Viewer": "{ viewer { % } }",
    }
    by_id = f"{{ node(id: {literal(own.names[kind])}) {{ ... on {kind} {{ % }} }} }}" if kind in own.names else None
    return ways.get(kind, by_id)


def _asked(way: str, kind: str, field: str, argument: str, inside: tuple[str, ...], value: Any) -> str:
    given: Any = value
    for each in reversed(inside):
        given = {each: given}
    target = get_named_type(SCHEMA.type_map[kind].fields[field].type)  # type: ignore[attr-defined]  # an object
    return way.replace("%", f"{field}{written({argument: given})} {{ {'totalCount' if 'totalCount' in target.fields else '__typename'} }}")


# ── subscriptions ──
async def test_no_stream_begins_behind_the_wall_or_tells_what_is_there(postgres_tester: HouseTester, attackers: list[Attacker]) -> None:
    assert SCHEMA.subscription_type is not None
    faults, tried = [], 0
    for attacker in attackers:
        for name, field in SCHEMA.subscription_type.fields.items():
            kinds = {argument: kind_of(f"Subscription.{name}", argument, name) for argument in field.args}
            for argument, kind in kinds.items():
                if kind in attacker.victim.names:
                    own = (
                        {"productId": attacker.own.names["product"]}
                        if argument == "group" or (argument == "deviceId" and name == "events")
                        else {}
                    )
                    values = [world.names[str(kind)] for world in (attacker.victim, NOWHERE)]
                    told = [await _first(postgres_tester, attacker, name, {**own, argument: value}, value) for value in values]
                    tried += 1
                    if told[0] != told[1] or '"code": null' in told[0]:
                        faults.append(f"{attacker.name}: {name}({argument}) {told}")

    assert "\n".join(faults) == ""
    assert tried > 20


async def _first(tester: HouseTester, attacker: Attacker, name: str, arguments: Mapping[str, Any], named: Any) -> str:
    text = f"subscription {{ {name}{written(arguments)} {{ __typename }} }}"
    results = await tester.schema.subscribe(text, context_value=await tester.context(attacker.token))
    result = await asyncio.wait_for(anext(results), 60)
    await results.aclose()
    return _without(json.dumps([[error.message, getattr(error.original_error, "code", None)] for error in result.errors or ()]), named)


# ── mutations ──
def test_nothing_that_is_asked_by_an_id_is_left_undriven() -> None:
    assert unknown_ids(SCHEMA) == [], "say in tests/walls/driving.py what it names"


async def test_no_mutation_acts_on_or_tells_what_is_behind_the_wall(postgres_tester: HouseTester, attackers: list[Attacker]) -> None:
    assert SCHEMA.mutation_type is not None
    faults, tried = [], set()
    before = await whatever_a_refusal_must_leave_alone()
    for attacker in attackers:
        trial = Trial(postgres_tester, attacker)
        for mutation in SCHEMA.mutation_type.fields:
            for field, kind in ids_of(mutation, SCHEMA).items():
                if kind not in attacker.victim.names or f"{mutation}.{field}" in {IN_VERDICTS, *TOLD}:
                    continue
                told = []
                for world in (attacker.victim, NOWHERE if mutation not in MAKES_IT else attacker.victim):
                    given = an_input(mutation, SCHEMA, attacker.own, field)
                    given[field] = in_list(input_of(mutation, SCHEMA).fields[field], world.names[kind])
                    told.append(await trial.told(_mutation(mutation), {"input": given}, named=world.names[kind]))
                tried.add(f"{mutation}.{field}")
                if told[0] != told[1]:
                    faults.append(f"{attacker.name}: {mutation}({field}) {told}")
        after = await whatever_a_refusal_must_leave_alone()
        faults += [f"{attacker.name}: rows of {table} changed" for table in after if after[table] != before[table]]
        before = after

    assert "\n".join(faults) == ""
    assert len(tried) > 60


def _mutation(name: str) -> str:
    kind, payload = input_of(name, SCHEMA), _payload(name)
    return f"mutation ($input: {kind.name}!) {{ {name}(input: $input) {{ {payload} errors {{ code message path reason }} }} }}"


def _payload(name: str) -> str:
    """`rejected`, and whether each object of the payload is there."""
    assert SCHEMA.mutation_type is not None
    kind = get_named_type(SCHEMA.mutation_type.fields[name].type)
    fields = kind.fields  # type: ignore[union-attr]  # an object
    return " ".join(
        "rejected { deviceId code message }"
        if each == "rejected"
        else f"{each} {{ __typename }}"
        if hasattr(get_named_type(field.type), "fields")
        else each
        for each, field in fields.items()
        if each not in ("errors", "clientMutationId")
    )


async def test_the_same_mutations_do_find_what_is_ones_own(postgres_tester: HouseTester, attackers: list[Attacker]) -> None:
    """Without this the test above could pass for refusing everything."""
    assert SCHEMA.mutation_type is not None
    owner = attackers[0]
    trial, not_found = Trial(postgres_tester, owner), []
    for mutation in sorted(
        SCHEMA.mutation_type.fields, key=lambda name: (name.startswith(ENDS), name.startswith(ENDS[0]), name == "removeDevices")
    ):
        if ids_of(mutation, SCHEMA) and mutation not in NOT_TO_BE_FOUND:
            told = json.loads(await trial.told(_mutation(mutation), {"input": an_input(mutation, SCHEMA, owner.own)}))
            codes = [error["code"] for error in ((told["data"] or {}).get(mutation) or {}).get("errors", ())]
            if told["errors"] or "NOT_FOUND" in codes:
                not_found.append(f"{mutation}: {told}")

    assert "\n".join(not_found) == ""


@pytest.mark.parametrize("mutation", [name for name in SCHEMA.mutation_type.fields if "deviceIds" in ids_of(name, SCHEMA)])  # type: ignore[union-attr]
async def test_a_foreign_id_among_ones_own_is_rejected_and_left_alone(postgres_tester: HouseTester, mutation: str) -> None:
    alpha = await furnish(postgres_tester, "alpha", 2001, "a")
    bravo = await furnish(postgres_tester, "bravo", 3001, "b")
    trial, foreign = Trial(postgres_tester, Attacker("another owner", alpha.owner, alpha, bravo)), bravo.names["device"]
    given = an_input(mutation, SCHEMA, alpha, "deviceIds")
    given["deviceIds"] = [*given["deviceIds"], foreign]
    before = await _rows_with(foreign)

    told = json.loads(await trial.told(_mutation(mutation), {"input": given}))["data"][mutation]

    assert await _rows_with(foreign) == before
    if "rejected" in told:
        assert [each["code"] for each in told["rejected"] if each["deviceId"] == foreign] == ["NOT_FOUND"]
    elif mutation != "importDevices":  # an import says it in its verdicts
        assert [(each["code"], each["path"]) for each in told["errors"]] == [("NOT_FOUND", ["input", "deviceIds", "1"])]


async def _rows_with(text: str) -> dict[str, list[str]]:
    stored = await whatever_a_refusal_must_leave_alone()
    told_of = ("audit_entry", "import_piece")  # the act itself, in the words of whoever did it
    return {table: [row for row in rows if text in row] for table, rows in stored.items() if table not in told_of}
