"""A plan reads the columns that its answer needs, and finds out by itself which those are."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from graphql import get_operation_ast, parse
from graphql.execution.values import get_variable_values
from tortoise.exceptions import IncompleteInstanceError

from models.customer import Customer
from models.device import Device
from models.whole_rows import by_key, fetch, missed, wanting
from schema.compiling import Plan, compile_operation
from tests import firmware_house
from tests.house import HouseTester

DEVICES = "query ($number: Int!) { product(productId: $number) { devices(first: 5) { nodes { name owner { username } } } } }"


async def stocked(tester: HouseTester) -> tuple[str, int]:
    owner = await tester.owner()
    number = await tester.product(owner)
    kim = await Customer.create(product_id=1, username="kim", username_key="kim", created_at=datetime.now(UTC))
    await firmware_house.device(number, 1, owner=kim, name="Lamp")
    await firmware_house.device(number, 2)
    return owner, number


async def asked(tester: HouseTester, plan: Plan, token: str, number: int) -> Any:
    return await plan.answer(None, await tester.context(token), _variables(tester, number))


def _variables(tester: HouseTester, number: int) -> Any:
    operation = get_operation_ast(parse(DEVICES))
    assert operation is not None
    return get_variable_values(tester.schema._schema, operation.variable_definitions or (), {"number": number})


def _plan(tester: HouseTester, number: int) -> Plan:
    document = parse(DEVICES)
    operation = get_operation_ast(document)
    assert operation is not None
    return compile_operation(tester.schema, document, operation, _variables(tester, number))


async def test_a_plan_reads_what_is_shown_and_learns_what_its_doors_need(tester: HouseTester) -> None:
    token, number = await stocked(tester)
    plan = _plan(tester, number)

    at_first = plan.wanted[Device], plan.wanted[Customer]
    first, second = await asked(tester, plan, token, number), await asked(tester, plan, token, number)

    assert at_first == ({"name"}, {"username"})
    assert (plan.wanted[Device], plan.wanted[Customer]) == ({"name", "owner_id"}, {"username"})
    nodes = first["product"]["devices"]["nodes"]
    assert sorted(nodes, key=str) == [{"name": "Lamp", "owner": {"username": "kim"}}, {"name": None, "owner": None}]
    assert first == second


async def test_answers_under_way_at_once_learn_the_same_column_and_none_gives_up(postgres_tester: HouseTester) -> None:
    """Whoever began before the first had learnt it left the whole answer to graphql-core: of a crowd at the start all but one."""
    token, number = await stocked(postgres_tester)
    plan = _plan(postgres_tester, number)

    first, *others = await asyncio.gather(*(asked(postgres_tester, plan, token, number) for _ in range(4)))

    assert others == [first] * 3
    assert plan.wanted[Device] == {"name", "owner_id"}


async def test_a_row_read_in_part_says_what_it_lacks_and_is_never_stored(tester: HouseTester) -> None:
    await stocked(tester)

    with wanting({Device: frozenset({"name"})}):
        (lamp,) = (await by_key(Device, "device_id", [f"{1:024x}"])).values()
        (kim,) = await fetch(Customer, "id = 1")

    assert (lamp.device_id, lamp.name, kim.username) == (f"{1:024x}", "Lamp", "kim")
    with pytest.raises(AttributeError) as lacking:
        lamp.owner_id  # noqa: B018  # to see it refused
    assert missed(lacking.value) == (Device, "owner_id")
    with pytest.raises(IncompleteInstanceError):
        await lamp.save()


def test_other_mistakes_are_not_taken_for_a_column() -> None:
    for mistake in (lambda: Device().nothing, lambda: (1).name):
        with pytest.raises(AttributeError) as wrong:
            mistake()
        assert missed(wrong.value) is None


def test_a_column_is_found_missing_where_several_failed_side_by_side() -> None:
    lacking = AttributeError(name="owner_id", obj=Device())

    assert missed(ExceptionGroup("", [ValueError(), ExceptionGroup("", [lacking])])) == (Device, "owner_id")
