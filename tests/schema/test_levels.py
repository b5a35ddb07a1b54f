"""When a document is compiled, and how its plans hand over to graphql-core."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import strawberry
from graphql import OperationDefinitionNode, execute, parse
from graphql.execution.values import get_variable_values

from realtime.cursor import Cursor, Gap, GapReason
from realtime.log import Entry
from resolvers.live import EventMessage
from schema import levels
from schema.build import build_schema
from schema.fields import argument, asked, described, resolved_by
from schema.leaves import Surprise
from schema.levels import PLANS_MAX, Plans
from schema.messages import AtOnce
from transport.gate import json_bytes

AT = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC)
ENTRY = Entry(7, 1000, "event", "light", AT, None, "1", None, 60, None, None, 5, "0" * 16)


class Row:
    def __init__(self, **columns: Any) -> None:
        vars(self).update(columns)


class Toy:
    """A schema whose root answers with `self.row`; `calls` counts how often the root's door was called."""

    def __init__(self, **columns: Any) -> None:
        self.calls = 0

        async def find(_context: object, size: int | None) -> Row:
            self.calls += 1
            return Row(**columns)

        async def sizes_of(_row: Row, _context: object) -> list[int]:
            return [1, 2]

        @strawberry.type
        class Thing:
            name: str = described("Its name.")
            note: str | None = described("A note.")
            number: int = described("A number.")
            sizes: list[int] = resolved_by(sizes_of, "Its sizes.")
            undeclared: int = strawberry.field(resolver=lambda root: 1, description="In no way that a plan knows.")

        @strawberry.type
        class Query:
            thing: Thing = asked(find, "The thing.", size=argument(int | None, "A size."))

        self.schema = strawberry.Schema(Query)

    def plans(self, text: str) -> tuple[Plans, OperationDefinitionNode]:
        document = parse(text)
        (operation, *_) = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
        return Plans(self.schema, document), operation

    async def second(self, text: str, **variables: Any) -> dict[str, Any] | None:
        """What is answered when the document comes for the second time."""
        plans, operation = self.plans(text)
        assert await plans.answer(operation, variables, None) is None
        return await plans.answer(operation, variables, None)


async def test_a_document_is_compiled_when_it_comes_a_second_time() -> None:
    toy = Toy(name="a", note=None, number=3)
    plans, operation = toy.plans("{ thing { name n: number sizes note } }")

    first = await plans.answer(operation, None, None)

    assert (first, toy.calls) == (None, 0)
    assert await plans.answer(operation, None, None) == {"thing": {"name": "a", "n": 3, "sizes": [1, 2], "note": None}}


async def test_whatever_has_an_error_is_left_to_graphql_core() -> None:
    """A null where there may be none, a number that is none of GraphQL's, a list in place of a text, an attribute that is missing."""
    for broken in ({"name": None}, {"number": 2**31}, {"number": "x"}, {"name": ["a"]}):
        assert await Toy(**{"name": "a", "note": None, "number": 3} | broken).second("{ thing { name number } }") is None
    assert await Toy(name="a").second("{ thing { name number } }") is None


async def test_what_no_plan_knows_is_left_to_graphql_core() -> None:
    toy = Toy(name="a", note=None, number=3)

    assert await toy.second("{ thing { undeclared } }") is None
    assert await toy.second("{ __schema { queryType { name } } }") is None
    assert await toy.second("query ($size: Int) { thing(size: $size) { name } }", size="large") is None
    assert toy.calls == 0


async def test_each_answer_to_a_condition_has_its_own_plan() -> None:
    toy = Toy(name="a", note=None, number=3)
    plans, operation = toy.plans("query ($yes: Boolean!) { thing { name ... @include(if: $yes) { name number } note @skip(if: $yes) } }")
    await plans.answer(operation, {"yes": True}, None)

    assert await plans.answer(operation, {"yes": True}, None) == {"thing": {"name": "a", "number": 3}}
    assert await plans.answer(operation, {"yes": False}, None) == {"thing": {"name": "a", "note": None}}


async def test_a_document_has_a_bounded_number_of_plans() -> None:
    toy = Toy(name="a", note=None, number=3)
    names = [f"q{number}" for number in range(PLANS_MAX + 2)]
    plans, _ = toy.plans(" ".join(f"query {name} {{ thing {{ name }} }}" for name in names))
    operations = [each for each in plans._document.definitions if isinstance(each, OperationDefinitionNode)]

    answers = [await plans.answer(operation, None, None) for operation in [operations[0], *operations]]

    assert [answer is not None for answer in answers] == [False] + [True] * PLANS_MAX + [False] * 2


async def test_a_message_of_a_subscription_is_its_own_root() -> None:
    schema = build_schema()
    document = parse("subscription ($n: Int!) { all: events(productId: $n) { cursor gap { reason } event { id name data publishedAt } } }")
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    message = EventMessage(Cursor(ENTRY.epoch, 7, 5), ENTRY)

    variables = get_variable_values(schema._schema, operation.variable_definitions or (), {"n": 1000})
    assert not isinstance(variables, list)
    plans = Plans(schema, document)

    first, answer = [await plans.message(operation, variables, None, message) for _ in range(2)]

    expected = execute(schema._schema, document, root_value=message, variable_values={"n": 1000})
    assert expected.errors is None  # type: ignore[union-attr]  # nothing in it waits
    assert answer == expected.data  # type: ignore[union-attr]
    assert answer["all"]["event"]["name"] == "light"
    assert first is None, "graphql-core's: a plan is worth its making from the second one on"


MESSAGES = [
    EventMessage(ENTRY.cursor, ENTRY),
    EventMessage(ENTRY.cursor, ENTRY._replace(device_id="a" * 24, data=None, device_time=AT, firmware_version=3, name='quo"ted \\ ünï')),
    EventMessage(ENTRY.cursor, None, Gap(GapReason.RETENTION, ENTRY.cursor, Cursor(ENTRY.epoch, 9, 0))),
]
EVERYTHING = """subscription ($n: Int! $yes: Boolean = true) { all: events(productId: $n) { ...message kind: __typename
  gap { from to reason __typename } event @include(if: $yes) { id cursor device_id: deviceId deviceId name data publishedAt deviceTime ttl
  firmwareVersion __typename } event @skip(if: $yes) { ttl } } } fragment message on EventMessage { cursor event { name when: publishedAt } }"""


@pytest.mark.parametrize("yes", [True, False])
async def test_what_stands_in_a_message_is_written_at_once_as_graphql_core_would(yes: bool) -> None:
    write, expected = await at_once(EVERYTHING, {"n": 1000, "yes": yes})
    assert write is not None

    for message in MESSAGES:
        assert json_bytes(write(message)) == json_bytes(expected(message))


async def test_a_message_that_shows_more_than_stands_in_it_is_not_written_at_once() -> None:
    for more in ("event { device { name } }", "event { ... on Node { id } device { deviceId } }"):
        write, _ = await at_once(f"subscription {{ events(productId: 1000) {{ cursor {more} }} }}", {})
        assert write is None


async def test_a_null_where_there_may_be_none_is_not_written_at_once() -> None:
    write, _ = await at_once(EVERYTHING, {"n": 1000})
    assert write is not None

    for wrong in (EventMessage(None, ENTRY), EventMessage(ENTRY.cursor, ENTRY._replace(ttl=None)), EventMessage(ENTRY.cursor, MESSAGES[0])):  # type: ignore[arg-type]
        with pytest.raises((Surprise, AttributeError)):
            write(wrong)


async def at_once(text: str, given: dict[str, Any]) -> tuple[AtOnce | None, Callable[[object], Any]]:
    """What writes the document's messages, and graphql-core's data of one."""
    schema, document = build_schema(), parse(text)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    variables = get_variable_values(schema._schema, operation.variable_definitions or (), given)
    assert not isinstance(variables, list)
    plans = Plans(schema, document)
    assert plans.at_once(operation, variables) is None, "it is not made yet"
    for _ in range(2):
        await plans.message(operation, variables, None, MESSAGES[0])

    def expected(message: object) -> Any:
        result = execute(schema._schema, document, root_value=message, variable_values=given)
        assert result.errors is None  # type: ignore[union-attr]  # nothing in it waits
        return result.data  # type: ignore[union-attr]  # as above

    return plans.at_once(operation, variables), expected


async def test_a_long_document_is_compiled_without_holding_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(name="a", note=None, number=3)
    threads: list[object] = []
    compile_operation = levels.compile_operation

    def compiled(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return compile_operation(*given)

    monkeypatch.setattr(levels, "compile_operation", compiled)
    long = " ".join(f"n{number}: name" for number in range(levels.THREAD_TOKENS // 3))

    answer = await toy.second(f"{{ thing {{ {long} }} }}")

    assert answer is not None
    assert len(answer["thing"]) == levels.THREAD_TOKENS // 3
    assert threads != [threading.main_thread()]


async def test_a_variable_equal_to_an_earlier_one_is_still_read_by_its_own_type() -> None:
    """1 and true are one and the same to a dictionary."""
    toy = Toy(name="a", note=None, number=3)
    plans, operation = toy.plans("query ($size: Int) { thing(size: $size) { name } }")
    await plans.answer(operation, {"size": 1}, None)

    answers = [await plans.answer(operation, {"size": size}, None) for size in (1, True, 1)]

    assert answers == [{"thing": {"name": "a"}}, None, {"thing": {"name": "a"}}]
