"""Documents that come again, at the door: answered by their plans, refused as before."""

from datetime import UTC, datetime
from typing import Any

import pytest
from strawberry.extensions import SchemaExtension

import transport.documents
from errors import BadRequest
from realtime.log import Entry
from resolvers.live import EventMessage
from schema.build import build_schema
from tests.house import HouseTester
from transport import metrics
from transport.documents import Documents, Subscribed
from transport.gate import Asked

TEAM = "query ($slug: String!) { organization(slug: $slug) { name members { role user { name } } } }"


async def answers(
    tester: HouseTester, documents: Documents, token: str | None, times: int, text: str = TEAM, **variables: Any
) -> list[Any]:
    found = []
    for _ in range(times):
        await documents.prepare(text, None, variables, signed_in=True)
        found.append(await documents.execute(Asked(text, None, variables), await tester.context(token)))
    return found


def compiled() -> float:
    return metrics.COMPILED._value.get()


async def test_a_query_that_comes_again_is_answered_by_its_plan(tester: HouseTester) -> None:
    owner, documents, before = await tester.owner(), Documents(tester.schema, tester.house.settings), compiled()

    first, second, third = await answers(tester, documents, owner, 3, slug="acme")

    assert (
        first.data
        == second.data
        == third.data
        == {"organization": {"name": "Acme", "members": [{"role": "OWNER", "user": {"name": "Ann"}}]}}
    )
    assert compiled() - before == 2


async def test_whoever_may_not_is_refused_on_both_ways_alike(tester: HouseTester) -> None:
    owner, documents = await tester.owner(), Documents(tester.schema, tester.house.settings)
    stranger = await tester.owner("eve", "Other")
    await answers(tester, documents, owner, 3, slug="acme")
    before = compiled()

    (hidden,) = await answers(tester, documents, stranger, 1, slug="acme")
    (refused,) = await answers(tester, documents, None, 1, slug="acme")

    assert (hidden.data, hidden.errors) == ({"organization": None}, None)
    assert [error.original_error.code for error in refused.errors] == ["UNAUTHENTICATED"]
    assert compiled() - before == 1  # what is refused has no plan


async def test_a_schema_with_extensions_is_not_compiled(tester: HouseTester) -> None:
    """An extension would hear nothing of the fields."""
    owner, documents, before = await tester.owner(), Documents(build_schema([SchemaExtension]), tester.house.settings), compiled()

    await answers(tester, documents, owner, 3, slug="acme")

    assert compiled() == before


async def test_a_known_document_is_measured_anew_for_each_page_size(tester: HouseTester) -> None:
    owner, documents = await tester.owner(), Documents(tester.schema, tester.house.settings)
    text = 'query ($first: Int = 2) { organization(slug: "acme") { products(first: $first) { nodes { name } } } }'

    async def cost(**variables: Any) -> int:
        return (await documents.prepare(text, None, variables, signed_in=True)).cost

    assert [await cost(), await cost(first=5), await cost(first=None), await cost(), await cost(first=5)] == [6, 12, 52, 6, 12]
    with pytest.raises(BadRequest):
        await cost(first=101)
    assert (await answers(tester, documents, owner, 1, text, first=5))[0].errors is None


# ── messages of subscriptions ──
EVENTS = "subscription ($id: Int!) { events(productId: $id) { cursor event { name data } } }"


async def following(tester: HouseTester, documents: Documents) -> Subscribed:
    owner = await tester.owner()
    asked, context = Asked(EVENTS, None, {"id": await tester.product(owner)}), await tester.context(owner)
    prepared = await documents.prepare(asked.query, None, asked.variables, signed_in=True)
    return await documents.subscribe(asked, prepared, context)


@pytest.fixture
def by_graphql_core(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A message for each that graphql-core has answered."""
    answered: list[object] = []
    execute = transport.documents.execute_subscription_event

    def counted(executor: Any) -> Any:
        answered.append(executor.root_value)
        return execute(executor)

    monkeypatch.setattr(transport.documents, "execute_subscription_event", counted)
    return answered


async def test_messages_are_answered_by_the_plan_of_their_document_from_the_second_on(
    tester: HouseTester, by_graphql_core: list[object]
) -> None:
    subscribed = await following(tester, Documents(tester.schema, tester.house.settings))
    entry = Entry(7, 1000, "event", "light", datetime.now(UTC), None, "on", None, 60, None, None, 5, "0" * 16)
    message = EventMessage(entry.cursor, entry)

    results = [await subscribed.execute(message) for _ in range(3)]

    told = {"cursor": str(entry.cursor), "event": {"name": "light", "data": "on"}}
    assert [(result.data, result.errors) for result in results] == [({"events": told}, None)] * 3
    assert by_graphql_core == [message]


async def test_a_message_with_an_error_in_it_is_told_in_graphql_cores_words(tester: HouseTester, by_graphql_core: list[object]) -> None:
    subscribed = await following(tester, Documents(tester.schema, tester.house.settings))
    entry = Entry(7, 1000, "event", None, datetime.now(UTC), None, "on", None, 60, None, None, 5, "0" * 16)  # type: ignore[arg-type]  # a null

    results = [await subscribed.execute(EventMessage(entry.cursor, entry)) for _ in range(3)]

    for result in results:
        assert result.data == {"events": {"cursor": str(entry.cursor), "event": None}}
        assert [error.path for error in result.errors or ()] == [["events", "event", "name"]]
    assert len(by_graphql_core) == 3
